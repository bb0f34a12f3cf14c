//! Journal in, engine, journal out; ticks, snapshots, recovery, and the lake's raw layer.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
