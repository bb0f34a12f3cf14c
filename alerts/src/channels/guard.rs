//! What stands before every channel: how many messages a minute it takes, and whether it is broken. A value, driven by the times it is told.
//!
//! A message that is held is no attempt: it waits, or goes on to the person's next channel.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which a channel is broken.
const BREAKS_AFTER: u32 = 5;
/// A broken channel is tried with one message after this, and after twice as long each time it fails again, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(60);
/// Nobody may send a channel away for longer (`Retry-After`).
const AWAY: Duration = Duration::from_secs(300);
/// The one message that tries a broken channel has this long; if nothing is heard of it by then, another may.
const PROBE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Guard {
    /// Messages a minute; 0: as many as there are.
    per_minute: u32,
    tokens: f64,
    counted: Instant,
    failures: u32,
    pause: Duration,
    /// Nothing is sent before.
    closed: Option<Instant>,
    probe: Option<Instant>,
}

/// Not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub why: &'static str,
    pub again: Duration,
}

/// What a channel's message told of the channel itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Works,
    Fails,
    /// It works, and wants nothing for so long.
    Away(Duration),
}

/// A channel that has just broken, or works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Broken,
    Mended,
}

impl Guard {
    pub fn new(per_minute: u32, now: Instant) -> Self {
        Self { per_minute, tokens: f64::from(per_minute), counted: now, failures: 0, pause: SHORTEST, closed: None, probe: None }
    }

    pub fn enter(&mut self, now: Instant) -> Result<(), Held> {
        if let Some(until) = self.closed.filter(|until| *until > now) {
            let why = if self.broken() { "the channel is broken" } else { "the receiver wants nothing for a while" };
            return Err(Held { why, again: until - now });
        }
        if self.broken() {
            if let Some(until) = self.probe.filter(|until| *until > now) {
                return Err(Held { why: "the channel is broken, and is being tried", again: (until - now).min(Duration::from_secs(2)) });
            }
            self.probe = Some(now + PROBE);
            return Ok(());
        }
        if self.per_minute > 0 {
            let rate = f64::from(self.per_minute) / 60.0;
            self.tokens = (self.tokens + (now - self.counted).as_secs_f64() * rate).min(f64::from(self.per_minute));
            self.counted = now;
            if self.tokens < 1.0 {
                return Err(Held { why: "the channel has had its messages of this minute", again: Duration::from_secs_f64((1.0 - self.tokens) / rate) });
            }
            self.tokens -= 1.0;
        }
        Ok(())
    }

    pub fn heard(&mut self, told: Told, now: Instant) -> Option<Turned> {
        let was = self.broken();
        self.probe = None;
        match told {
            Told::Works => {
                (self.failures, self.pause, self.closed) = (0, SHORTEST, None);
            }
            Told::Away(length) => self.closed = Some(now + length.min(AWAY)),
            Told::Fails => {
                self.failures = self.failures.saturating_add(1);
                if self.broken() {
                    self.closed = Some(now + self.pause);
                    self.pause = (self.pause * 2).min(LONGEST);
                }
            }
        }
        match (was, self.broken()) {
            (false, true) => Some(Turned::Broken),
            (true, false) => Some(Turned::Mended),
            _ => None,
        }
    }

    pub fn broken(&self) -> bool {
        self.failures >= BREAKS_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn five_failures_break_it_and_one_at_a_time_tries_it() {
        let now = Instant::now();
        let mut guard = Guard::new(0, now);
        for n in 1..=5 {
            assert_eq!(guard.enter(now), Ok(()));
            assert_eq!(guard.heard(Told::Fails, now), (n == 5).then_some(Turned::Broken));
        }
        assert_eq!(guard.enter(now + 4 * S).unwrap_err().again, 6 * S);
        assert_eq!(guard.enter(now + 10 * S), Ok(()), "one tries it");
        assert!(guard.enter(now + 10 * S).is_err(), "the others wait for what it says");
        // nothing is heard of it: its sender died
        assert_eq!(guard.enter(now + 10 * S + PROBE), Ok(()), "a probe that is lost does not lock the channel for ever");
        assert_eq!(guard.heard(Told::Fails, now + 31 * S), None);
        assert_eq!(guard.enter(now + 32 * S).unwrap_err().again, 19 * S, "twice as long");
        assert_eq!(guard.enter(now + 60 * S), Ok(()));
        assert_eq!(guard.heard(Told::Works, now + 60 * S), Some(Turned::Mended));
        assert_eq!((guard.enter(now + 60 * S), guard.enter(now + 60 * S)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_minute_has_so_many_and_a_receiver_may_ask_for_a_pause() {
        let now = Instant::now();
        let mut guard = Guard::new(2, now);
        assert_eq!((guard.enter(now), guard.enter(now)), (Ok(()), Ok(())));
        assert_eq!(guard.enter(now).unwrap_err().again, 30 * S);
        assert_eq!(guard.enter(now + 31 * S), Ok(()));
        assert_eq!(guard.heard(Told::Away(7 * S), now + 31 * S), None, "it is not broken");
        assert_eq!(guard.enter(now + 32 * S).unwrap_err().again, 6 * S);
        guard.heard(Told::Away(86_400 * S), now + 40 * S);
        assert_eq!(guard.enter(now + 40 * S).unwrap_err().again, AWAY, "no receiver sends us away for a day");
    }
}
