//! What a beat and the readiness say: how far behind what is shown is, and what proves that the processor lives.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use schemas::EventTime;

use crate::view::Time;

const NEVER: i64 = i64::MIN;

pub(crate) struct Pulse {
    lag_ms: AtomicU64,
    caught_up: AtomicBool,
    canary_at: AtomicI64,
    engine_clock: AtomicI64,
}

impl Pulse {
    pub const fn new() -> Self {
        Self { lag_ms: AtomicU64::new(0), caught_up: AtomicBool::new(false), canary_at: AtomicI64::new(NEVER), engine_clock: AtomicI64::new(NEVER) }
    }

    pub fn lag(&self, ms: u64) {
        self.lag_ms.store(ms, Ordering::Relaxed);
        metrics::gauge!(crate::names::FOLLOWER_LAG).set(ms as f64 / 1000.0);
    }

    pub fn lag_ms(&self) -> u64 {
        self.lag_ms.load(Ordering::Relaxed)
    }

    /// The follower has come, once, to where the journal ended when it started.
    pub fn set_caught_up(&self) {
        self.caught_up.store(true, Ordering::Relaxed);
    }

    pub fn caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    pub fn canary(&self, at: Option<EventTime>) {
        self.canary_at.store(at.map_or(NEVER, |at| at.0), Ordering::Relaxed);
    }

    pub fn canary_at(&self) -> Option<Time> {
        time(&self.canary_at)
    }

    /// Never goes back.
    pub fn engine(&self, clock: EventTime) {
        self.engine_clock.fetch_max(clock.0, Ordering::Relaxed);
    }

    pub fn engine_clock(&self) -> Option<Time> {
        time(&self.engine_clock)
    }
}

fn time(at: &AtomicI64) -> Option<Time> {
    Some(at.load(Ordering::Relaxed)).filter(|at| *at != NEVER).map(|at| Time(EventTime(at)))
}
