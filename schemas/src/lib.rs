//! The vocabulary of Vigil: metrics with their codes and units, ids and times as types, what stands in the journal and how it is
//! written (protobuf), and what stands in the lake (Arrow).
//!
//! Every other crate speaks in these words. There is no I/O here and no clock: a time is always an argument.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod acvpu;
mod arrow_schemas;
mod id;
mod input;
mod metric;
mod output;
mod partition;
mod private;
mod time;
mod typed;

pub use acvpu::{Acvpu, NotAcvpu};
pub use arrow_schemas::{alerts_schema, dead_letters_schema, inputs_schema, windows_schema};
pub use id::{AlertId, DeviceId, IdError, Origin, PatientId, ReadingId, RuleId};
pub use input::{ClockState, DecodeError, Input, Pause, Reading, RuleSet, Settings, Void};
pub use metric::{Codes, Metric, Unit, UnitError, UnknownMetric};
pub use output::{Cause, DeadLetter, Evidence, Format, LatePolicy, Priority, Reason, Transition, TransitionKind, Window};
pub use partition::{CANARY_RULE, canary_patient, murmur2, partition_of};
pub use private::Private;
pub use time::{Arrived, EventTime, Micros, Offset, Partition, TimeError};
pub use typed::{TYPED_DEVICE, Typed};

/// The protobuf messages as prost wrote them. Use the types of this crate; these are for tests of the wire.
pub mod pb {
    #![allow(clippy::all, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/vigil.v1.rs"));
}
