//! Timers that are due: each fires in one transaction with what it does (A3).

use std::time::Duration;

use metrics::counter;
use schemas::Micros;
use store::episodes::What;
use store::timers::{REPAGE, Timer};
use store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::episode::Policy;
use crate::escalation::{Fired, fire};
use crate::{AlertsError, names, now, until};

/// Another process may have added one.
const POLL: Duration = Duration::from_secs(1);
/// For one transaction; after it another process may fire the timer.
const LEASE: Micros = Micros::seconds(30);
const AT_ONCE: u32 = 16;

#[derive(Clone)]
pub(crate) struct Timers {
    store: Store,
    owner: String,
    policy: Policy,
}

impl Timers {
    pub fn new(store: Store, owner: String, policy: Policy) -> Self {
        Self { store, owner, policy }
    }

    pub async fn run(self, stop: CancellationToken) -> Result<(), AlertsError> {
        let mut changes = self.store.changes();
        loop {
            changes.mark_unchanged();
            // a look that only reads: a claim is a commit, and would wake everyone who waits for one
            let next = self.store.next_timer().await?;
            let pause = next.map_or(POLL, |due| until(due, POLL));
            if pause.is_zero() {
                for timer in self.store.claim_timers(&self.owner, now(), LEASE, AT_ONCE).await? {
                    match self.fire(&timer).await {
                        Ok(()) => {}
                        Err(error) if error.is_transient() => return Err(error.into()),
                        // this one fires again when its lease is over; the others must not wait for it
                        Err(error) => tracing::error!(alert = %timer.alert, %error, "a timer could not be fired"),
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // its sender lives as long as our store does
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn fire(&self, timer: &Timer) -> Result<(), StoreError> {
        let (owner, policy, now) = (&self.owner, &self.policy, now());
        let paged = self
            .store
            .transaction(|tx| {
                Box::pin(async move {
                    let episode = tx.episode(timer.alert).await?;
                    let told = tx.notifications(timer.alert).await?;
                    let fired = if timer.kind == REPAGE { fire(&episode, &told, policy, now) } else { Fired::Over };
                    let Fired::Again { number, notifications, due } = fired else {
                        tx.finish_timer(&timer.id, owner).await?;
                        return Ok(false);
                    };
                    if !tx.reschedule_timer(&timer.id, owner, due).await? || notifications.is_empty() {
                        return Ok(false);
                    }
                    for notification in &notifications {
                        tx.add_notification(notification).await?;
                    }
                    let note = format!("nobody has taken it: page {number}");
                    tx.add_history(timer.alert, now, What::Escalated, None, Some(&note)).await?;
                    Ok(true)
                })
            })
            .await?;
        if paged {
            counter!(names::REPAGES).increment(1);
        }
        Ok(())
    }
}
