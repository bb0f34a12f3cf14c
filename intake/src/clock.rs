//! What is known of a device's clock. Only what cannot be true is corrected; a mere delay never is.

use std::collections::VecDeque;

use schemas::{EventTime, Micros};

/// How far a clock may be off before anything is done about it.
pub(crate) const TOLERANCE: Micros = Micros::minutes(2);
const MESSAGES: usize = 16;
const ENOUGH: usize = 3;

/// A message is news of a clock at most so often: what comes faster was waiting somewhere.
const APART: Micros = Micros::seconds(1);

/// SEMANTICS 21, per device: the delays of its last messages that say something about its clock. A repetition does not, and neither does a
/// message that comes much sooner after the one before than it was sent after it: that one was waiting, and its delay is not the clock's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceClock {
    delays: VecDeque<Micros>,
    /// When the last of them was sent and received.
    last: Option<(EventTime, EventTime)>,
}

impl DeviceClock {
    pub(crate) fn heard(&mut self, sent_at: EventTime, received_at: EventTime, dup: bool) {
        let delay = received_at - sent_at;
        let waited = self.last.is_some_and(|(sent, received)| {
            let (sent, received) = (sent_at - sent, received_at - received);
            received < APART || received + received < sent
        });
        // one that is on time always counts: the clock was never slow
        if dup || (waited && delay > TOLERANCE) {
            return;
        }
        self.last = Some((sent_at, received_at));
        if self.delays.len() == MESSAGES {
            self.delays.pop_front();
        }
        self.delays.push_back(delay);
    }

    /// How far the clock is behind: the least of the delays, once it exceeds the tolerance. One late message shifts nothing.
    pub fn offset(&self) -> Micros {
        let least = self.delays.iter().min().copied().unwrap_or_default();
        if self.delays.len() >= ENOUGH && least > TOLERANCE { least } else { Micros::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: EventTime = EventTime(1_780_000_000_000_000);

    /// Messages sent every ten seconds in an outage of as many minutes, and all received within moments when it is over.
    fn backlog(clock: &mut DeviceClock, minutes: i64) {
        for n in 0..minutes * 6 {
            clock.heard(NOW + Micros::seconds(10 * n), NOW + Micros::minutes(minutes) + Micros(20_000 * n), false);
        }
    }

    #[test]
    fn a_backlog_after_an_outage_is_no_slow_clock() {
        for minutes in [3, 10, 600] {
            let mut clock = DeviceClock::default();
            backlog(&mut clock, minutes);
            assert_eq!(clock.offset(), Micros::ZERO, "{minutes} min");
        }
    }

    #[test]
    fn a_slow_clock_is_found_beside_a_backlog() {
        let mut clock = DeviceClock::default();
        backlog(&mut clock, 5);
        let behind = Micros::minutes(7);
        for n in 1..24 {
            let received_at = NOW + Micros::minutes(5 + n);
            clock.heard(received_at - behind, received_at, false);
        }
        assert_eq!(clock.offset(), behind);
    }
}
