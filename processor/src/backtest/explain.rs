//! Why one rule had or had not raised for one patient: the patient's history through the engine again, up to what was known then.

use std::sync::Arc;

use engine::{Arrival, Engine, Explanation, Output};
use journal::{Event, Journal, Mode, ReadError, Record, Start, Topic};
use schemas::{Arrived, EventTime, Input, Metric, Micros, Offset, Partition, PatientId, RuleId, Transition, TransitionKind, partition_of};
use serde::Serialize;

use super::stream::stream;
use super::{BacktestError, Plan, Progress, WarmUp, files};
use crate::objects::Objects;

/// For so long after the question it is looked at what came late for it.
const LATER: Micros = Micros::hours(6);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub patient: PatientId,
    pub rule: RuleId,
    /// What arrived later was not known.
    pub at: Arrived,
}

/// The answer, with what came before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Past {
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What the rule had told of the patient, the newest last, at most twenty.
    pub told: Vec<Told>,
    /// Measured before and not known then: it arrived within six hours.
    pub later: Vec<Later>,
    /// The newest record that was read: when it is before the question, the rest had not been written yet, or is not readable from here.
    pub read_to: Option<Arrived>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    pub what: TransitionKind,
    pub at: EventTime,
    pub heard_at: Arrived,
    pub late: bool,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Later {
    pub metric: Metric,
    pub at: EventTime,
    pub value: f64,
    pub arrived_at: Arrived,
}

#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("there was no rule `{rule}` in force at {at}; there were {known}")]
    NoRule { rule: RuleId, at: Arrived, known: String },
    #[error("neither the lake nor the journal has anything that arrived before {at}")]
    Nothing { at: Arrived },
    #[error(transparent)]
    Backtest(#[from] BacktestError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the journal cannot be read: {0}")]
    Open(#[from] journal::OpenError),
    #[error("the lake ends at {lake}, the journal begins at {journal}: what lies between is in neither")]
    Gap { lake: Offset, journal: Offset },
    #[error("a worker thread ended early")]
    Worker(#[from] tokio::task::JoinError),
}

/// The lake, and behind it the journal where there is one.
///
/// # Errors
/// When the rule was not in force, or what is needed cannot be read.
pub async fn explain(
    objects: Arc<dyn Objects>,
    journal: Option<Arc<dyn Journal>>,
    engine: engine::Config,
    partitions: u32,
    asked: Asked,
    warm_up: WarmUp,
) -> Result<Past, ExplainError> {
    let partition = partition_of(asked.patient.as_bytes(), partitions);
    let mut witness = Witness::new(engine::Config { partition, ..engine }, asked);
    witness = tokio::task::spawn_blocking(move || witness.read_lake(&objects, partition, warm_up)).await??;
    if let Some(journal) = journal {
        witness = witness.read_journal(&journal, partition).await?;
    }
    tokio::task::spawn_blocking(move || witness.answer()).await?
}

/// One patient's engine, and what else is to be said.
struct Witness {
    engine: Engine,
    asked: Asked,
    told: Vec<Transition>,
    later: Vec<Later>,
    next: Option<Offset>,
    read_to: Option<Arrived>,
}

impl Witness {
    fn new(config: engine::Config, asked: Asked) -> Self {
        Self { engine: Engine::new(config), asked, told: Vec::new(), later: Vec::new(), next: None, read_to: None }
    }

    fn read_lake(mut self, objects: &Arc<dyn Objects>, partition: Partition, warm_up: WarmUp) -> Result<Self, ExplainError> {
        let after = self.asked.at + Micros(1);
        let plan =
            Plan { from: after, to: after + LATER, warm_up, patients: Some([self.asked.patient.clone()].into()), ..Plan::new(engine::Config::default()) };
        let all = files::of_inputs(&**objects).map_err(BacktestError::from)?;
        let Some(mine) = all.get(&partition) else { return Ok(self) };
        let last_date = files::date(plan.to);
        let mine: Vec<_> = mine.iter().filter(|file| file.date <= last_date).cloned().collect();
        let read = stream(objects, &plan, partition, &mine, &Progress::default(), &mut |arrivals| self.hear(arrivals))?;
        if read.files > 0 {
            self.next = Some(read.next);
            self.read_to = Some(read.clock(&plan));
        }
        Ok(self)
    }

    /// What is not in the lake yet.
    async fn read_journal(mut self, journal: &Arc<dyn Journal>, partition: Partition) -> Result<Self, ExplainError> {
        let range = journal.range(Topic::Inputs, partition).await?;
        let from = self.next.unwrap_or(range.earliest);
        let enough = self.read_to.is_some_and(|read_to| read_to > self.asked.at + LATER);
        if from >= range.next || enough {
            return Ok(self);
        }
        if from < range.earliest {
            return Err(ExplainError::Gap { lake: from, journal: range.earliest });
        }
        let mut reader = journal.reader(Topic::Inputs, Mode::Follow)?;
        loop {
            match reader.next().await? {
                Event::Assigned { partition: of, .. } if of == partition => reader.start(partition, Start::At(from)),
                Event::Batch { partition: of, records, .. } if of == partition => {
                    let ended = records.last().is_none_or(|last| last.offset.next() >= range.next);
                    self = tokio::task::spawn_blocking(move || self.records(partition, records)).await?;
                    if ended || self.read_to.is_some_and(|read_to| read_to > self.asked.at + LATER) {
                        return Ok(self);
                    }
                }
                Event::OutOfRange { earliest, .. } => return Err(ExplainError::Gap { lake: from, journal: earliest }),
                _ => {}
            }
        }
    }

    fn records(mut self, partition: Partition, records: Vec<Record>) -> Self {
        self.read_to = records.last().map(|last| last.arrived_at).or(self.read_to);
        let arrival = |record: Record| {
            let input = crate::decode(partition, record.offset, &record.value);
            let mine = input.patient().is_none_or(|patient| *patient == self.asked.patient);
            mine.then_some(Arrival { offset: record.offset, arrived_at: record.arrived_at, input })
        };
        let arrivals = records.into_iter().filter_map(arrival).collect();
        self.hear(arrivals);
        self
    }

    fn hear(&mut self, arrivals: Vec<Arrival>) {
        let known = arrivals.partition_point(|arrival| arrival.arrived_at <= self.asked.at);
        let (before, after) = arrivals.split_at(known);
        self.apply(before);
        for arrival in after {
            let Input::Reading(reading) = &arrival.input else { continue };
            if reading.at <= self.asked.at.as_event() {
                self.later.push(Later { metric: reading.metric, at: reading.at, value: reading.value, arrived_at: arrival.arrived_at });
            }
        }
    }

    fn apply(&mut self, arrivals: &[Arrival]) {
        for output in self.engine.apply(arrivals) {
            match output {
                Output::Transition(transition) if transition.rule == self.asked.rule && transition.patient == self.asked.patient => self.told.push(transition),
                _ => {}
            }
        }
    }

    fn answer(mut self) -> Result<Past, ExplainError> {
        let Asked { patient, rule, at } = self.asked.clone();
        let read_to = self.read_to.ok_or(ExplainError::Nothing { at })?;
        // what was due by then
        self.apply(&[Arrival { offset: self.engine.next(), arrived_at: at, input: Input::Tick }]);
        let explanation = self.engine.explain(&patient, &rule).ok_or_else(|| {
            let known = self.engine.rules().rules.iter().filter(|rule| rule.id.as_str() != schemas::CANARY_RULE).map(|rule| rule.id.to_string());
            let known = known.collect::<Vec<_>>().join(", ");
            ExplainError::NoRule { rule: rule.clone(), at, known: if known.is_empty() { "none".to_owned() } else { known } }
        })?;
        let seen = |metric: Metric, measured: EventTime| {
            let mut columns = explanation.columns.iter();
            columns.any(|column| column.metric == Some(metric) && column.after.is_some_and(|after| measured > after))
        };
        self.later.retain(|later| seen(later.metric, later.at));
        let skip = self.told.len().saturating_sub(20);
        let told = self.told.iter().skip(skip).map(|t| Told { what: t.kind, at: t.at, heard_at: t.heard_at, late: t.late, reason: t.reason.clone() });
        Ok(Past { told: told.collect(), later: self.later, read_to: Some(read_to), explanation })
    }
}
