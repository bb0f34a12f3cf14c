//! Inputs in order to windows and transitions: the only place where clinical decisions are made.
//!
//! It promises that its outputs are a function of the partition's inputs in order (P1), however they are split into batches (P7); that a
//! late reading amends and a wrong clock harms only what it measures (P2, P3). It must never read a clock, a file or a socket.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod api;
mod cases;
mod columns;
mod compose;
mod decide;
mod engine;
mod explain;
mod fold;
pub mod news2;
mod panes;
mod rules;
mod series;
mod snapshot;
mod zone;

pub use api::{Arrival, Breach, Config, Latest, OpenAlert, Output, Sample, SnapshotError, Stats};
pub use cases::{CaseReport, StepReport, run_cases};
pub use engine::Engine;
pub use explain::{Explained, Explanation, Paused, Said, Used, Verdict};
pub use panes::Day;
pub use rules::{BookDiff, Confirm, Diagnostic, Diagnostics, FieldDiff, Function, Rule, RuleBook, RuleDiff, RuleKind, Severity, State, compile};
pub use zone::Zone;

/// The rules an installation starts with; each names the public source of its numbers.
pub const DEFAULT_RULES: &str = include_str!("../rules/default.toml");

/// Which engine this is: the version, and a digest of its source. Two engines of one name give the same answers.
pub const VERSION: &str = env!("VIGIL_ENGINE");
