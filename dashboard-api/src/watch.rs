//! The store, watched: the alerts somebody may have to see, people and wards, and what proves that the processor lives.
//!
//! A change of this process is seen at once, one of another process within [`POLL`].

use std::time::{Duration, Instant};

use schemas::{Arrived, EventTime, Micros};
use store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::people;
use crate::pulse::Pulse;

const POLL: Duration = Duration::from_millis(250);
/// Between two looks, however often the store changes.
const GAP: Duration = Duration::from_millis(5);
/// The list itself is compared at least this often: see [`store::Tx::watched_stamp`].
const CERTAIN: Duration = Duration::from_secs(5);
/// Wards, pauses and canaries.
const SLOW: Duration = Duration::from_secs(1);
/// Alerts heard within it are kept in sight, whatever became of them.
const SIGHT: Micros = Micros::hours(24);
/// The edge of sight moves in steps, so that nothing leaves between two looks.
const STEP: i64 = Micros::minutes(10).0;

/// In the store's meta, one per partition: when the newest canary was heard to be decided, in µs.
pub(crate) const CANARY: &str = "canary_at.";

pub(crate) struct Watcher {
    store: Store,
    partitions: u32,
    stamp: Option<(Arrived, [u64; 3])>,
    certain: Option<Instant>,
    slow: Option<Instant>,
    registry: Option<(u64, Option<String>)>,
}

impl Watcher {
    pub fn new(store: Store, partitions: u32) -> Self {
        Self { store, partitions, stamp: None, certain: None, slow: None, registry: None }
    }

    /// Until `stop`.
    pub async fn run(mut self, hub: &Hub, pulse: &Pulse, stop: &CancellationToken) {
        let mut changes = self.store.changes();
        let mut failed = false;
        loop {
            changes.mark_unchanged();
            match self.look(hub, pulse).await {
                Ok(()) if failed => {
                    failed = false;
                    tracing::info!("the store is watched again");
                }
                Ok(()) => {}
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(%error, "the store cannot be watched; alerts on the page may be old");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(GAP) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // its sender lives as long as our store does
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Once, all of it: for the start, so that nothing is served before it is known.
    pub async fn look(&mut self, hub: &Hub, pulse: &Pulse) -> Result<(), StoreError> {
        let now = crate::now();
        let registry = (self.store.registry_version().await?, self.store.meta("outbox_next").await?);
        if self.registry.as_ref() != Some(&registry) {
            hub.people(people::load(&self.store).await?, now);
            self.registry = Some(registry);
        }
        self.alerts(hub, now).await?;
        if self.slow.is_none_or(|last| last.elapsed() >= SLOW) {
            hub.wards(self.store.wards().await?);
            hub.tick(now);
            self.canaries(pulse).await?;
            self.slow = Some(Instant::now());
        }
        if let Some(clock) = hub.engine_clock() {
            pulse.engine(clock.as_event());
        }
        Ok(())
    }

    async fn alerts(&mut self, hub: &Hub, now: EventTime) -> Result<(), StoreError> {
        let from = Arrived((now - SIGHT).0.div_euclid(STEP) * STEP);
        let stamp = (from, self.store.watched_stamp(from).await?);
        let certain = self.certain.is_some_and(|last| last.elapsed() < CERTAIN);
        if certain && self.stamp == Some(stamp) {
            return Ok(());
        }
        let watched = self.store.watched_episodes(from).await?;
        let mut known = hub.alert_versions();
        let mut wanted: Vec<_> = Vec::new();
        for (alert, version) in watched {
            if known.remove(&alert) != Some(version) {
                wanted.push(alert);
            }
        }
        let gone: Vec<_> = known.into_keys().collect();
        wanted.extend(&gone);
        let changed = if wanted.is_empty() { Vec::new() } else { self.store.episodes_by_id(&wanted).await? };
        hub.alerts(changed, &gone);
        self.stamp = Some(stamp);
        self.certain = Some(Instant::now());
        Ok(())
    }

    async fn canaries(&self, pulse: &Pulse) -> Result<(), StoreError> {
        let found: Vec<EventTime> = self.store.metas(CANARY).await?.into_iter().filter_map(|(_, value)| value.parse().ok().map(EventTime)).collect();
        if let Some(newest) = found.iter().max() {
            pulse.engine(*newest);
        }
        // one partition that never had its canary is not known to be evaluated
        pulse.canary(if found.len() < self.partitions as usize { None } else { found.into_iter().min() });
        Ok(())
    }
}
