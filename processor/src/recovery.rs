//! What the journal no longer has is replayed from the lake.

use engine::Output;
use journal::Topic;
use metrics::counter;
use schemas::{AlertId, Cause, IdError, LatePolicy, Offset, Priority, RuleId, Transition, TransitionKind};

use crate::lake::{self, Inputs, LakeError};
use crate::metrics as names;
use crate::run::ProcessorError;
use crate::worker::{Applied, Worker, apply};

/// The rule id under which a rebuilt gap is announced.
const GAP_RULE: &str = "vigil-gap";

impl Worker {
    /// Retention passed the snapshot, or the journal is not the one it was taken with.
    pub(crate) async fn recover(&mut self, wanted: Offset, earliest: Offset) -> Result<(), ProcessorError> {
        let range = self.journal.range(Topic::Inputs, self.partition).await?;
        if wanted > range.next {
            return Err(ProcessorError::Ahead { partition: self.partition, wanted, next: range.next });
        }
        let (from, partition) = (self.next(), self.partition);
        tracing::error!(%partition, %from, to = %earliest, "the journal no longer has what the newest snapshot needs; it is read from the lake");
        counter!(names::GAPS, "partition" => partition.to_string()).increment(1);
        let gap = |lake: String| ProcessorError::Gap { partition, wanted: from, earliest, lake };
        let objects = self.objects.clone();
        let mut inputs = tokio::task::spawn_blocking(move || lake::inputs(objects, partition, from)).await?.map_err(|error| gap(error.to_string()))?;
        while self.next() < earliest {
            let Some(engine) = self.take_engine() else { return Ok(()) };
            let (rest, piece) = tokio::task::spawn_blocking(move || {
                let piece = piece(&mut inputs, engine);
                (inputs, piece)
            })
            .await?;
            inputs = rest;
            match piece.map_err(|error| gap(error.to_string()))? {
                Some(applied) => {
                    counter!(names::REBUILT, "partition" => partition.to_string()).increment(applied.inputs);
                    self.speak(applied).await?;
                }
                None => return Err(gap(format!("it ends at {}", inputs.next_offset()))),
            }
            if self.snapshot_due() {
                self.snapshot().await?;
            }
        }
        self.announce(from).await?;
        tracing::warn!(%partition, %from, to = %self.next(), "the gap is rebuilt from the lake");
        self.start();
        Ok(())
    }
}

impl Worker {
    /// A technical alarm about the partition, raised and over: what happened is known and mended, and somebody must ask why.
    ///
    /// It is no output of the engine (P1 speaks of those): its cause stands behind every output of the inputs that were rebuilt, and before
    /// those of the next. Said again after a crash it is the same alert.
    async fn announce(&mut self, from: Offset) -> Result<(), ProcessorError> {
        let to = self.next();
        let (Ok([raised, cleared]), partition) = (self.gap_alert(from, to), self.partition) else {
            tracing::error!(partition = %self.partition, "the gap cannot be announced as an alert");
            return Ok(());
        };
        tracing::info!(%partition, alert = %raised.alert, "technical alarm raised");
        self.append(&Output::Transition(raised)).await?;
        self.append(&Output::Transition(cleared)).await
    }

    fn gap_alert(&self, from: Offset, to: Offset) -> Result<[Transition; 2], IdError> {
        let patient = schemas::canary_patient(self.partition, self.journal.partitions())?;
        let rule = RuleId::parse(GAP_RULE)?;
        let clock = self.clock();
        let last = Offset(to.0.saturating_sub(1));
        let raised = Transition {
            cause: Cause { offset: last, ordinal: u32::MAX - 1 },
            kind: TransitionKind::Raised,
            alert: AlertId::by_offset(&patient, &rule, from),
            patient,
            rule,
            rule_name: "Gap in the journal".to_owned(),
            rule_version: 0,
            priority: Priority::Medium,
            at: clock.as_event(),
            since: clock.as_event(),
            heard_at: clock,
            late: false,
            late_policy: LatePolicy::Page,
            pages: true,
            readings: 0,
            evidence: Vec::new(),
            summary: format!("partition {}: inputs {from} to {} were gone from the journal and came from the lake", self.partition, last),
            reason: "retention passed the newest snapshot".to_owned(),
            holds: true,
            technical: true,
            settings_version: 0,
            shadow: false,
        };
        let cleared = Transition {
            cause: Cause { offset: last, ordinal: u32::MAX },
            kind: TransitionKind::Cleared,
            reason: "rebuilt from the lake".to_owned(),
            ..raised.clone()
        };
        Ok([raised, cleared])
    }
}

/// The next inputs of the lake, applied; `None` at its end. Blocking.
fn piece(inputs: &mut Inputs, engine: Box<engine::Engine>) -> Result<Option<Applied>, LakeError> {
    match inputs.next() {
        Some(arrivals) => Ok(Some(apply(engine, &arrivals?))),
        None => Ok(None),
    }
}
