//! One connection of a bridge to its broker. Each has a client of its own: an ack can only go where its message came from, and a packet identifier
//! that the broker uses again on the next connection is never taken for the one before.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use journal::AppendError;
use metrics::{Counter, Gauge, counter, gauge};
use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, DisconnectReasonCode, Event, EventLoop, MqttOptions, Packet, Publish as Delivered, QoS,
    RetainForwardRule, StateError, SubAck, SubscribeFilter, SubscribeFilterInput, SubscribeReasonCode,
};
use schemas::{DeviceId, EventTime};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::bridge::{Bridge, RECEIVE_MAXIMUM, TopicFilter};
use crate::gateway::Shared;
use crate::passage::{Passage, now};
use crate::receipts::Waiting;
use crate::telemetry::{BRIDGE_CONNECTED, BRIDGE_DROPPED, BRIDGE_DUPLICATES, BRIDGE_MESSAGES, BRIDGE_REFUSED, BRIDGE_SESSIONS_LOST, RECEIPTS_FAILED};
use crate::turns::Pace;
use crate::view::View;
use crate::wire::Publish;

const WINDOW: usize = RECEIVE_MAXIMUM as usize;
/// Messages between the socket and the worker: a window of them, as many at QoS 0, and what is said of the connection.
const HEARD: usize = 2 * WINDOW + 2;
/// Acks on their way to the socket: of a window while the broker keeps to it, of all that is here and in the library's batch when it does not.
const REQUESTS: usize = 2 * HEARD;
/// For the receipts of what was taken.
const DRAIN: Duration = Duration::from_secs(7);
/// For the last acks and the DISCONNECT behind them.
const PARTING: Duration = Duration::from_secs(2);
/// What a packet holds beside topic and payload, more or less.
const HEADER: usize = 16;

/// Why a connection ended, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("it was told to stop")]
    Stopped,
    #[error("device `{0}` (ingest.bridge.hub) is not registered, or revoked; `vigil device add {0}` registers it")]
    Hub(DeviceId),
    #[error("the broker cannot be reached at ingest.bridge.address: {0}")]
    Unreachable(ConnectionError),
    #[error("the broker refuses the user or the password ({0:?}); correct ingest.bridge.user and ingest.bridge.password_file")]
    Password(ConnectReturnCode),
    #[error("the broker refuses the connection: {0:?}; a bridge needs MQTT 5 and a client id that the broker accepts")]
    Refused(ConnectReturnCode),
    #[error("the broker refuses the subscription ({0:?}); let this user read what ingest.bridge.topics names")]
    NotGranted(SubscribeReasonCode),
    #[error("the broker grants QoS 0 only, at which nothing can be promised; let this user subscribe at QoS 1 (mosquitto: max_qos)")]
    NoPromise,
    #[error("another connection came with the same client id; run this bridge in one process, or give it an ingest.bridge.client_id of its own")]
    TakenOver,
    /// I1: without a receipt there is no ack, only this.
    #[error("a message could not be made durable and is not acknowledged, the broker will send it again: {0}")]
    Receipt(AppendError),
    #[error("the broker breaks the protocol: {0}")]
    Protocol(&'static str),
    #[error("the connection was lost: {0}")]
    Broken(ConnectionError),
    #[error("its task ended: {0}")]
    Task(JoinError),
}

impl Lost {
    /// The reason of the metric.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Hub(_) => "hub",
            Self::Unreachable(_) => "unreachable",
            Self::Password(_) => "password",
            Self::Refused(_) => "refused",
            Self::NotGranted(_) => "not_granted",
            Self::NoPromise => "qos",
            Self::TakenOver => "taken_over",
            Self::Receipt(_) => "receipt",
            Self::Protocol(_) => "protocol",
            Self::Broken(_) => "broken",
            Self::Task(_) => "task",
        }
    }

    /// It does not pass by itself.
    pub const fn needs_somebody(&self) -> bool {
        !matches!(self, Self::Stopped | Self::Unreachable(_) | Self::Broken(_))
    }

    /// `open`: the CONNACK had come.
    fn of(error: ConnectionError, open: bool) -> Self {
        use ConnectReturnCode::{BadUserNamePassword, Banned, NotAuthorized};
        match error {
            ConnectionError::ConnectionRefused(code @ (BadUserNamePassword | Banned | NotAuthorized)) => Self::Password(code),
            ConnectionError::ConnectionRefused(code) => Self::Refused(code),
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code: DisconnectReasonCode::SessionTakenOver, .. }) => Self::TakenOver,
            // its text would show the packet
            ConnectionError::NotConnAck(_) => Self::Protocol("its first packet is no CONNACK"),
            error if open => Self::Broken(error),
            error => Self::Unreachable(error),
        }
    }
}

/// What the socket's side tells the worker, in order.
enum Heard {
    Open { session: bool, expiry: Option<u32> },
    Granted,
    Message(Box<Delivered>, EventTime),
}

/// What lasts from one connection to the next.
pub(crate) struct Link<'a> {
    bridge: &'a Bridge,
    options: MqttOptions,
    shared: Arc<Shared>,
    meters: Meters,
    /// An earlier connection had a session.
    had_session: bool,
}

struct Meters {
    connected: Gauge,
    promised: Counter,
    unpromised: Counter,
    duplicates: Counter,
    refused: Counter,
    dropped: Counter,
    sessions_lost: Counter,
}

impl Meters {
    fn new(bridge: &str) -> Self {
        let of = || bridge.to_owned();
        Self {
            connected: gauge!(BRIDGE_CONNECTED, "bridge" => of()),
            promised: counter!(BRIDGE_MESSAGES, "bridge" => of(), "qos" => "1"),
            unpromised: counter!(BRIDGE_MESSAGES, "bridge" => of(), "qos" => "0"),
            duplicates: counter!(BRIDGE_DUPLICATES, "bridge" => of()),
            refused: counter!(BRIDGE_REFUSED, "bridge" => of()),
            dropped: counter!(BRIDGE_DROPPED, "bridge" => of()),
            sessions_lost: counter!(BRIDGE_SESSIONS_LOST, "bridge" => of()),
        }
    }
}

impl<'a> Link<'a> {
    pub fn new(bridge: &'a Bridge, options: MqttOptions, shared: Arc<Shared>) -> Self {
        let meters = Meters::new(&bridge.name);
        meters.connected.set(0);
        Self { bridge, options, shared, meters, had_session: false }
    }

    fn may_speak(&self, view: &View) -> bool {
        view.access(&self.bridge.hub).is_some_and(|access| !access.revoked)
    }

    /// One connection, from connect to end.
    pub async fn run(&mut self, stop: &CancellationToken) -> Lost {
        if !self.may_speak(&self.shared.view.borrow()) {
            return Lost::Hub(self.bridge.hub.clone());
        }
        let (client, events) = AsyncClient::builder(self.options.clone()).capacity(REQUESTS).build();
        let (tell, heard) = mpsc::channel(HEARD);
        let (bridge, dropped) = (self.bridge.name.clone(), self.meters.dropped.clone());
        let socket = Socket { events, client: client.clone(), bridge, filters: self.filters(), tell, dropped };
        let mut socket = AbortOnDropHandle::new(tokio::spawn(socket.run()));
        let passage = Passage::new(self.shared.clone(), self.bridge.hub.clone(), Pace::new(WINDOW, true));
        let mut worker = Worker { link: self, client, heard, passage, next: None, open: false };
        let lost = tokio::select! {
            lost = &mut socket => lost.unwrap_or_else(Lost::Task),
            lost = worker.run(stop) => lost,
        };
        // an orderly end keeps the session: the DISCONNECT does not change how long the broker holds it
        if matches!(lost, Lost::Stopped) && worker.open && worker.client.try_disconnect_with_timeout(PARTING).is_ok() {
            match timeout(PARTING, socket).await {
                Ok(_) => {}
                Err(_) => tracing::debug!(bridge = self.bridge.name, "the broker did not take the last words in time"),
            }
        }
        self.meters.connected.set(0);
        lost
    }

    fn filters(&self) -> Vec<SubscribeFilter> {
        // a retained message is old, and would be read again with every connection
        let of =
            |filter: &TopicFilter| SubscribeFilter { retain_forward_rule: RetainForwardRule::Never, ..SubscribeFilter::new(filter.as_str(), QoS::AtLeastOnce) };
        self.bridge.topics.iter().map(of).collect()
    }
}

/// The socket's side: polls, subscribes, and hands over. It need not wait for the worker while the broker keeps to the window, so pings go on whatever
/// the journal does. A broker that does not keep to it is read no further than there is room.
struct Socket {
    events: EventLoop,
    client: AsyncClient,
    bridge: String,
    filters: Vec<SubscribeFilter>,
    tell: mpsc::Sender<Heard>,
    dropped: Counter,
}

impl Socket {
    async fn run(mut self) -> Lost {
        let (mut open, mut warned) = (false, false);
        loop {
            let event = match self.events.poll().await {
                Ok(event) => event,
                Err(error) => return Lost::of(error, open),
            };
            let heard = match event {
                Event::Incoming(Packet::ConnAck(connack)) => {
                    open = true;
                    let filters = self.filters.drain(..).map(SubscribeFilterInput::from);
                    if self.client.try_subscribe_many(filters).is_err() {
                        return Lost::Protocol("a second CONNACK");
                    }
                    let expiry = connack.properties.and_then(|properties| properties.session_expiry_interval);
                    Heard::Open { session: connack.session_present, expiry }
                }
                Event::Incoming(Packet::SubAck(suback)) => match granted(&suback) {
                    Ok(()) => Heard::Granted,
                    Err(lost) => return lost,
                },
                Event::Incoming(Packet::Publish(publish)) => {
                    // the broker bounds only what it has no ack for: what has none must leave room for the rest
                    if publish.qos == QoS::AtMostOnce && self.tell.capacity() <= WINDOW + 2 {
                        self.dropped.increment(1);
                        continue;
                    }
                    Heard::Message(Box::new(publish), now())
                }
                _ => continue,
            };
            if self.tell.capacity() == 0 && !std::mem::replace(&mut warned, true) {
                tracing::warn!(bridge = self.bridge, "the broker sends more than the bridge's Receive Maximum; mosquitto does with max_inflight_messages 0");
            }
            // the worker drains and takes nothing more: what comes now stays the broker's
            if self.tell.send(heard).await.is_err() {
                continue;
            }
        }
    }
}

fn granted(suback: &SubAck) -> Result<(), Lost> {
    for code in &suback.return_codes {
        match code {
            SubscribeReasonCode::Success(QoS::AtMostOnce) => return Err(Lost::NoPromise),
            SubscribeReasonCode::Success(_) => {}
            code => return Err(Lost::NotGranted(*code)),
        }
    }
    Ok(())
}

/// The other side: takes what is heard as there is room for it, and acknowledges.
struct Worker<'a, 'b> {
    link: &'a mut Link<'b>,
    client: AsyncClient,
    heard: mpsc::Receiver<Heard>,
    passage: Passage,
    /// Heard, and without room yet.
    next: Option<(Box<Delivered>, EventTime)>,
    open: bool,
}

impl Worker<'_, '_> {
    async fn run(&mut self, stop: &CancellationToken) -> Lost {
        let mut views = self.link.shared.view.clone();
        let mut stopping: Option<Instant> = None;
        loop {
            if let Err(lost) = self.work(stopping.is_some()) {
                return lost;
            }
            if stopping.is_some() && self.passage.is_settled() {
                return Lost::Stopped;
            }
            let takes = stopping.is_none() && self.next.is_none() && self.passage.listens();
            let Self { heard, passage, .. } = self;
            let settle = poll_fn(|context| match passage.poll_head(context) {
                Poll::Ready(head) => Poll::Ready(Some(head)),
                Poll::Pending => passage.poll_room(context).map(|()| None),
            });
            let outcome = tokio::select! {
                biased;
                head = settle => match head {
                    Some(head) => head.map_err(Lost::Receipt).and_then(|message| self.acknowledge(&message)),
                    // there is room again
                    None => Ok(()),
                },
                Ok(()) = views.changed() => match self.link.may_speak(&views.borrow_and_update()) {
                    true => Ok(()),
                    false => Err(Lost::Hub(self.link.bridge.hub.clone())),
                },
                () = stop.cancelled(), if stopping.is_none() => {
                    heard.close();
                    stopping = Some(Instant::now() + DRAIN);
                    Ok(())
                }
                () = sleep_until(stopping.unwrap_or_else(Instant::now)), if stopping.is_some() => {
                    tracing::warn!(bridge = self.link.bridge.name, "messages still wait for receipts; the broker will send them again");
                    Err(Lost::Stopped)
                }
                Some(heard) = heard.recv(), if takes => {
                    self.hear(heard);
                    Ok(())
                }
            };
            if let Err(lost) = outcome {
                if matches!(lost, Lost::Receipt(_)) {
                    counter!(RECEIPTS_FAILED).increment(1);
                }
                return lost;
            }
        }
    }

    /// Goes on with what there is room for.
    fn work(&mut self, stopping: bool) -> Result<(), Lost> {
        self.passage.renew();
        let outcome = self.messages(stopping);
        self.passage.tally();
        outcome
    }

    fn messages(&mut self, stopping: bool) -> Result<(), Lost> {
        while self.passage.is_clear() {
            if self.passage.resume() {
                continue;
            }
            if stopping {
                return Ok(());
            }
            let Some((publish, at)) = self.next.take() else { return Ok(()) };
            let size = HEADER + publish.topic.len() + publish.payload.len();
            match self.passage.room(size) {
                Some(cost) => self.message(*publish, at, size, cost)?,
                None => self.next = Some((publish, at)),
            }
        }
        Ok(())
    }

    fn message(&mut self, publish: Delivered, received_at: EventTime, size: usize, cost: usize) -> Result<(), Lost> {
        let Ok(topic) = std::str::from_utf8(&publish.topic) else { return Err(Lost::Protocol("a topic that is no UTF-8")) };
        if publish.qos != QoS::AtMostOnce && self.passage.holds(publish.pkid) {
            return Err(Lost::Protocol("a packet identifier that is still in flight"));
        }
        let meters = &self.link.meters;
        if publish.qos == QoS::AtMostOnce { &meters.unpromised } else { &meters.promised }.increment(1);
        meters.duplicates.increment(u64::from(publish.dup));
        let publish = Publish {
            dup: publish.dup,
            qos: publish.qos as u8,
            retain: publish.retain,
            packet_id: publish.pkid,
            topic,
            content_type: publish.properties.and_then(|properties| properties.content_type).unwrap_or_default(),
            payload: publish.payload,
        };
        let decided = self.passage.decide(&publish, size, received_at);
        self.passage.take(&publish, decided, cost, false);
        Ok(())
    }

    /// Of a message that [`crate::receipts::Receipts::poll_head`] let go.
    fn acknowledge(&mut self, message: &Waiting) -> Result<(), Lost> {
        self.passage.settled(u64::from(message.accepted));
        self.link.meters.refused.increment(u64::from(message.verdict.is_some()));
        let qos = match message.qos {
            0 => return Ok(()),
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        // whether it could be decoded is nothing to the broker: a message is done with when it is durable
        let acked = self.client.try_ack(&Delivered { qos, pkid: message.packet_id, ..Delivered::default() });
        match acked {
            // without the socket's side there is nobody to tell; it says why it ended
            Ok(()) | Err(ClientError::RequestChannelDisconnected(_)) => Ok(()),
            Err(_) => Err(Lost::Protocol("more acks on their way than messages were taken")),
        }
    }

    fn hear(&mut self, heard: Heard) {
        let Link { bridge, meters, had_session, .. } = &mut *self.link;
        match heard {
            Heard::Message(publish, at) => self.next = Some((publish, at)),
            Heard::Open { session, expiry } => {
                self.open = true;
                if !session && *had_session {
                    meters.sessions_lost.increment(1);
                    tracing::warn!(bridge = bridge.name, "the broker has no session of this bridge any more: what it kept meanwhile is lost to us");
                }
                if expiry.is_some_and(|seconds| u64::from(seconds) < bridge.session.as_secs()) {
                    tracing::warn!(bridge = bridge.name, seconds = expiry, "the broker keeps messages for a shorter time than ingest.bridge.session asks for");
                }
                tracing::info!(bridge = bridge.name, session, "connected to the broker");
            }
            Heard::Granted => {
                *had_session = true;
                meters.connected.set(1);
            }
        }
    }
}
