//! What would be stored of a payload, or why not, without a device, a registry or a server.

use std::fmt;

use schemas::{DeviceId, EventTime, Metric, Reason};

use crate::formats::Format;
use crate::parsed::{Entry, Refused, Stamp};

/// What an entry says.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub metric: Metric,
    /// In the metric's own unit.
    pub value: f64,
    pub value_as_sent: f64,
    /// Empty when none was sent.
    pub unit_as_sent: String,
    /// `None`: as old as the message.
    pub measured_at: Option<EventTime>,
}

/// One entry of a payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// From 0.
    pub entry: usize,
    /// Whom the payload names; `None` is whom the topic names.
    pub device: Option<DeviceId>,
    /// Or the reason and the words of the dead letter.
    pub outcome: Result<Stored, (Reason, String)>,
}

/// Reads a payload as [`crate::decode`] would, up to what only the registry knows.
pub fn explain(payload: &[u8], format: Format<'_>, received_at: EventTime) -> Vec<Explained> {
    let dead = |Refused(reason, detail)| (reason, format!("{reason}: {detail}"));
    let entries = match format.parse(payload, received_at) {
        Ok(parsed) => parsed.entries,
        Err(refused) => return vec![Explained { entry: 0, device: None, outcome: Err(dead(refused)) }],
    };
    let explained = |(number, entry): (usize, Entry)| {
        let outcome = entry.read.map_err(dead).map(|read| Stored {
            metric: read.metric,
            value: read.value,
            value_as_sent: read.value_as_sent,
            unit_as_sent: read.unit_as_sent.unwrap_or_default(),
            measured_at: match read.stamp {
                Stamp::At(at) => Some(at),
                Stamp::RECEIVED => None,
                Stamp::Ago(span) => Some(received_at - span),
            },
        });
        Explained { entry: number, device: entry.device, outcome }
    };
    entries.into_iter().enumerate().map(explained).collect()
}

/// `spo2 97 %, measured 2026-11-22T06:00:00Z`, or the dead letter's words.
impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(device) = &self.device {
            write!(f, "{device}: ")?;
        }
        let stored = match &self.outcome {
            Ok(stored) => stored,
            Err((_, words)) => return f.write_str(words),
        };
        // a conversion's last digits are not the device's
        write!(f, "{} {} {}", stored.metric, (stored.value * 1e6).round() / 1e6, stored.metric.codes().ucum)?;
        if stored.value != stored.value_as_sent {
            write!(f, " (sent as {} {})", stored.value_as_sent, stored.unit_as_sent)?;
        }
        match stored.measured_at {
            Some(at) => write!(f, ", measured {at}"),
            None => f.write_str(", measured when received"),
        }
    }
}
