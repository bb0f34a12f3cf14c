//! Turns: what is sent in bulk waits for its turn, what was measured just now does not. A fleet that comes back with a day of readings is taken a
//! few devices at a time, round and round, so that it stands neither in the journal's queue nor at the processor's door before somebody else's
//! live reading. While nobody sends anything live, bulk need not wait either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use intake::Decided;
use schemas::{EventTime, Input, Micros};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns that are taken at the same time. With more the journal's commits grow, and what is live waits for them; with these a thousand devices that
/// upload leave it nearly where it is alone (`benches/backlog.rs`), and go through as fast as two thirds of what is possible.
const TURNS: usize = 4;
/// A turn ends after so many bytes, whatever they are.
const BYTES: usize = 64 << 10;
/// A message whose newest reading is older is of a backlog.
const LIVE: Micros = Micros::minutes(5);
/// A connection may send so many messages at once, however new they are, and go on at one each [`BETWEEN`]; what is beyond is bulk too.
const BURST: u32 = 512;
const BETWEEN: Duration = Duration::from_millis(4);
/// So long after the last live message turns are not needed.
const QUIET: Duration = Duration::from_secs(2);

/// The turns of all connections; whoever waited longest is next.
pub(crate) struct Turns {
    free: Arc<Semaphore>,
    began: Instant,
    /// Milliseconds from `began` to the last live message.
    live: AtomicU64,
}

impl Turns {
    pub fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(TURNS)), began: Instant::now(), live: AtomicU64::new(0) }
    }

    /// A turn, when it comes.
    pub fn next(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + 'static {
        let free = self.free.clone();
        // an error would mean that the semaphore was closed, which nobody does
        async move { free.acquire_owned().await.ok() }
    }

    fn since_began(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn heard_live(&self, now: Instant) {
        let at = self.since_began(now);
        // most messages find their millisecond there already
        if self.live.load(Ordering::Relaxed) < at {
            self.live.fetch_max(at, Ordering::Relaxed);
        }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.since_began(now).saturating_sub(self.live.load(Ordering::Relaxed)) > QUIET.as_millis() as u64
    }
}

struct Turn {
    /// `None`: nobody is there who could be held up.
    _permit: Option<OwnedSemaphorePermit>,
    messages: usize,
    bytes: usize,
}

/// What [`Pace::may`] answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Go {
    Now,
    /// Its turn ends when what it sent has its acks.
    Spent,
    /// All turns are taken.
    Wait,
}

/// Whether a connection needs a turn, and the turn that it has.
pub(crate) struct Pace {
    /// Messages of one turn.
    quantum: usize,
    /// It carries everybody's messages, like a bridge: not how many they are makes them bulk, only how old.
    shared: bool,
    /// The last message was of a backlog.
    behind: bool,
    /// It sent more than is allowed, and has not been calm since.
    flooding: bool,
    /// When it is calm.
    calm_at: Instant,
    turn: Option<Turn>,
}

impl Pace {
    pub fn new(quantum: usize, shared: bool) -> Self {
        Self { quantum, shared, behind: false, flooding: false, calm_at: Instant::now(), turn: None }
    }

    /// Whether a message of so many bytes may be taken.
    pub fn may(&mut self, bytes: usize, turns: &Turns, now: Instant) -> Go {
        self.count(now);
        if self.turn.is_none() {
            if !self.behind && !self.flooding {
                turns.heard_live(now);
                return Go::Now;
            }
            match turns.free.clone().try_acquire_owned() {
                Ok(permit) => self.take(Some(permit)),
                Err(_) if turns.is_quiet(now) => self.take(None),
                Err(_) => return Go::Wait,
            }
        }
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.messages > 0 && turn.bytes > 0) else { return Go::Spent };
        turn.messages -= 1;
        turn.bytes = turn.bytes.saturating_sub(bytes);
        Go::Now
    }

    fn count(&mut self, now: Instant) {
        if self.shared {
            return;
        }
        if self.calm_at <= now {
            self.flooding = false;
            self.calm_at = now;
        }
        let most = now + BETWEEN * BURST;
        self.calm_at += BETWEEN;
        if self.calm_at > most {
            self.flooding = true;
            self.calm_at = most;
        }
    }

    /// A turn that was waited for.
    pub fn take(&mut self, permit: Option<OwnedSemaphorePermit>) {
        self.turn = Some(Turn { _permit: permit, messages: self.quantum, bytes: BYTES });
    }

    /// What was decided of a message that came at `received_at`.
    pub fn saw(&mut self, decided: &[Decided], received_at: EventTime) {
        let newest = decided.iter().filter_map(|decided| match decided {
            Decided::Input(_, Input::Reading(reading)) => Some(reading.at),
            Decided::Input(..) | Decided::Dead(_) => None,
        });
        if let Some(newest) = newest.max() {
            self.behind = received_at - newest > LIVE;
        }
    }

    /// Everything that was sent has its ack.
    pub fn settled(&mut self) {
        self.turn = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(behind: bool) -> Pace {
        Pace { behind, ..Pace::new(32, false) }
    }

    /// What is answered to so many messages at once.
    fn go(pace: &mut Pace, turns: &Turns, now: Instant, messages: usize) -> Vec<Go> {
        (0..messages).map(|_| pace.may(100, turns, now)).collect()
    }

    #[test]
    fn a_backlog_takes_turns_and_what_is_live_takes_none() {
        let (turns, now) = (Turns::new(), Instant::now());
        let mut live = device(false);
        assert_eq!(live.may(100, &turns, now), Go::Now);
        let mut fleet: Vec<_> = (0..=TURNS).map(|_| device(true)).collect();
        for pace in &mut fleet[..TURNS] {
            assert!(go(pace, &turns, now, 32).iter().all(|go| *go == Go::Now));
            assert_eq!(pace.may(100, &turns, now), Go::Spent);
        }
        assert_eq!(fleet[TURNS].may(100, &turns, now), Go::Wait);
        assert_eq!(live.may(100, &turns, now), Go::Now);
        fleet[3].settled();
        assert_eq!(fleet[TURNS].may(100, &turns, now), Go::Now);
        assert_eq!(fleet[3].may(100, &turns, now), Go::Wait, "it had its turn, and now it is another's");
    }

    #[tokio::test]
    async fn who_waits_is_next() {
        let (turns, now) = (Turns::new(), Instant::now());
        let mut fleet: Vec<_> = (0..TURNS).map(|_| device(true)).collect();
        for pace in &mut fleet {
            assert_eq!(pace.may(100, &turns, now), Go::Now);
        }
        let mut waiting = std::pin::pin!(turns.next());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        fleet[0].settled();
        assert_eq!(fleet[0].may(100, &turns, now), Go::Wait, "somebody waited");
        let mut next = device(true);
        next.take(waiting.await);
        assert_eq!(go(&mut next, &turns, now, 33)[31..], [Go::Now, Go::Spent]);
    }

    #[test]
    fn large_messages_make_a_turn_short() {
        let (turns, now) = (Turns::new(), Instant::now());
        let mut pace = device(true);
        assert_eq!(pace.may(BYTES / 2, &turns, now), Go::Now);
        assert_eq!(pace.may(BYTES, &turns, now), Go::Now, "one message passes, however large");
        assert_eq!(pace.may(1, &turns, now), Go::Spent);
    }

    #[test]
    fn a_flood_is_bulk_until_it_is_calm_and_a_bridge_is_none() {
        let (turns, now) = (Turns::new(), Instant::now());
        let _taken = turns.free.clone().try_acquire_many_owned(TURNS as u32).unwrap();
        let mut device = Pace { calm_at: now, ..device(false) };
        let answers = go(&mut device, &turns, now, BURST as usize + 2);
        assert_eq!(answers.iter().filter(|go| **go == Go::Now).count(), BURST as usize);
        assert_eq!(device.may(100, &turns, now + Duration::from_secs(1)), Go::Wait, "not calm yet");
        assert_eq!(device.may(100, &turns, now + Duration::from_secs(4)), Go::Now);
        let mut bridge = Pace::new(256, true);
        assert!(go(&mut bridge, &turns, now, 10_000).iter().all(|go| *go == Go::Now));
    }

    #[test]
    fn while_nobody_is_live_bulk_does_not_wait() {
        let (turns, now) = (Turns::new(), Instant::now());
        let mut fleet: Vec<_> = (0..2 * TURNS).map(|_| device(true)).collect();
        let later = now + Duration::from_secs(10);
        assert!(fleet.iter_mut().all(|pace| pace.may(100, &turns, later) == Go::Now));
        assert_eq!(device(false).may(100, &turns, later), Go::Now);
        assert_eq!(device(true).may(100, &turns, later), Go::Wait);
    }
}
