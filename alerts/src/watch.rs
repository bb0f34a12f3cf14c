//! Vigil looks at itself: is every partition evaluated, is anybody heard, does every page reach somebody, do channels work, is there room on the disks? What is wrong is told
//! to people by the same channels, and no patient is in it. And as long as evaluation lives, somebody outside hears so: a dead-man's switch that is not
//! called any more pages when nothing here can.
//!
//! One process looks, under a lease; two at once would tell twice, under one key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use schemas::{EventTime, Micros};
use store::troubles::Trouble;
use store::{Store, StoreError, lease};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::channels::{Attempt, Channels, heartbeat};
use crate::trouble::{incidents, is_full, message, telling};
use crate::{AlertsError, names, now};

const LEASE: &str = "watch";

/// What is looked at, and how patiently.
#[derive(Clone, Debug)]
pub struct Watch {
    /// How often it looks.
    pub every: Duration,
    /// A partition whose canary is older is not evaluated, as far as anybody knows.
    pub evaluated_within: Micros,
    /// A page that has reached nobody for longer.
    pub reached_within: Micros,
    /// Somebody is told again after this.
    pub again_after: Micros,
    /// Who is told: names of channels; all of them, when empty.
    pub channels: Vec<String>,
    /// Folders on disks that must not be full.
    pub disks: Vec<PathBuf>,
    /// Called at most once a minute, while every partition is evaluated.
    pub heartbeat: Option<Url>,
}

/// Between two calls of the heartbeat.
const BEAT: Micros = Micros::seconds(60);

impl Default for Watch {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            evaluated_within: Micros::seconds(150),
            reached_within: Micros::minutes(2),
            again_after: Micros::minutes(15),
            channels: Vec::new(),
            disks: Vec::new(),
            heartbeat: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Evaluation {
    /// Every partition's canary came out lately.
    Lives,
    /// This process has just begun to listen.
    Unknown,
    Stopped(String),
}

#[derive(Clone)]
pub(crate) struct Watcher {
    watch: Arc<Watch>,
    store: Store,
    owner: String,
    channels: Arc<Channels>,
    dashboard_url: Arc<str>,
    partitions: u32,
    client: Option<reqwest::Client>,
    /// Evaluation has so long to begin.
    started: EventTime,
}

impl Watcher {
    pub fn new(watch: Watch, store: Store, owner: String, channels: Arc<Channels>, dashboard_url: &str, partitions: u32) -> Result<Self, AlertsError> {
        for name in &watch.channels {
            if !channels.names().contains(name) {
                return Err(AlertsError::Channel { channel: name.clone(), why: "alerts.technical names it, and it is not configured".to_owned() });
            }
        }
        let client = watch.heartbeat.is_some().then(heartbeat::client).transpose()?;
        Ok(Self { watch: watch.into(), store, owner, channels, dashboard_url: dashboard_url.into(), partitions, client, started: now() })
    }

    pub async fn run(self, stop: CancellationToken) -> Result<(), AlertsError> {
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            outcome = self.look_on() => outcome,
        };
        if outcome.is_ok() {
            lease::release(&self.store, LEASE, &self.owner).await?;
        }
        outcome
    }

    async fn look_on(&self) -> Result<(), AlertsError> {
        let mut beaten: Option<EventTime> = None;
        loop {
            let (owner, at) = (&self.owner, now());
            let length = Micros(i64::try_from(self.watch.every.as_micros()).unwrap_or(i64::MAX / 8).saturating_mul(3));
            let mine = self.store.transaction(|tx| Box::pin(async move { lease::take(tx, LEASE, owner, at, length).await })).await?;
            if mine {
                let evaluated = self.evaluation(at).await?;
                let lives = evaluated == Evaluation::Lives;
                let found = self.found(at, evaluated).await?;
                self.settle(&found, at).await?;
                if lives && beaten.is_none_or(|beaten| at - beaten >= BEAT) {
                    beaten = Some(at);
                    self.beat().await;
                }
            }
            tokio::time::sleep(self.watch.every).await;
        }
    }

    /// What is wrong, by name.
    async fn found(&self, at: EventTime, evaluation: Evaluation) -> Result<BTreeMap<String, String>, StoreError> {
        let mut found = BTreeMap::new();
        if let Evaluation::Stopped(what) = evaluation {
            found.insert("evaluation".to_owned(), what);
        }
        let waiting = self.store.unreached(at - self.watch.reached_within).await?;
        if waiting > 0 {
            let pages = if waiting == 1 { "a page has".to_owned() } else { format!("{waiting} pages have") };
            found.insert("pages".to_owned(), format!("{pages} reached nobody for {} s", self.watch.reached_within.0 / 1_000_000));
        }
        found.extend(incidents(&self.store.silences(at).await?));
        for channel in self.channels.broken() {
            found.insert(format!("channel:{channel}"), format!("the channel {channel} is broken: its pages go on to people's next channels"));
        }
        for folder in &self.watch.disks {
            // a folder that cannot be looked at is not known to be full
            let Ok(disk) = rustix::fs::statvfs(folder) else { continue };
            let (free, total) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
            if is_full(free, total) {
                found.insert(format!("disk:{}", folder.display()), format!("the disk of {} is nearly full: {} MiB are left", folder.display(), free >> 20));
            }
        }
        Ok(found)
    }

    async fn evaluation(&self, at: EventTime) -> Result<Evaluation, StoreError> {
        let heard: BTreeMap<String, EventTime> =
            self.store.metas("canary_at.").await?.into_iter().filter_map(|(name, at)| Some((name, EventTime(at.parse().ok()?)))).collect();
        let last: Vec<Option<EventTime>> = (0..self.partitions).map(|partition| heard.get(&format!("canary_at.{partition}")).copied()).collect();
        let old = |last: Option<EventTime>| last.is_none_or(|last| at - last > self.watch.evaluated_within);
        if !last.iter().any(|last| old(*last)) {
            return Ok(Evaluation::Lives);
        }
        if at - self.started <= self.watch.evaluated_within {
            return Ok(Evaluation::Unknown);
        }
        let silent: Vec<Option<EventTime>> = last.into_iter().filter(|last| old(*last)).collect();
        let since = silent.iter().flatten().min().map_or_else(|| "it was installed".to_owned(), |since| since.to_string());
        let (count, all) = (silent.len(), self.partitions);
        Ok(Evaluation::Stopped(format!("EVALUATION STOPPED in {count} of {all} partitions since {since}: patients there are not watched")))
    }

    /// Remembers what began and what is over, and tells people.
    async fn settle(&self, found: &BTreeMap<String, String>, at: EventTime) -> Result<(), StoreError> {
        let troubles = self
            .store
            .transaction(|tx| {
                Box::pin(async move {
                    let known = tx.troubles().await?;
                    for trouble in &known {
                        match (found.contains_key(&trouble.name), trouble.over_at) {
                            (false, None) => tx.trouble_is_over(&trouble.name, trouble.since, at).await?,
                            (true, Some(_)) => tx.trouble_is_back(&trouble.name, trouble.since).await?,
                            _ => {}
                        }
                    }
                    for (name, what) in found {
                        if !known.iter().any(|trouble| trouble.name == *name) {
                            tx.trouble_begins(name, what, at).await?;
                        }
                    }
                    tx.troubles().await
                })
            })
            .await?;
        gauge!(names::TROUBLES).set(troubles.iter().filter(|trouble| trouble.over_at.is_none()).count() as f64);
        for trouble in &troubles {
            self.tell(trouble, at).await?;
        }
        Ok(())
    }

    async fn tell(&self, trouble: &Trouble, at: EventTime) -> Result<(), StoreError> {
        let (name, since) = (&trouble.name, trouble.since);
        let Some(kind) = telling(trouble, self.watch.again_after, at) else {
            if trouble.over_at.is_some() {
                self.store.trouble_is_closed(name, since).await?;
            }
            return Ok(());
        };
        match trouble.over_at {
            None => tracing::error!(trouble = name, what = trouble.what, "something is wrong with Vigil itself"),
            Some(_) => tracing::info!(trouble = name, "that is over"),
        }
        let Some(message) = message(trouble, kind, &self.dashboard_url) else { return Ok(()) };
        let to = if self.watch.channels.is_empty() { self.channels.names() } else { self.watch.channels.clone() };
        let attempts = to.iter().map(|channel| self.channels.attempt(channel, &message));
        let mut reached = to.is_empty();
        for (channel, attempt) in to.iter().zip(futures::future::join_all(attempts).await) {
            match attempt {
                Attempt::Arrived { .. } => reached = true,
                Attempt::Failed { undelivered, .. } => tracing::warn!(%channel, why = undelivered.why, "nobody could be told by this channel"),
                Attempt::Held(_) | Attempt::Unknown => {}
            }
        }
        // whoever could not be reached is tried again at the next look
        match (reached, trouble.over_at) {
            (true, None) => self.store.trouble_was_told(name, since, at).await,
            (true, Some(_)) => self.store.trouble_is_closed(name, since).await,
            (false, _) => Ok(()),
        }
    }

    async fn beat(&self) {
        let (Some(client), Some(url)) = (&self.client, &self.watch.heartbeat) else { return };
        let outcome = heartbeat::call(client, url).await;
        counter!(names::HEARTBEATS, "outcome" => if outcome.is_ok() { "ok" } else { "failed" }).increment(1);
        if let Err(undelivered) = outcome {
            tracing::warn!(why = undelivered.why, "alerts.heartbeat_url was called, and did not answer well: whoever listens there hears nothing");
        }
    }
}
