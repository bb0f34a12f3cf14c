//! A PUBACK is withheld, and the connection ended: what must come again, and whether it did.

use schemas::{EventTime, Micros};

use super::list::Finding;
use super::seen::{Mark, Message};

pub struct Resend {
    lost: Vec<Lost>,
    lost_at: EventTime,
    reconnected_at: Option<EventTime>,
    last_at: Option<EventTime>,
    /// Something came under the time of a lost reading with another value.
    changed: bool,
}

/// A message without PUBACK.
struct Lost {
    digest: u64,
    /// Its readings that have not come again.
    missing: Vec<(Mark, u64)>,
    /// Each of its entries has a time of its own: it may come again in another message.
    can_be_told: bool,
    came: bool,
}

impl Lost {
    fn new(message: Message) -> Self {
        let can_be_told = message.entries.iter().all(|entry| entry.mark.is_some());
        let missing = message.entries.iter().filter_map(|entry| Some((entry.mark?, entry.value))).collect();
        Self { digest: message.digest, missing, can_be_told, came: false }
    }
}

impl Resend {
    pub fn new(lost: impl IntoIterator<Item = Message>, lost_at: EventTime) -> Self {
        Self { lost: lost.into_iter().map(Lost::new).collect(), lost_at, reconnected_at: None, last_at: None, changed: false }
    }

    pub fn connected(&mut self, at: EventTime) {
        self.reconnected_at.get_or_insert(at);
    }

    pub fn take(&mut self, message: &Message) {
        for lost in self.lost.iter_mut().filter(|lost| !lost.came) {
            for entry in &message.entries {
                let Some(mark) = entry.mark else { continue };
                self.changed |= lost.missing.iter().any(|(missing, value)| *missing == mark && *value != entry.value);
                lost.missing.retain(|missing| *missing != (mark, entry.value));
            }
            lost.came = lost.digest == message.digest || (lost.can_be_told && lost.missing.is_empty());
            if lost.came {
                self.last_at = Some(message.received_at);
            }
        }
    }

    /// `None`: it may still come.
    pub fn finding(&self, now: EventTime, patience: Micros) -> Option<Finding> {
        let count = self.lost.len();
        if let (Some(last), true) = (self.last_at, self.lost.iter().all(|lost| lost.came)) {
            let took = last - self.lost_at;
            return Some(Finding::pass(format!("{count} messages without PUBACK came again within {}, the same", exactly(took))));
        }
        let Some(reconnected_at) = self.reconnected_at else {
            let remedy = "connect again when the connection ends, and send what has no PUBACK";
            let late = format!("it did not connect again within {patience} after a message without PUBACK");
            return (now - self.lost_at > patience).then(|| Finding::fail(late, remedy));
        };
        if now - reconnected_at <= patience {
            return None;
        }
        let missing = self.lost.iter().filter(|lost| !lost.came).count();
        Some(if self.changed {
            let saw = format!("{missing} of {count} messages without PUBACK came again with another value under the same time");
            Finding::fail(saw, "keep each message until its PUBACK is here, and send that one again: the values that were measured then")
        } else {
            let saw =
                format!("{missing} of {count} messages without PUBACK did not come again within {patience} after it had connected: these readings are lost");
            Finding::fail(saw, "keep each message until its PUBACK is here; after connecting, send all that have none, in order, then what is new")
        })
    }
}

/// `1.25 s`; from a minute on as the page says it.
pub fn exactly(span: Micros) -> String {
    if span.0.abs() < 60_000_000 { format!("{:.2} s", span.0 as f64 / 1e6) } else { span.to_string() }
}
