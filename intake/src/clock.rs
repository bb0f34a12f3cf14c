//! What is known of a device's clock. Only what cannot be true is corrected; a mere delay never is.

use std::collections::VecDeque;

use schemas::{EventTime, Micros};

/// How far a clock may be off before anything is done about it.
pub(crate) const TOLERANCE: Micros = Micros::minutes(2);
const MESSAGES: usize = 16;
const ENOUGH: usize = 3;

/// SEMANTICS 21, per device: the delays of its last messages that were not repetitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceClock {
    delays: VecDeque<Micros>,
}

impl DeviceClock {
    pub(crate) fn heard(&mut self, sent_at: EventTime, received_at: EventTime, dup: bool) {
        if dup {
            return;
        }
        if self.delays.len() == MESSAGES {
            self.delays.pop_front();
        }
        self.delays.push_back(received_at - sent_at);
    }

    /// How far the clock is behind: the least of the delays, once it exceeds the tolerance. One late message shifts nothing.
    pub fn offset(&self) -> Micros {
        let least = self.delays.iter().min().copied().unwrap_or_default();
        if self.delays.len() >= ENOUGH && least > TOLERANCE { least } else { Micros::ZERO }
    }
}
