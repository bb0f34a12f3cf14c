//! Hostile payloads: valid messages of every format, bent, and what must hold of whatever comes of them.
//!
//! `dev/fuzz` runs them with libFuzzer, which keeps what reaches new code; the tests here run some thousand without it, from a seed. The packets are
//! in `ingest::fuzz`, beside what they reach.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout))]

mod bend;
mod check;
mod samples;

pub use bend::bend;
pub use check::Checker;
pub use samples::samples;

/// A format's number, then the payload in it.
pub const SELECTOR: usize = 1;
