//! How far something long has come, and whether it should go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::CuratedError;

#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// What is done, of how much. The unit is what it works on: records, rows.
    pub fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    pub(crate) fn expect(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn done(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn go_on(&self) -> Result<(), CuratedError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(CuratedError::Cancelled) } else { Ok(()) }
    }
}
