//! Transitions in, pages out: episodes, escalation, channels, the relay of settings and rules, the canary.
//!
//! **Promises.**
//! - **A1** A batch of `vigil.alerts` is one transaction: the position moves first, and with it stand or fall episodes, history,
//!   notifications and timers. Two processes that read the same batch do it once; a replay of a cause that is here already does nothing.
//! - **A2** Every raised alert is shown, and paged at least once under one stable key, even if it was over first. Paged means: a row
//!   per channel that only a delivery, a refusal for good or 24 h of failures ends. A late one follows the engine's word
//!   ([`schemas::Transition::pages`]). A technical alert (a silent device) stands in the inbox and pages nobody, because nobody is ill.
//! - **A3** A re-page is a row with a due time: it survives restarts and fires once, whoever is up.
//! - Settings and rules reach `vigil.inputs` at least once, in the order of their versions, and all of them again once a day.
//!
//! **Delivery** is at least once. Every attempt at one page has one key (`webhook-id`, `Message-ID`), so a receiver can drop the second.
//!
//! **Never.** It sends no name, number or value of a patient: a page holds a short code, the priority, the ward, the rule's name, when
//! it was raised, and a link. It decides nothing clinical; the engine did.
//!
//! Pure and driven by arguments: [`episode`], [`escalation`], [`text`]. Everything else is I/O around them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod canary;
mod channels;
mod config;
mod consumer;
mod error;
mod planner;
mod reach;
mod relay;
mod sender;
mod storm;
mod supervise;
mod timers;
mod trouble;
mod watch;

pub mod episode;
pub mod escalation;
pub mod names;
pub mod oncall;
pub mod text;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use journal::Journal;
use schemas::{EventTime, Micros};
use store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::{Alertmanager, Config, PagerDuty, Secret, Sms, Smtp, Webhook};
pub use error::AlertsError;
pub use reach::Reach;
pub use watch::Watch;

use crate::channels::Channels;
use crate::supervise::supervise;

/// The name under which this role reads `vigil.alerts`, in the journal and in the store's positions.
pub const READER: &str = "alerts";

/// The role. Several may run at once, in this process or in others.
pub struct Alerts {
    config: Config,
    journal: Arc<dyn Journal>,
    store: Store,
    channels: Arc<Channels>,
}

impl Alerts {
    /// Checks the configuration and prepares every channel; connects to none. Needs a rustls provider installed in the process.
    pub fn new(config: Config, journal: Arc<dyn Journal>, store: Store) -> Result<Self, AlertsError> {
        if config.partitions != journal.partitions() {
            return Err(AlertsError::Partitions { configured: config.partitions, journal: journal.partitions() });
        }
        if config.repage_after.is_zero() {
            return Err(AlertsError::RepageAfter);
        }
        let channels = Arc::new(Channels::new(&config)?);
        Ok(Self { config, journal, store, channels })
    }

    /// Until `stop`: then the transaction under way is finished, and what is being sent gets a few seconds. What is away for a time
    /// (store, journal, a receiver) is waited for; an error is what only an operator can end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AlertsError> {
        let owner = format!("alerts-{:016x}", rand::random::<u64>());
        let names = self.channels.names();
        if names.is_empty() {
            tracing::warn!("no channel (docs/channels.md) is configured: alerts are shown on the dashboard, and nobody is paged");
        }
        let repage_after = Micros(i64::try_from(self.config.repage_after.as_micros()).unwrap_or(i64::MAX));
        let planner = planner::Planner::new(&names, repage_after);
        let (journal, store) = (self.journal, self.store);

        let consumer = consumer::Consumer::new(journal.clone(), store.clone(), planner.clone());
        let timers = timers::Timers::new(store.clone(), owner.clone(), planner);
        let (dashboard_url, partitions) = (self.config.dashboard_url, journal.partitions());
        let watcher = watch::Watcher::new(self.config.watch, store.clone(), owner.clone(), self.channels.clone(), &dashboard_url, partitions)?;
        let sender = sender::Sender::new(store.clone(), owner.clone(), self.channels, dashboard_url, self.config.one_by_one);
        let relay = relay::Relay::new(journal.clone(), store.clone(), owner.clone());
        let canary = canary::Canary::new(journal, store, owner);

        let all = stop.child_token();
        let mut workers = JoinSet::new();
        workers.spawn(supervise("consumer", all.clone(), move |stop| consumer.clone().run(stop)));
        workers.spawn(supervise("timers", all.clone(), move |stop| timers.clone().run(stop)));
        workers.spawn(supervise("sender", all.clone(), move |stop| sender.clone().run(stop)));
        workers.spawn(supervise("relay", all.clone(), move |stop| relay.clone().run(stop)));
        workers.spawn(supervise("canary", all.clone(), move |stop| canary.clone().run(stop)));
        workers.spawn(supervise("watch", all.clone(), move |stop| watcher.clone().run(stop)));
        let mut outcome = Ok(());
        while let Some(ended) = workers.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(error.into()));
            if ended.is_err() {
                all.cancel();
            }
            outcome = outcome.and(ended);
        }
        outcome
    }
}

fn now() -> EventTime {
    EventTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}

/// How long until `at`, and never longer than `most`.
fn until(at: EventTime, most: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_micros(u64::try_from((at - now()).0).unwrap_or(0)).min(most)
}
