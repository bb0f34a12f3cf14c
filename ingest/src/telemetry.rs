//! The names of this crate's metrics, and handles of those that every message touches.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, counter, gauge};

/// Gauge: connections past their CONNECT.
pub const CONNECTIONS: &str = "vigil_ingest_connections";
/// Messages read.
pub const PUBLISHES: &str = "vigil_ingest_publishes_total";
/// Bytes of messages read, headers included.
pub const BYTES: &str = "vigil_ingest_bytes_total";
/// Entries that became inputs and are durable.
pub const ACCEPTED: &str = "vigil_ingest_accepted_total";
/// Entries that became dead letters, by `reason`.
pub const DEAD_LETTERS: &str = "vigil_ingest_dead_letters_total";
/// Messages that were not acknowledged because a receipt failed.
pub const RECEIPTS_FAILED: &str = "vigil_ingest_receipts_failed_total";
/// CONNECTs refused, by `reason`.
pub const CONNECTS_REFUSED: &str = "vigil_ingest_connects_refused_total";
/// Connections that ended, by `reason`.
pub const CLOSED: &str = "vigil_ingest_closed_total";
/// Connections that had not sent their CONNECT and ended, by `reason`.
pub const HALF_OPEN_DROPPED: &str = "vigil_ingest_half_open_dropped_total";
/// How often a socket was not read on because room was missing, by `for` (`turn`, `budget`, `journal`).
pub const BUDGET_WAITS: &str = "vigil_ingest_budget_waits_total";
/// Times that the registry could not be read; the last one known stays in force.
pub const REGISTRY_FAILURES: &str = "vigil_ingest_registry_failures_total";
/// Accepts that failed, such as for want of file descriptors.
pub const ACCEPTS_FAILED: &str = "vigil_ingest_accepts_failed_total";
/// Gauge: 1 while a bridge reads, by `bridge`.
pub const BRIDGE_CONNECTED: &str = "vigil_ingest_bridge_connected";
/// Connections of a bridge that failed or were lost, by `bridge` and `reason`.
pub const BRIDGE_LOST: &str = "vigil_ingest_bridge_lost_total";
/// Messages that a bridge read, by `bridge` and `qos`; at QoS 0 nothing is promised.
pub const BRIDGE_MESSAGES: &str = "vigil_ingest_bridge_messages_total";
/// Messages that the broker said it sent before (DUP), by `bridge`.
pub const BRIDGE_DUPLICATES: &str = "vigil_ingest_bridge_duplicates_total";
/// Messages of which something became a dead letter, by `bridge`.
pub const BRIDGE_REFUSED: &str = "vigil_ingest_bridge_refused_total";
/// Messages at QoS 0 for which there was no room, by `bridge`.
pub const BRIDGE_DROPPED: &str = "vigil_ingest_bridge_dropped_total";
/// Times that the broker had forgotten the session of a bridge, by `bridge`.
pub const BRIDGE_SESSIONS_LOST: &str = "vigil_ingest_bridge_sessions_lost_total";

pub(crate) struct Meters {
    pub connections: Gauge,
    pub publishes: Counter,
    pub bytes: Counter,
    pub accepted: Counter,
}

impl Meters {
    pub fn new() -> Self {
        Self { connections: gauge!(CONNECTIONS), publishes: counter!(PUBLISHES), bytes: counter!(BYTES), accepted: counter!(ACCEPTED) }
    }
}

/// Lets a log line through once in ten seconds: ten thousand connections may have the same trouble at once.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    pub fn now(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(10));
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
