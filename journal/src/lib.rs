//! The durable partitioned log behind everything: Kafka, one embedded file, or memory.
//!
//! Promises **J1**: an append whose receipt is `Ok` survives SIGKILL of every process of ours, and of Kafka within its replication.
//! Records of one partition keep the order of their appends. Delivery to readers is at least once, in order, from wherever the reader
//! says it wants to start. A reader never sees a record that is not durable. It must never: reorder, skip silently, block an appender.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod api;
mod budget;
pub mod embedded;
pub mod kafka;
pub mod memory;
mod reading;

pub use api::*;
