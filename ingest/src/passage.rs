//! From a PUBLISH to its ack: decode, append, receipts, and the room that they take. A device's connection has one, and so has a bridge's.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use intake::{Decided, DeviceClock, Message};
use journal::{AppendError, Full, Receipt, Topic};
use metrics::counter;
use schemas::{DeviceId, EventTime, partition_of};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::clocks::Clock;
use crate::gateway::Shared;
use crate::receipts::{Receipts, Waiting};
use crate::telemetry::{BUDGET_WAITS, DEAD_LETTERS};
use crate::turns::{Go, Pace};
use crate::view::View;
use crate::wire::Publish;

/// Messages, those at QoS 0 among them, that may wait for their receipts before more is taken.
const WAITING: usize = 256;
/// Between two attempts at a record for which the journal's room does not suffice yet.
const IN_VAIN: Duration = Duration::from_millis(5);

pub(crate) struct Passage {
    pub shared: Arc<Shared>,
    /// Whose connection it is.
    pub device: DeviceId,
    receipts: Receipts,
    blocked: Blocked,
    pace: Pace,
    /// Room in the budget is taken for the next message already.
    paid: Option<usize>,
    stalled: Option<Box<Stalled>>,
    views: watch::Receiver<Arc<View>>,
    view: Arc<View>,
    named: Option<Named>,
    publishes: u64,
    bytes: u64,
}

/// Why the next message must wait.
enum Blocked {
    No,
    /// For acks to leave.
    Window,
    Turn(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    Budget(usize, Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    Journal(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// A message of which the journal had no room for all records.
struct Stalled {
    rest: std::vec::IntoIter<Decided>,
    message: Waiting,
    /// Whoever sent it hears more than its first refusal.
    listed: bool,
    /// The journal said that there is room, and there was not enough of it for the next record.
    in_vain: bool,
}

/// The topic of the last message, and the clock of the device that it names.
struct Named {
    topic: Box<str>,
    clock: Clock,
}

pub(crate) fn now() -> EventTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    EventTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Passage {
    pub fn new(shared: Arc<Shared>, device: DeviceId, pace: Pace) -> Self {
        let mut views = shared.view.clone();
        let view = views.borrow_and_update().clone();
        Self {
            device,
            receipts: Receipts::new(shared.budget.clone()),
            blocked: Blocked::No,
            pace,
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

    /// Takes up the newest registry.
    pub fn renew(&mut self) {
        if self.views.has_changed().is_ok_and(|changed| changed) {
            self.view = self.views.borrow_and_update().clone();
        }
    }

    /// Nothing blocks the next message.
    pub fn is_clear(&self) -> bool {
        matches!(self.blocked, Blocked::No)
    }

    /// There is room for what comes.
    pub fn listens(&self) -> bool {
        self.is_clear() && self.receipts.len() < WAITING
    }

    /// Every message that was taken has its receipts.
    pub fn is_settled(&self) -> bool {
        self.is_clear() && self.stalled.is_none() && self.receipts.is_empty()
    }

    /// Messages with a packet identifier that have no ack yet.
    pub fn in_flight(&self) -> usize {
        self.receipts.in_flight()
    }

    pub fn holds(&self, packet_id: u16) -> bool {
        self.receipts.holds(packet_id)
    }

    /// Nothing more until acks have left.
    pub fn wait_for_acks(&mut self) {
        self.blocked = Blocked::Window;
    }

    /// Room for a PUBLISH of so many bytes, taken from the window, its turn and the budget. `None`: it must wait.
    pub fn room(&mut self, total: usize) -> Option<usize> {
        if self.receipts.len() >= WAITING {
            self.blocked = Blocked::Window;
            return None;
        }
        if let Some(cost) = self.paid.take() {
            return Some(cost);
        }
        match self.pace.may(total, &self.shared.turns, Instant::now()) {
            Go::Now => {}
            Go::Spent => {
                self.blocked = Blocked::Window;
                return None;
            }
            Go::Wait => {
                counter!(BUDGET_WAITS, "for" => "turn").increment(1);
                self.blocked = Blocked::Turn(Box::pin(self.shared.turns.next()));
                return None;
            }
        }
        let cost = self.shared.budget.cost(total);
        if !self.shared.budget.try_take(cost) {
            counter!(BUDGET_WAITS, "for" => "budget").increment(1);
            self.blocked = Blocked::Budget(cost, Box::pin(self.shared.budget.take(cost)));
            return None;
        }
        self.receipts.took(cost);
        Some(cost)
    }

    /// What becomes of a message of `size` bytes.
    pub fn decide(&mut self, publish: &Publish<'_>, size: usize, received_at: EventTime) -> Vec<Decided> {
        self.publishes += 1;
        self.bytes += size as u64;
        let clock = self.clock(publish.topic);
        let message = Message {
            connection: &self.device,
            topic: publish.topic,
            payload: &publish.payload,
            content_type: &publish.content_type,
            dup: publish.dup,
            received_at,
        };
        let decided = match clock {
            Some(clock) => intake::decode(&message, &self.view.registry, &self.shared.mappings, &mut clock.lock().unwrap_or_else(PoisonError::into_inner)),
            None => intake::decode(&message, &self.view.registry, &self.shared.mappings, &mut DeviceClock::default()),
        };
        self.pace.saw(&decided, received_at);
        decided
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

    /// Appends what was decided of a message, for which [`Self::room`] gave `cost`.
    pub fn take(&mut self, publish: &Publish<'_>, decided: Vec<Decided>, cost: usize, listed: bool) {
        let message = Waiting { packet_id: publish.packet_id, qos: publish.qos, receipts: 0, accepted: 0, cost, verdict: None };
        self.append(Stalled { rest: decided.into_iter(), message, listed, in_vain: false });
    }

    /// Goes on with a message for which the journal had no room. False: there is none.
    pub fn resume(&mut self) -> bool {
        match self.stalled.take() {
            Some(stalled) => {
                self.append(*stalled);
                true
            }
            None => false,
        }
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
                    stalled.message.verdict.get_or_insert_default().add(dead, stalled.listed);
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

    /// The next message whose ack may leave.
    pub fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Waiting, AppendError>> {
        self.receipts.poll_head(context)
    }

    /// Acks left, of messages with so many accepted entries.
    pub fn settled(&mut self, accepted: u64) {
        self.shared.meters.accepted.increment(accepted);
        if self.receipts.is_empty() && self.stalled.is_none() {
            self.pace.settled();
        }
        if matches!(self.blocked, Blocked::Window) {
            self.blocked = Blocked::No;
        }
    }

    /// Ready when what blocked the next message is out of the way.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.blocked {
            Blocked::No | Blocked::Window => return Poll::Pending,
            Blocked::Turn(turn) => {
                let Poll::Ready(permit) = turn.as_mut().poll(context) else { return Poll::Pending };
                self.pace.take(permit);
            }
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

    /// Counts what was taken since the last time.
    pub fn tally(&mut self) {
        if self.publishes > 0 {
            self.shared.meters.publishes.increment(std::mem::take(&mut self.publishes));
            self.shared.meters.bytes.increment(std::mem::take(&mut self.bytes));
        }
    }
}
