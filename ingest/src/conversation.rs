//! One device's side of the protocol, without its socket: bytes in, bytes out, and the messages between append and ack.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use intake::{Decided, DeviceClock, Message};
use journal::{Full, Receipt, Topic};
use metrics::counter;
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use schemas::{DeviceId, EventTime, partition_of};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::clocks::Clock;
use crate::closed::Closed;
use crate::connection::WINDOW;
use crate::gateway::Shared;
use crate::receipts::{Receipts, Waiting};
use crate::reply::{self, Listener};
use crate::telemetry::{BUDGET_WAITS, DEAD_LETTERS};
use crate::verdict;
use crate::view::View;
use crate::wire::{Frame, Publish, Version, frame, kind};

/// Messages, those at QoS 0 among them, that may wait for their receipts before more is read.
const WAITING: usize = 256;
/// Bytes that the device has not taken, before nothing more is said or read.
const UNTAKEN: usize = 64 << 10;
/// Between two attempts at a record for which the journal's room does not suffice yet.
const IN_VAIN: Duration = Duration::from_millis(5);
/// A buffer larger than this is not kept while there is nothing in it.
const KEEP: usize = 2 << 10;

pub(crate) struct Conversation {
    pub shared: Arc<Shared>,
    pub device: DeviceId,
    pub listener: Listener,
    pub input: BytesMut,
    pub output: BytesMut,
    pub subscribed: bool,
    /// When the newest byte of `input` was read.
    read_at: EventTime,
    receipts: Receipts,
    blocked: Blocked,
    /// Room in the budget is taken for the next message already.
    paid: Option<usize>,
    stalled: Option<Box<Stalled>>,
    views: watch::Receiver<Arc<View>>,
    view: Arc<View>,
    named: Option<Named>,
    publishes: u64,
    bytes: u64,
}

/// Why the next packet must wait.
enum Blocked {
    No,
    /// For acks to leave.
    Window,
    Budget(usize, Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    Journal(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// A message of which the journal had no room for all records.
struct Stalled {
    rest: std::vec::IntoIter<Decided>,
    message: Waiting,
    /// The journal said that there is room, and there was not enough of it for the next record.
    in_vain: bool,
}

/// The topic of the last message, and the clock of the device that it names.
struct Named {
    topic: Box<str>,
    clock: Clock,
}

fn now() -> EventTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    EventTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Conversation {
    /// `input`: what came after the CONNECT already.
    pub fn new(shared: Arc<Shared>, device: DeviceId, listener: Listener, input: BytesMut) -> Self {
        let mut views = shared.view.clone();
        let view = views.borrow_and_update().clone();
        Self {
            device,
            listener,
            input,
            output: BytesMut::new(),
            subscribed: false,
            read_at: now(),
            receipts: Receipts::new(shared.budget.clone()),
            blocked: Blocked::No,
            paid: None,
            stalled: None,
            views,
            view,
            named: None,
            publishes: 0,
            bytes: 0,
            shared,
        }
    }

    /// New bytes are in `input`.
    pub fn heard(&mut self) {
        self.read_at = now();
    }

    /// Whether the socket may be read: there is room for what comes.
    pub fn listens(&self) -> bool {
        matches!(self.blocked, Blocked::No) && self.output.len() < UNTAKEN && self.receipts.len() < WAITING
    }

    /// Everything that was read has its ack.
    pub fn is_settled(&self) -> bool {
        matches!(self.blocked, Blocked::No) && self.stalled.is_none() && self.receipts.is_empty() && self.output.is_empty()
    }

    /// Takes the packets in `input`, as far as there is room.
    pub fn work(&mut self) -> Result<(), Closed> {
        if self.views.has_changed().is_ok_and(|changed| changed) {
            self.view = self.views.borrow_and_update().clone();
        }
        let outcome = self.packets();
        if self.publishes > 0 {
            self.shared.meters.publishes.increment(std::mem::take(&mut self.publishes));
            self.shared.meters.bytes.increment(std::mem::take(&mut self.bytes));
        }
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::new();
        }
        outcome
    }

    fn packets(&mut self) -> Result<(), Closed> {
        while matches!(self.blocked, Blocked::No) {
            if let Some(stalled) = self.stalled.take() {
                self.append(*stalled);
                continue;
            }
            let (header, total) = match frame(&self.input, self.shared.max_packet) {
                Frame::Whole { header, total } => (header, total),
                Frame::Partial => return Ok(()),
                Frame::Malformed => return Err(Closed::malformed("a packet whose length takes more than four bytes")),
                Frame::TooLarge => {
                    let detail = "a packet larger than the server's Maximum Packet Size";
                    return Err(Closed::Protocol { code: DisconnectReasonCode::PacketTooLarge, detail });
                }
            };
            if self.input[0] >> 4 == kind::PUBLISH {
                let Some(cost) = self.room(total)? else { return Ok(()) };
                let packet = self.input.split_to(total).freeze();
                self.publish(&packet, header, cost)?;
            } else {
                let packet = self.input.split_to(total).freeze();
                self.packet(&packet, header)?;
            }
        }
        Ok(())
    }

    /// Room for the PUBLISH at the head of `input`, taken from the window and the budget. `None`: it must wait.
    fn room(&mut self, total: usize) -> Result<Option<usize>, Closed> {
        let acked = self.input[0] & 0b110 != 0;
        if acked && self.receipts.in_flight() >= WINDOW {
            if self.listener.version == Version::V5 {
                let detail = "more messages in flight than the server's Receive Maximum";
                return Err(Closed::Protocol { code: DisconnectReasonCode::ReceiveMaximumExceeded, detail });
            }
            self.blocked = Blocked::Window;
            return Ok(None);
        }
        if self.receipts.len() >= WAITING {
            self.blocked = Blocked::Window;
            return Ok(None);
        }
        if let Some(cost) = self.paid.take() {
            return Ok(Some(cost));
        }
        let cost = self.shared.budget.cost(total);
        if !self.shared.budget.try_take(cost) {
            counter!(BUDGET_WAITS, "for" => "budget").increment(1);
            self.blocked = Blocked::Budget(cost, Box::pin(self.shared.budget.take(cost)));
            return Ok(None);
        }
        self.receipts.took(cost);
        Ok(Some(cost))
    }

    fn publish(&mut self, packet: &Bytes, header: usize, cost: usize) -> Result<(), Closed> {
        let publish = Publish::parse(packet, header, self.listener.version)?;
        let refuse = |code, detail| Err(Closed::Protocol { code, detail });
        match (self.listener.version, publish.retain, publish.qos) {
            (Version::V5, true, _) => return refuse(DisconnectReasonCode::RetainNotSupported, "a retained message, though Retain Available is 0"),
            (Version::V5, _, 2) => return refuse(DisconnectReasonCode::QosNotSupported, "a message at QoS 2, though Maximum QoS is 1"),
            _ => {}
        }
        if publish.qos > 0 && !publish.dup && self.receipts.holds(publish.packet_id) {
            // its ack could be taken for the other message's
            return Err(Closed::protocol("a packet identifier that is still in flight"));
        }
        self.publishes += 1;
        self.bytes += packet.len() as u64;
        let decided = self.decide(&publish);
        if decided.is_empty() {
            return Err(Closed::malformed("a message without any entry"));
        }
        let message = Waiting { packet_id: publish.packet_id, qos: publish.qos, receipts: 0, accepted: 0, cost, verdict: None };
        self.append(Stalled { rest: decided.into_iter(), message, in_vain: false });
        Ok(())
    }

    fn decide(&mut self, publish: &Publish<'_>) -> Vec<Decided> {
        let clock = self.clock(publish.topic);
        let message = Message {
            connection: &self.device,
            topic: publish.topic,
            payload: &publish.payload,
            content_type: &publish.content_type,
            dup: publish.dup,
            received_at: self.read_at,
        };
        match clock {
            Some(clock) => intake::decode(&message, &self.view.registry, &self.shared.mappings, &mut clock.lock().unwrap_or_else(PoisonError::into_inner)),
            None => intake::decode(&message, &self.view.registry, &self.shared.mappings, &mut DeviceClock::default()),
        }
    }

    /// The clock of the device that the topic names, if this connection may speak for it.
    fn clock(&mut self, topic: &str) -> Option<Clock> {
        if let Some(named) = &self.named
            && *named.topic == *topic
        {
            return Some(named.clock.clone());
        }
        let device = intake::device_of(topic, &self.device, &self.shared.mappings)?;
        let known = self.view.registry.device(&device)?;
        if !self.view.registry.may_speak_for(&self.device, known) {
            return None;
        }
        let clock = self.shared.clocks.of(&device);
        self.named = Some(Named { topic: topic.into(), clock: clock.clone() });
        Some(clock)
    }

    /// Appends what is left of a message; its place in the FIFO comes with its last record.
    fn append(&mut self, mut stalled: Stalled) {
        while let Some(decided) = stalled.rest.as_slice().first() {
            let Ok(receipt) = self.append_one(decided) else {
                counter!(BUDGET_WAITS, "for" => "journal").increment(1);
                let journal = self.shared.journal.clone();
                let pause = std::mem::replace(&mut stalled.in_vain, true);
                self.blocked = Blocked::Journal(Box::pin(async move {
                    if pause {
                        tokio::time::sleep(IN_VAIN).await;
                    }
                    journal.ready().await;
                }));
                self.stalled = Some(Box::new(stalled));
                return;
            };
            stalled.in_vain = false;
            self.receipts.expect(receipt);
            stalled.message.receipts += 1;
            match stalled.rest.next() {
                Some(Decided::Dead(dead)) => {
                    counter!(DEAD_LETTERS, "reason" => dead.reason.as_str()).increment(1);
                    stalled.message.verdict.get_or_insert_default().add(dead, self.subscribed);
                }
                Some(Decided::Input(..)) => stalled.message.accepted += 1,
                None => {}
            }
        }
        self.receipts.push(stalled.message);
    }

    fn append_one(&self, decided: &Decided) -> Result<Receipt, Full> {
        let Shared { journal, partitions, .. } = &*self.shared;
        match decided {
            Decided::Input(patient, input) => journal.append(Topic::Inputs, partition_of(patient.as_bytes(), *partitions), patient.as_bytes(), input.encode()),
            Decided::Dead(dead) => {
                let key = dead.device.as_bytes();
                journal.append(Topic::DeadLetters, partition_of(key, *partitions), key, dead.encode())
            }
        }
    }

    /// Writes the acks that may leave into `output`. True when there were any.
    pub fn poll_settle(&mut self, context: &mut Context<'_>) -> Result<bool, Closed> {
        let (mut settled, mut accepted) = (false, 0);
        while self.output.len() < UNTAKEN
            && let Poll::Ready(head) = self.receipts.poll_head(context)
        {
            let message = head.map_err(Closed::Receipt)?;
            accepted += u64::from(message.accepted);
            if let Some(verdict) = message.verdict.as_deref()
                && self.subscribed
            {
                let json = verdict.json(now(), message.packet_id, message.accepted);
                reply::publish(&mut self.output, self.listener, &verdict::topic(&self.device), &json);
            }
            reply::ack(&mut self.output, self.listener, &message);
            settled = true;
        }
        if settled {
            self.shared.meters.accepted.increment(accepted);
            if matches!(self.blocked, Blocked::Window) {
                self.blocked = Blocked::No;
            }
        }
        Ok(settled)
    }

    /// Ready when what blocked the next packet is out of the way.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.blocked {
            Blocked::No | Blocked::Window => return Poll::Pending,
            Blocked::Budget(cost, room) => {
                let Poll::Ready(permit) = room.as_mut().poll(context) else { return Poll::Pending };
                if let Some(permit) = permit {
                    permit.forget();
                    self.receipts.took(*cost);
                    self.paid = Some(*cost);
                }
            }
            Blocked::Journal(room) => {
                if room.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        }
        self.blocked = Blocked::No;
        Poll::Ready(())
    }

    /// A new subscriber learns the time.
    pub fn greet(&mut self) {
        self.subscribed = true;
        reply::publish(&mut self.output, self.listener, &verdict::topic(&self.device), &verdict::greeting(now()));
    }
}
