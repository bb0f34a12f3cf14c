//! Journal in, engine, journal out.
//!
//! It promises **P6**: a snapshot at `next` exists only when every output caused before `next` is durable. After a crash or a rebalance it loads the
//! newest readable snapshot and replays: outputs are repeated under the same cause, and readers drop what they have. It must never let the
//! engine see anything but `vigil.inputs`, nor run it on the threads that serve sockets.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod objects;
mod run;

pub use run::{Config, Processor, ProcessorError};
