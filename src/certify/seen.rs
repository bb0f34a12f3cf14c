//! What the gateway saw of the device, as far as the list is about it. A value is compared with another and never shown.

use schemas::{EventTime, Metric, Micros, Reason};

#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// TCP is open; while the gateway is away, an attempt.
    Arrived {
        tls: bool,
    },
    /// It ended before a CONNECT came.
    Stranger {
        detail: String,
    },
    Refused {
        /// It came under the device's own name.
        own_name: bool,
        detail: &'static str,
    },
    Connected(Connected),
    Published(Message),
    /// The ack of the oldest message that had none.
    Acknowledged,
    Subscribed,
    Pinged,
    Ended {
        reason: &'static str,
        detail: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    pub mqtt_5: bool,
    /// `None`: the gateway chose it.
    pub client: Option<String>,
    pub keep_alive: Option<Micros>,
    pub certificate: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub qos: u8,
    pub dup: bool,
    /// Of topic and payload.
    pub digest: u64,
    pub received_at: EventTime,
    /// `None`: topic or content type name no format.
    pub format: Option<String>,
    /// The format has a place for `sent_at`.
    pub may_be_stamped: bool,
    pub sent_at: Option<EventTime>,
    pub boot: Option<u64>,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `None`: without a time of its own.
    pub mark: Option<Mark>,
    /// The bits of the value as sent; of what was refused, nothing.
    pub value: u64,
    pub refused: Option<(Reason, String)>,
}

/// What tells a reading from every other of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    pub metric: Option<Metric>,
    /// By the device's clock.
    pub stamped_at: EventTime,
    pub boot: Option<u64>,
}

impl Message {
    /// The newest time of measurement in it.
    pub fn newest(&self) -> Option<EventTime> {
        self.entries.iter().filter_map(|entry| Some(entry.mark?.stamped_at)).max()
    }
}
