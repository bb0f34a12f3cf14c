//! What goes in, what comes out, and what may be asked in between.

use schemas::{AlertId, Arrived, ClockState, DeviceId, EventTime, Input, Micros, Offset, Partition, Priority, ReadingId, RuleId, Transition, Window};

/// How an engine is cut. The same for the life of an installation, or windows change their edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub partition: Partition,
    /// How late a reading may be and still amend.
    pub horizon: Micros,
    /// The tumbling width.
    pub window: Micros,
}

impl Default for Config {
    fn default() -> Self {
        Self { partition: Partition(0), horizon: Micros::hours(2), window: Micros::minutes(5) }
    }
}

/// A decoded record of `vigil.inputs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    pub offset: Offset,
    pub arrived_at: Arrived,
    pub input: Input,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Window(Window),
    Transition(Transition),
}

impl Output {
    pub fn cause(&self) -> schemas::Cause {
        match self {
            Self::Window(window) => window.cause,
            Self::Transition(transition) => transition.cause,
        }
    }
}

/// The newest value of a metric, with all that a page must say beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    pub id: ReadingId,
    pub value: f64,
    pub at: EventTime,
    pub received_at: EventTime,
    pub stamped_at: EventTime,
    pub arrived_at: Arrived,
    pub clock: ClockState,
    pub typed: bool,
    pub test: bool,
    /// It was behind the frontier when it came.
    pub late: bool,
    pub device: DeviceId,
    /// The value before it and when that was measured.
    pub previous: Option<(f64, EventTime)>,
    /// An open alert that looks at this metric.
    pub breach: Option<Breach>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    pub rule: RuleId,
    pub limit: Option<f64>,
    pub priority: Priority,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub id: ReadingId,
    pub at: EventTime,
    pub stamped_at: EventTime,
    pub received_at: EventTime,
    pub value: f64,
    pub late: bool,
    /// Later than the horizon: it decides nothing.
    pub beyond: bool,
    pub test: bool,
    pub typed: bool,
    pub clock: ClockState,
    pub device: DeviceId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenAlert {
    pub alert: AlertId,
    pub rule: RuleId,
    pub name: String,
    pub priority: Priority,
    pub raised_at: EventTime,
    pub since: EventTime,
    pub summary: String,
    pub technical: bool,
}

/// Counters since the partition's first input; they are part of the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    pub inputs: u64,
    pub readings: u64,
    pub late: u64,
    pub beyond_horizon: u64,
    pub duplicates: u64,
    pub corrected: u64,
    pub voided: u64,
    /// A new value for a voided reading.
    pub refused: u64,
    pub rows: u64,
    pub windows: u64,
    pub transitions: u64,
    /// Rows whose predicate failed to evaluate.
    pub evaluation_errors: u64,
    /// Rule sets that did not compile: the one before stays.
    pub rules_refused: u64,
}

/// A snapshot that cannot be used, or not be written; the processor takes the one before or replays.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    #[error("not a snapshot of vigil")]
    Foreign,
    #[error("a snapshot of format {0}, which this version does not read")]
    Format(u32),
    #[error("the snapshot is truncated: {have} bytes of {want}")]
    Truncated { have: u64, want: u64 },
    #[error("the snapshot's checksum does not match: it was damaged")]
    Checksum,
    #[error("the snapshot is of partition {found}, not {wanted}")]
    Partition { found: Partition, wanted: Partition },
    #[error("the snapshot was taken with a {what} of {found}, not {wanted}")]
    Config { what: &'static str, found: Micros, wanted: Micros },
    #[error("the snapshot's {0} is unreadable")]
    Content(String),
    #[error("the engine's state cannot be written as a snapshot: {0}")]
    Unwritable(String),
}
