//! One device's side of the protocol, without its socket: bytes in, bytes out, and the messages between append and ack.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use schemas::{DeviceId, EventTime};
use tokio::sync::OwnedSemaphorePermit;

use crate::closed::Closed;
use crate::connection::WINDOW;
use crate::gateway::Shared;
use crate::onlooker::{Published, Sight, Watched};
use crate::passage::{Passage, now};
use crate::reply::{self, Listener};
use crate::turns::Pace;
use crate::verdict;
use crate::wire::{Frame, Publish, Version, frame, kind};

/// Bytes that the device has not taken, before nothing more is said or read.
const UNTAKEN: usize = 64 << 10;
/// A packet that is larger must have room before more of it is read than this.
const SMALL: usize = 16 << 10;
/// A buffer larger than this is not kept while there is nothing in it.
const KEEP: usize = 2 << 10;

pub(crate) struct Conversation {
    pub passage: Passage,
    pub listener: Listener,
    pub input: BytesMut,
    pub output: BytesMut,
    pub subscribed: bool,
    /// Packets taken from `input`.
    pub taken: u64,
    half: Half,
    /// When the newest byte of `input` was read.
    read_at: EventTime,
    watched: Option<Box<Watched>>,
}

/// Room for the rest of a large packet whose beginning is here.
enum Half {
    Unasked,
    Waiting(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    Held(#[expect(dead_code, reason = "it gives back its room when it is dropped")] Option<OwnedSemaphorePermit>),
}

impl Conversation {
    /// `input`: what came after the CONNECT already.
    pub fn new(shared: Arc<Shared>, device: DeviceId, listener: Listener, input: BytesMut, watched: Option<Box<Watched>>) -> Self {
        let passage = Passage::new(shared, device, Pace::new(WINDOW, false));
        Self { passage, listener, input, output: BytesMut::new(), subscribed: false, taken: 0, half: Half::Unasked, read_at: now(), watched }
    }

    /// To whoever looks on.
    pub fn tell<'a>(&'a self, sight: impl FnOnce() -> Sight<'a>) {
        if let Some(watched) = &self.watched {
            watched.see(sight());
        }
    }

    /// New bytes are in `input`.
    pub fn heard(&mut self) {
        self.read_at = now();
    }

    /// Whether the socket may be read: there is room for what comes.
    pub fn listens(&self) -> bool {
        self.output.len() < UNTAKEN && self.passage.listens() && !matches!(self.half, Half::Waiting(_))
    }

    /// A packet has begun, and it is for the device to go on with it.
    pub fn is_halfway(&self) -> bool {
        !self.input.is_empty() && self.passage.is_clear() && self.listens()
    }

    /// Everything that was read has its ack.
    pub fn is_settled(&self) -> bool {
        self.passage.is_settled() && self.output.is_empty()
    }

    /// Takes the packets in `input`, as far as there is room.
    pub fn work(&mut self) -> Result<(), Closed> {
        self.passage.renew();
        let outcome = self.packets();
        self.passage.tally();
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::new();
        }
        outcome
    }

    fn packets(&mut self) -> Result<(), Closed> {
        while self.passage.is_clear() {
            if self.passage.resume() {
                continue;
            }
            let (header, total) = match frame(&self.input, self.passage.shared.max_packet) {
                Frame::Whole { header, total } => (header, total),
                Frame::Partial => return Ok(()),
                Frame::Begun { total } => {
                    self.begun(total);
                    return Ok(());
                }
                Frame::Malformed => return Err(Closed::malformed("a packet whose length takes more than four bytes")),
                Frame::TooLarge => {
                    let detail = "a packet larger than the server's Maximum Packet Size";
                    return Err(Closed::Protocol { code: DisconnectReasonCode::PacketTooLarge, detail });
                }
            };
            if self.input[0] >> 4 == kind::PUBLISH {
                let Some(cost) = self.room(total)? else { return Ok(()) };
                let packet = self.next(total);
                self.publish(&packet, header, cost)?;
            } else {
                let packet = self.next(total);
                self.packet(&packet, header)?;
            }
        }
        Ok(())
    }

    /// Asks for the room of a large packet at the head of `input`, if it has none.
    fn begun(&mut self, total: usize) {
        if total > SMALL && matches!(self.half, Half::Unasked) {
            let halves = &self.passage.shared.halves;
            self.half = Half::Waiting(Box::pin(halves.take(halves.cost(total))));
        }
    }

    fn next(&mut self, total: usize) -> Bytes {
        self.taken += 1;
        self.half = Half::Unasked;
        self.input.split_to(total).freeze()
    }

    /// Room for the PUBLISH at the head of `input`. `None`: it must wait.
    fn room(&mut self, total: usize) -> Result<Option<usize>, Closed> {
        let acked = self.input[0] & 0b110 != 0;
        if acked && self.passage.in_flight() >= WINDOW {
            if self.listener.version == Version::V5 {
                let detail = "more messages in flight than the server's Receive Maximum";
                return Err(Closed::Protocol { code: DisconnectReasonCode::ReceiveMaximumExceeded, detail });
            }
            self.passage.wait_for_acks();
            return Ok(None);
        }
        Ok(self.passage.room(total))
    }

    fn publish(&mut self, packet: &Bytes, header: usize, cost: usize) -> Result<(), Closed> {
        let publish = Publish::parse(packet, header, self.listener.version)?;
        let refuse = |code, detail| Err(Closed::Protocol { code, detail });
        match (self.listener.version, publish.retain, publish.qos) {
            (Version::V5, true, _) => return refuse(DisconnectReasonCode::RetainNotSupported, "a retained message, though Retain Available is 0"),
            (Version::V5, _, 2) => return refuse(DisconnectReasonCode::QosNotSupported, "a message at QoS 2, though Maximum QoS is 1"),
            _ => {}
        }
        if publish.qos > 0 && !publish.dup && self.passage.holds(publish.packet_id) {
            // its ack could be taken for the other message's
            return Err(Closed::protocol("a packet identifier that is still in flight"));
        }
        let decided = self.passage.decide(&publish, packet.len(), self.read_at);
        if decided.is_empty() {
            return Err(Closed::malformed("a message without any entry"));
        }
        self.tell(|| {
            let Publish { qos, dup, topic, content_type, payload, .. } = &publish;
            Sight::Published(Published { qos: *qos, dup: *dup, topic, content_type, payload, received_at: self.read_at, decided: &decided })
        });
        self.passage.take(&publish, decided, cost, self.subscribed);
        Ok(())
    }

    /// Writes the acks that may leave into `output`. True when there were any.
    pub fn poll_settle(&mut self, context: &mut Context<'_>) -> Result<bool, Closed> {
        let (mut settled, mut accepted) = (false, 0);
        while self.output.len() < UNTAKEN
            && let Poll::Ready(head) = self.passage.poll_head(context)
        {
            let message = head.map_err(Closed::Receipt)?;
            accepted += u64::from(message.accepted);
            if let Some(verdict) = message.verdict.as_deref()
                && self.subscribed
            {
                let json = verdict.json(now(), message.packet_id, message.accepted);
                reply::publish(&mut self.output, self.listener, &verdict::topic(&self.passage.device), &json);
            }
            reply::ack(&mut self.output, self.listener, &message);
            if message.qos > 0 {
                self.tell(|| Sight::Acknowledged);
            }
            settled = true;
        }
        if settled {
            self.passage.settled(accepted);
        }
        Ok(settled)
    }

    /// Ready when what blocked the next packet is out of the way.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Half::Waiting(room) = &mut self.half
            && let Poll::Ready(room) = room.as_mut().poll(context)
        {
            self.half = Half::Held(room);
            return Poll::Ready(());
        }
        self.passage.poll_room(context)
    }

    /// A new subscriber learns the time.
    pub fn greet(&mut self) {
        self.subscribed = true;
        self.tell(|| Sight::Subscribed);
        reply::publish(&mut self.output, self.listener, &verdict::topic(&self.passage.device), &verdict::greeting(now()));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use journal::memory::MemoryJournal;

    use super::*;
    use crate::fuzz::Checker;

    const LARGE: usize = 100 << 10;

    struct Devices(Arc<Shared>);

    impl Devices {
        fn connect(&self) -> Conversation {
            let listener = Listener { version: Version::V3, problems: false, max_packet: usize::MAX };
            Conversation::new(self.0.clone(), DeviceId::parse("ox").unwrap(), listener, BytesMut::new(), None)
        }
    }

    /// A PUBLISH at QoS 1 of so many bytes in all.
    fn publish(total: usize) -> Vec<u8> {
        let length = total - 4;
        let mut packet = vec![0x32, (length & 0x7f) as u8 | 0x80, (length >> 7 & 0x7f) as u8 | 0x80, (length >> 14) as u8, 0, 1, b'a', 0, 1];
        packet.resize(total, b'x');
        packet
    }

    fn hear(conversation: &mut Conversation, bytes: &[u8]) -> bool {
        conversation.input.extend_from_slice(bytes);
        conversation.work().unwrap();
        conversation.poll_room(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn half_packets_have_a_part_of_the_budget_and_take_nothing_from_others() {
        // room for one packet that is half here, and not for two
        let shared = Checker::new().unwrap().shared(&MemoryJournal::new(1), 256 << 10, 6 * LARGE);
        let devices = Devices(Arc::new(shared));
        let free = devices.0.halves.free();
        let (mut first, mut second, mut third) = (devices.connect(), devices.connect(), devices.connect());
        let packet = publish(LARGE);
        assert!(hear(&mut first, &packet[..SMALL]) && first.is_halfway(), "there is room");
        assert!(!hear(&mut second, &packet[..SMALL]) && !second.listens(), "it is not read on");
        assert!(!second.is_halfway(), "and not hurried either: it is not the device that is waited for");
        // one that is small has a place even now
        hear(&mut third, &publish(SMALL)[..SMALL - 1]);
        assert!(third.is_halfway());
        hear(&mut third, b"x");
        assert_eq!(third.passage.in_flight(), 1);
        // when the first is whole, the second is read on
        hear(&mut first, &packet[SMALL..]);
        assert_eq!((first.passage.in_flight(), first.input.len()), (1, 0));
        assert!(hear(&mut second, b"") && second.is_halfway());
        drop(second);
        assert_eq!(devices.0.halves.free(), free, "all of it came back");
    }
}
