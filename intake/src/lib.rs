//! Topic and payload in, inputs or dead letters out. Pure.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
