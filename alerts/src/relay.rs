//! Settings and rules on their way from the store's outbox into `vigil.inputs`.
//!
//! A row leaves the outbox only when the journal has it, in every partition it goes to; a crash in between appends it again, and the
//! engine drops a version it has. Once a day all current ones are appended anew, so that retention never removes the only copy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use journal::{Journal, Receipt, Topic};
use metrics::counter;
use schemas::{EventTime, Micros, Partition, PatientId, partition_of};
use store::{Store, lease};
use tokio_util::sync::CancellationToken;

use crate::{AlertsError, names, now};

/// Another process may have written one.
const POLL: Duration = Duration::from_millis(250);
const LEASE: Micros = Micros::seconds(30);
const AT_ONCE: u32 = 256;
const DAILY: Micros = Micros::days(1);
/// How often it is looked whether a day is over.
const LOOK: Duration = Duration::from_secs(60);
/// When all current ones were last appended, in µs: in the store's meta.
const COPIED_AT: &str = "alerts.inputs_copied_at";
const COPIES: &str = "alerts.inputs_copied";

#[derive(Clone)]
pub(crate) struct Relay {
    journal: Arc<dyn Journal>,
    store: Store,
    owner: String,
}

impl Relay {
    pub fn new(journal: Arc<dyn Journal>, store: Store, owner: String) -> Self {
        Self { journal, store, owner }
    }

    pub async fn run(self, stop: CancellationToken) -> Result<(), AlertsError> {
        let outcome = tokio::select! {
            // what was appended and not yet reported is appended again by the next one
            () = stop.cancelled() => Ok(()),
            outcome = self.relay() => outcome,
        };
        if outcome.is_ok() {
            self.store.outbox_release(&self.owner).await?;
            lease::release(&self.store, COPIES, &self.owner).await?;
        }
        outcome
    }

    async fn relay(&self) -> Result<(), AlertsError> {
        let mut changes = self.store.changes();
        let mut looked: Option<tokio::time::Instant> = None;
        loop {
            changes.mark_unchanged();
            let moved = match self.store.outbox_waiting().await? {
                0 => 0,
                _ => self.outbox().await?,
            };
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                self.copies().await?;
                looked = Some(tokio::time::Instant::now());
            }
            if moved == AT_ONCE as usize {
                continue;
            }
            tokio::select! {
                // its sender lives as long as our store does
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// How many rows were moved; 0 also when another relay is at it.
    async fn outbox(&self) -> Result<usize, AlertsError> {
        let rows = self.store.outbox_claim(&self.owner, now(), LEASE, AT_ONCE).await?;
        let mut receipts = Vec::with_capacity(rows.len());
        for row in &rows {
            receipts.push((row.id, self.append(row.patient.as_ref(), &row.input).await));
        }
        let (mut done, mut failed) = (Vec::new(), None);
        for (id, receipts) in receipts {
            match durable(receipts).await {
                // a later version must not be reported before an earlier one is in
                Ok(()) if failed.is_none() => done.push(id),
                Ok(()) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if !done.is_empty() {
            self.store.outbox_done(&self.owner, &done).await?;
            counter!(names::RELAYED, "why" => "changed").increment(done.len() as u64);
        }
        failed.map_or(Ok(done.len()), Err)
    }

    async fn copies(&self) -> Result<(), AlertsError> {
        let copied_at = |text: Option<String>| text.and_then(|text| text.parse().ok()).map(EventTime);
        let due = |at: Option<EventTime>| at.is_none_or(|at| now() - at >= DAILY);
        if !due(copied_at(self.store.meta(COPIED_AT).await?)) {
            return Ok(());
        }
        let owner = &self.owner;
        let mine = self.store.transaction(|tx| Box::pin(async move { lease::take(tx, COPIES, owner, now(), LEASE).await })).await?;
        if !mine {
            return Ok(());
        }
        let began = now();
        let mut receipts = Vec::new();
        for (patient, input) in self.store.all_current().await? {
            receipts.extend(self.append(patient.as_ref(), &input).await);
        }
        let count = receipts.len();
        durable(receipts).await?;
        self.store.set_meta(COPIED_AT, &began.0.to_string()).await?;
        lease::release(&self.store, COPIES, owner).await?;
        counter!(names::RELAYED, "why" => "daily").increment(count as u64);
        tracing::info!(records = count, "current settings and rules were appended again");
        Ok(())
    }

    /// A patient's to the patient's partition, anything else to every one.
    async fn append(&self, patient: Option<&PatientId>, input: &Bytes) -> Vec<Receipt> {
        let partitions = self.journal.partitions();
        let (to, key) = match patient {
            Some(patient) => (vec![partition_of(patient.as_bytes(), partitions)], patient.as_bytes()),
            None => ((0..partitions).map(Partition).collect(), &b""[..]),
        };
        let mut receipts = Vec::with_capacity(to.len());
        for partition in to {
            receipts.push(append(&*self.journal, partition, key, input.clone()).await);
        }
        receipts
    }
}

async fn durable(receipts: Vec<Receipt>) -> Result<(), AlertsError> {
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}

/// Waits for room.
pub(crate) async fn append(journal: &dyn Journal, partition: Partition, key: &[u8], value: Bytes) -> Receipt {
    loop {
        match journal.append(Topic::Inputs, partition, key, value.clone()) {
            Ok(receipt) => return receipt,
            Err(journal::Full) => journal.ready().await,
        }
    }
}
