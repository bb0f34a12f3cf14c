//! Journal in, engine, journal out; and the lake's raw layer.
//!
//! It promises **P6**: a snapshot at `next` exists only when every output caused before `next` is durable. After a crash or a rebalance it loads the
//! newest readable snapshot and replays: outputs are repeated under the same cause, and readers drop what they have. What the journal no longer
//! has is replayed from the lake, and said aloud. It must never let the engine see anything but `vigil.inputs`, nor run it on the threads
//! that serve sockets.
//!
//! The [`archive::Archive`] promises that its files partition the offsets: each record is in one file, whatever was killed and whoever else wrote.
//! It reports progress only for what is durable, so that an embedded journal never forgets what the lake does not have.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod archive;
pub mod backtest;
pub mod lake;
pub mod metrics;
pub mod objects;
mod recovery;
mod run;
pub mod snapshots;
mod worker;

use schemas::{Arrived, Input, Offset, Partition};

pub use run::{Config, Processor, ProcessorError};

/// A record that is no input still moves the clock and the offset.
fn decode(partition: Partition, offset: Offset, value: &[u8]) -> Input {
    Input::decode(value).unwrap_or_else(|error| {
        tracing::error!(%partition, %offset, %error, "an input cannot be read and decides nothing");
        ::metrics::counter!(metrics::UNREADABLE, "partition" => partition.to_string()).increment(1);
        Input::Tick
    })
}

fn wall() -> Arrived {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Arrived(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
