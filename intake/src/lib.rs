//! What a device sent, to inputs and dead letters: topic, payload, registry and the time of receipt in, records out.
//!
//! It promises **I2**: every entry of a message ends in exactly one of inputs and dead letters, and a dead letter says what to change. It is
//! pure: the same arguments give the same records. It must never read a clock, guess a format, take a patient from a payload, or drop an entry.
//!
//! Each format is one module that reads bytes to the same entries; `decode` places them. `docs/formats.md` is for those who send.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod clock;
mod decode;
mod envelope;
mod explain;
mod fhir;
mod formats;
mod json;
mod mapping;
mod openmhealth;
mod parsed;
mod registry;
mod senml;

pub use clock::DeviceClock;
pub use decode::{Decided, Message, decode, device_of};
pub use envelope::{Envelope, envelope};
pub use explain::{Explained, Stored, explain};
pub use formats::Format;
pub use mapping::{Mapping, MappingError, Mappings};
pub use registry::{Ambiguous, Assigned, Known, Registry};
