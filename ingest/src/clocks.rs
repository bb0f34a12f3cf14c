//! What is known of the clock of each device, whichever connection speaks for it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use intake::DeviceClock;
use schemas::DeviceId;

const SHARDS: usize = 64;

pub(crate) type Clock = Arc<Mutex<DeviceClock>>;

/// Holds registered devices only, so a stranger cannot fill it.
pub(crate) struct Clocks {
    hasher: RandomState,
    shards: [Mutex<HashMap<DeviceId, Clock>>; SHARDS],
}

impl Clocks {
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub fn of(&self, device: &DeviceId) -> Clock {
        let shard = self.hasher.hash_one(device) as usize % SHARDS;
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clock) = shard.get(device) {
            return clock.clone();
        }
        shard.entry(device.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_connections_share_the_clock_of_a_device() {
        let clocks = Clocks::new();
        let [a, b] = ["cuff", "scale"].map(|id| DeviceId::parse(id).unwrap());
        assert!(Arc::ptr_eq(&clocks.of(&a), &clocks.of(&a)) && !Arc::ptr_eq(&clocks.of(&a), &clocks.of(&b)));
    }
}
