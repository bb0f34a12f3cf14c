//! The canary: a reading of nobody's, 1 and 0 in turn, to every partition each 30 s. The built-in rule on it raises and clears, the
//! transition comes back through [`crate::consumer`], and its time is what a page shows evaluation to be alive by.
//!
//! One process feeds it, under a lease; two at once would only make it sing twice.

use std::sync::Arc;
use std::time::Duration;

use journal::Journal;
use metrics::counter;
use schemas::{ClockState, DeviceId, EventTime, IdError, Input, Metric, Micros, Partition, Reading, ReadingId, canary_patient};
use store::{Store, StoreError, Tx, lease};
use tokio_util::sync::CancellationToken;

use crate::relay::append;
use crate::{AlertsError, names, now};

const EVERY: Duration = Duration::from_secs(30);
/// Who does not feed looks this often whether it should.
const LOOK: Duration = Duration::from_secs(10);
/// Two feeds; a page calls evaluation stopped at 150 s, so a process that dies is replaced in time.
const LEASE: Micros = Micros::seconds(60);
/// Receipts that take longer are not waited for: the next feed is due.
const PATIENCE: Duration = Duration::from_secs(20);
const DEVICE: &str = "vigil-canary";
const FEED: &str = "canary";
/// The value fed last, in the store's meta: the next one differs, whoever feeds it.
const VALUE: &str = "canary.value";

#[derive(Clone)]
pub(crate) struct Canary {
    journal: Arc<dyn Journal>,
    store: Store,
    owner: String,
}

impl Canary {
    pub fn new(journal: Arc<dyn Journal>, store: Store, owner: String) -> Self {
        Self { journal, store, owner }
    }

    pub async fn run(self, stop: CancellationToken) -> Result<(), AlertsError> {
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            outcome = self.feed() => outcome,
        };
        if outcome.is_ok() {
            lease::release(&self.store, FEED, &self.owner).await?;
        }
        outcome
    }

    async fn feed(&self) -> Result<(), AlertsError> {
        let owner = &self.owner;
        loop {
            let at = now();
            let value = self.store.transaction(|tx| Box::pin(async move { turn(tx, owner, at).await })).await?;
            let Some(value) = value else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let next = tokio::time::Instant::now() + EVERY;
            match tokio::time::timeout(PATIENCE, self.sing(value, at)).await {
                Ok(sung) => sung?,
                Err(_) => tracing::warn!("the journal has not taken the canary for 20 s: evaluation looks stopped, and inputs may be waiting as well"),
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn sing(&self, value: f64, at: EventTime) -> Result<(), AlertsError> {
        let partitions = self.journal.partitions();
        let mut receipts = Vec::new();
        for partition in (0..partitions).map(Partition) {
            let reading = reading(partition, partitions, value, at)?;
            let key = reading.patient.clone();
            receipts.push((partition, append(&*self.journal, partition, key.as_bytes(), Input::Reading(reading).encode()).await));
        }
        for (partition, receipt) in receipts {
            receipt.await?;
            counter!(names::CANARIES, "partition" => partition.to_string()).increment(1);
        }
        Ok(())
    }
}

/// The value to feed now; `None`: somebody else feeds.
async fn turn(tx: &mut Tx<'_>, owner: &str, at: EventTime) -> Result<Option<f64>, StoreError> {
    if !lease::take(tx, FEED, owner, at, LEASE).await? {
        return Ok(None);
    }
    let up = tx.meta(VALUE).await?.as_deref() != Some("1");
    tx.set_meta(VALUE, if up { "1" } else { "0" }).await?;
    Ok(Some(if up { 1.0 } else { 0.0 }))
}

fn reading(partition: Partition, partitions: u32, value: f64, at: EventTime) -> Result<Reading, IdError> {
    let device = DeviceId::parse(DEVICE)?;
    Ok(Reading {
        id: ReadingId::new(&device, Metric::Canary, at, None),
        patient: canary_patient(partition, partitions)?,
        device,
        metric: Metric::Canary,
        value,
        at,
        stamped_at: at,
        received_at: at,
        clock: ClockState::AsSent,
        boot: None,
        seq: None,
        typed: false,
        test: false,
        value_as_sent: value,
        unit_as_sent: "1".to_owned(),
        author: String::new(),
        format: None,
    })
}
