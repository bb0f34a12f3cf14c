//! P1 to P7 over histories that a ward would not believe: late, sent twice, voided, moved, corrected, newest first, from several devices, over the
//! nights in which clocks are changed and the leap day. `dev/properties` runs them long; here each is a short one.
//!
//! Windows are held against DataFusion SQL over the clean readings, alerts against an implementation of their own.

mod alerts;
mod generator;
mod p1;
mod p2;
mod p3;
mod p4;
mod p5;
mod p6;
mod p7;
mod rules;
mod run;

use engine::{Arrival, Config, Engine, Output};

pub fn told(arrivals: &[Arrival]) -> Vec<Output> {
    Engine::new(Config::default()).apply(arrivals)
}

/// What differs first, in words that a test prints.
pub fn same(what: &str, left: &[Output], right: &[Output]) -> Result<(), String> {
    match left.iter().zip(right).find(|(left, right)| left != right) {
        Some((left, right)) => Err(format!("{what}: {left:#?}\nis not {right:#?}")),
        None if left.len() != right.len() => Err(format!("{what}: {} outputs are not {}", left.len(), right.len())),
        None => Ok(()),
    }
}
