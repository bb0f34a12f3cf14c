//! Inputs in order to windows and transitions: the only place where clinical decisions are made.
//!
//! It promises that its outputs are a function of the partition's inputs in order (P1), however they are split into batches (P7); that a
//! late reading amends and a wrong clock harms only what it measures (P2, P3). It must never read a clock, a file or a socket.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod api;
mod decide;
mod engine;
mod explain;
mod fold;
mod rules;
mod series;
mod snapshot;

pub use api::{Arrival, Breach, Config, Latest, OpenAlert, Output, Sample, SnapshotError, Stats};
pub use engine::Engine;
pub use explain::{Explained, Explanation, Paused, Said, Used, Verdict};
pub use rules::{Diagnostic, Diagnostics, Function, Rule, RuleBook, RuleKind, Severity, compile};

/// The rules an installation starts with; each names the public source of its numbers.
pub const DEFAULT_RULES: &str = include_str!("../rules/default.toml");

/// Which engine this is: the version, and a digest of its source. Two engines of one name give the same answers.
pub const VERSION: &str = env!("VIGIL_ENGINE");
