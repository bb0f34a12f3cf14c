//! Notifications that are due, sent through their channels under a lease.
//!
//! A process that dies while it sends leaves a lease that runs out; another sends again under the same key. What fails is tried again
//! with growing pauses until [`GIVE_UP`]; the history of the alert says when a page arrived, when one first failed, and when one was
//! given up.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use schemas::{Micros, Priority};
use store::episodes::{Episode, What};
use store::notifications::Notification;
use store::{Store, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::channels::{Channels, Undelivered};
use crate::episode::{CLEARED, PAGE, WITHDRAWN};
use crate::escalation::{GIVE_UP, Turn, backoff, is_page, turn};
use crate::text::{Message, message};
use crate::{AlertsError, names, now, until};

const POLL: Duration = Duration::from_secs(1);
/// Longer than [`crate::channels::TOTAL`] and the transactions around it.
const LEASE: Micros = Micros::seconds(30);
/// Being sent at once: a receiver that hangs holds its few for 15 s each, and the others go on.
const AT_ONCE: usize = 256;
/// What is being sent at shutdown has this long; then its lease runs out and another process sends it again.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Sender {
    store: Store,
    owner: String,
    channels: Arc<Channels>,
    dashboard_url: Arc<str>,
}

impl Sender {
    pub fn new(store: Store, owner: String, channels: Channels, dashboard_url: String) -> Self {
        Self { store, owner, channels: Arc::new(channels), dashboard_url: dashboard_url.into() }
    }

    pub async fn run(self, stop: CancellationToken) -> Result<(), AlertsError> {
        let mut flying = JoinSet::new();
        let outcome = self.send_all(&mut flying, &stop).await;
        let drained = tokio::time::timeout(DRAIN, async { while flying.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::info!(pending = flying.len(), "notifications were being sent at shutdown; they are sent again under the same key");
        }
        outcome
    }

    async fn send_all(&self, flying: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), AlertsError> {
        let mut changes = self.store.changes();
        loop {
            changes.mark_unchanged();
            while flying.try_join_next().is_some() {}
            let room = AT_ONCE - flying.len().min(AT_ONCE);
            // a look that only reads: a claim is a commit, and would wake everyone who waits for one
            let pause = match self.store.next_notification().await? {
                Some(at) if room > 0 => until(at, POLL),
                _ => POLL,
            };
            if pause.is_zero() {
                let limit = u32::try_from(room).unwrap_or(u32::MAX);
                for notification in self.store.claim_notifications(&self.owner, now(), LEASE, limit).await? {
                    let sender = self.clone();
                    flying.spawn(async move { sender.send(notification).await });
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // its sender lives as long as our store does
                Ok(()) = changes.changed() => {}
                Some(_) = flying.join_next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn send(&self, n: Notification) {
        if let Err(error) = self.attempt(&n).await {
            // its lease runs out, and it is sent again under the same key
            tracing::error!(alert = %n.alert, channel = %n.channel, %error, "a notification could not be recorded");
        }
    }

    async fn attempt(&self, n: &Notification) -> Result<(), StoreError> {
        let episode = self.store.episode(n.alert).await?;
        let told = self.store.notifications(n.alert).await?;
        match turn(n, &episode, &told, now()) {
            Turn::Send => {}
            Turn::Wait(until) => {
                self.store.notification_retry(&n.id, &self.owner, "waits for the page it is about", now(), until).await?;
                return Ok(());
            }
            Turn::Drop(why) => {
                self.store.notification_cancelled(&n.id, &self.owner, why, now()).await?;
                return Ok(());
            }
        }
        let ward = match self.store.patient(&episode.patient).await {
            Ok(patient) => Some(self.store.ward(&patient.ward).await?),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let message = message(n, &episode, ward.as_ref(), &self.dashboard_url);
        match self.channels.deliver(&n.channel, &message).await {
            Ok(()) => self.arrived(n, &episode, &message).await,
            Err(undelivered) => self.failed(n, undelivered).await,
        }
    }

    async fn arrived(&self, n: &Notification, episode: &Episode, message: &Message) -> Result<(), StoreError> {
        let (owner, now) = (&self.owner, now());
        let recorded = self
            .store
            .transaction(|tx| {
                Box::pin(async move {
                    if !tx.notification_sent(&n.id, owner, None, now).await? {
                        return Ok(false);
                    }
                    if is_page(n) {
                        tx.add_history(n.alert, now, What::Paged, None, Some(&n.channel)).await?;
                    }
                    if n.kind == PAGE && message.says_over() {
                        for other in tx.notifications(n.alert).await? {
                            if other.channel == n.channel && [CLEARED, WITHDRAWN].contains(&other.kind.as_str()) {
                                tx.cancel_notification(&other.id, "the page said so", now).await?;
                            }
                        }
                    }
                    Ok(true)
                })
            })
            .await?;
        if !recorded {
            tracing::warn!(alert = %n.alert, channel = %n.channel, "a notification was sent after its lease was over: the receiver may get it twice, under one key");
            return Ok(());
        }
        counter!(names::SENT, "channel" => n.channel.clone(), "kind" => n.kind.clone()).increment(1);
        if n.kind == PAGE {
            let delay = (now - episode.heard_at.as_event()).0.max(0) as f64 / 1e6;
            histogram!(names::DELAY, "priority" => word(episode.priority)).record(delay);
        }
        Ok(())
    }

    async fn failed(&self, n: &Notification, undelivered: Undelivered) -> Result<(), StoreError> {
        let (owner, now) = (&self.owner, now());
        let Undelivered { why, for_good } = &undelivered;
        let given_up = *for_good || now - n.created_at >= GIVE_UP;
        let again = now + backoff(n.attempts, rand::random());
        let note = format!("{}: {why}{}", n.channel, if given_up { "; given up" } else { "; tried again" });
        let note = &note;
        self.store
            .transaction(|tx| {
                Box::pin(async move {
                    let mine = match given_up {
                        true => tx.notification_failed(&n.id, owner, why, now).await?,
                        false => tx.notification_retry(&n.id, owner, why, now, again).await?,
                    };
                    // each of a day's attempts would bury the rest of the history
                    if mine && is_page(n) && (given_up || n.attempts == 1) {
                        tx.add_history(n.alert, now, What::PageFailed, None, Some(note)).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        counter!(names::FAILED, "channel" => n.channel.clone(), "final" => if given_up { "yes" } else { "no" }).increment(1);
        if given_up {
            tracing::error!(alert = %n.alert, channel = %n.channel, kind = %n.kind, attempts = n.attempts, why, "a notification is given up");
        } else {
            tracing::warn!(alert = %n.alert, channel = %n.channel, kind = %n.kind, attempts = n.attempts, again_at = %again, why, "a notification was not delivered");
        }
        Ok(())
    }
}

const fn word(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "high",
        Priority::Medium => "medium",
        Priority::Low => "low",
    }
}

// a lease that ends during an attempt would send everything twice
const _: () = assert!(LEASE.0 as u128 > crate::channels::TOTAL.as_micros() + 5_000_000);
