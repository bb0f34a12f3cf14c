//! What a device sent, to inputs and dead letters: topic, payload, registry and the time of receipt in, records out.
//!
//! It promises **I2**: every entry of a message ends in exactly one of inputs and dead letters, and a dead letter says what to change. It is
//! pure: the same arguments give the same records. It must never read a clock, guess a format, take a patient from a payload, or drop an entry.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod clock;
mod decode;
mod json;
mod registry;

pub use clock::DeviceClock;
pub use decode::{Decided, Message, decode};
pub use registry::{Ambiguous, Assigned, Known, Registry};
