//! The bytes of messages between socket and receipt, of all connections together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The part of it that packets may take beside it while they are only half here.
const HALF: usize = 4;

/// What a message holds in memory beside its bytes: its place in the FIFO, its receipts, its encoded record.
const OVERHEAD: usize = 256;

pub(crate) struct Budget {
    free: Arc<Semaphore>,
    whole: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let whole = bytes.clamp(1, u32::MAX as usize);
        Self { free: Arc::new(Semaphore::new(whole)), whole }
    }

    /// Room for packets that are only half here. It is apart from what whole ones take, and from what small ones do: who never ends a packet keeps
    /// nobody waiting but others who begin large ones.
    pub fn of_halves(bytes: usize) -> Self {
        Self::new(bytes / HALF)
    }

    /// What a packet of so many bytes costs. One larger than the whole budget passes alone: it must not wait for ever.
    pub fn cost(&self, packet: usize) -> usize {
        (packet + OVERHEAD).min(self.whole)
    }

    /// Takes `cost` now, or not at all. Whoever waits already goes first.
    pub fn try_take(&self, cost: usize) -> bool {
        // given back by number, so that a connection does not hold a permit per message
        self.free.try_acquire_many(permits(cost)).map(SemaphorePermit::forget).is_ok()
    }

    /// Less than the smallest message would fit, or somebody waits for room.
    pub fn is_full(&self) -> bool {
        self.free.try_acquire_many(permits(self.cost(1))).is_err()
    }

    pub fn take(&self, cost: usize) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + 'static {
        let free = self.free.clone();
        // an error would mean that the semaphore was closed, which nobody does
        async move { free.acquire_many_owned(permits(cost)).await.ok() }
    }

    pub fn give_back(&self, cost: usize) {
        self.free.add_permits(cost);
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }
}

fn permits(cost: usize) -> u32 {
    u32::try_from(cost).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_comes_back_and_a_giant_passes_alone() {
        let budget = Budget::new(1000);
        assert!(budget.try_take(600) && !budget.try_take(600));
        let giant = budget.cost(1 << 20);
        assert_eq!(giant, 1000);
        let waiting = tokio::spawn(budget.take(giant));
        budget.give_back(600);
        waiting.await.unwrap().unwrap().forget();
        assert_eq!(budget.free(), 0);
        budget.give_back(giant);
        assert_eq!(budget.free(), 1000);
    }
}
