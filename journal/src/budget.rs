//! How many bytes may wait for their receipt: taken before an append, given back by its receipt.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::Full;

#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
    whole: usize,
    freed: Notify,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self { left: AtomicUsize::new(bytes), whole: bytes, freed: Notify::new() }
    }

    pub const fn whole(&self) -> usize {
        self.whole
    }

    /// A record larger than the whole budget passes alone: it must not wait for ever.
    pub fn take(&self, bytes: usize) -> Result<usize, Full> {
        let bytes = bytes.min(self.whole);
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes)).map(|_| bytes).map_err(|_| Full)
    }

    pub fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::AcqRel);
        self.freed.notify_waiters();
    }

    /// Resolves when at least a quarter is free.
    pub async fn ready(&self) {
        loop {
            let freed = self.freed.notified();
            if self.left.load(Ordering::Acquire) >= self.whole / 4 {
                return;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_a_giant_passes_alone() {
        let budget = Budget::new(10);
        assert_eq!(budget.take(6), Ok(6));
        assert_eq!(budget.take(5), Err(Full));
        assert_eq!(budget.take(100), Err(Full));
        budget.give_back(6);
        assert_eq!(budget.take(100), Ok(10));
    }
}
