//! Timers that are due: each fires in one transaction with what it does (A3).

use std::time::Duration;

use metrics::counter;
use schemas::{EventTime, Micros};
use store::episodes::{Episode, What};
use store::timers::{REPAGE, Timer};
use store::{Store, StoreError, Tx};
use tokio_util::sync::CancellationToken;

use crate::escalation::{Again, Fired, fire};
use crate::planner::Planner;
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
    planner: Planner,
}

impl Timers {
    pub fn new(store: Store, owner: String, planner: Planner) -> Self {
        Self { store, owner, planner }
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
        let (owner, planner, now) = (&self.owner, &self.planner, now());
        let paged = self
            .store
            .transaction(|tx| {
                Box::pin(async move {
                    let episode = tx.episode(timer.alert).await?;
                    let told = tx.notifications(timer.alert).await?;
                    let plan = planner.plan(tx, &episode.patient, episode.priority, episode.care.owner.as_deref(), now).await?;
                    let fired = if timer.kind == REPAGE { fire(&episode, &told, &plan, now) } else { Fired::Over };
                    let mine = match &fired {
                        Fired::Wait(due) | Fired::Again(Again { due: Some(due), .. }) => tx.reschedule_timer(&timer.id, owner, *due).await?,
                        Fired::Over | Fired::Again(Again { due: None, .. }) => tx.finish_timer(&timer.id, owner).await?,
                    };
                    match fired {
                        Fired::Again(again) if mine => page_again(tx, &episode, &again, now).await,
                        _ => Ok(false),
                    }
                })
            })
            .await?;
        if paged {
            counter!(names::REPAGES).increment(1);
        }
        Ok(())
    }
}

/// Whether a page was added.
async fn page_again(tx: &mut Tx<'_>, episode: &Episode, again: &Again, now: EventTime) -> Result<bool, StoreError> {
    let alert = episode.alert;
    if !again.ended.is_empty() {
        let mut care = episode.care.clone();
        let mut acknowledged = episode.acknowledged.as_ref();
        for what in &again.ended {
            match what {
                What::Expired => acknowledged = None,
                _ => care.snoozed = None,
            }
            tx.add_history(alert, now, *what, None, None).await?;
        }
        tx.put_care(alert, acknowledged, &care).await?;
    }
    tx.put_rung(alert, again.rung).await?;
    if again.notifications.is_empty() {
        return Ok(false);
    }
    for notification in &again.notifications {
        tx.add_notification(notification).await?;
    }
    let people: Vec<&str> = again.notifications.iter().filter_map(|n| n.person.as_deref()).collect();
    let whom = if people.is_empty() { String::new() } else { format!(", to {}", people.join(", ")) };
    let note = format!("nobody has taken it: page {}{whom}", again.number);
    tx.add_history(alert, now, What::Escalated, None, Some(&note)).await?;
    Ok(true)
}
