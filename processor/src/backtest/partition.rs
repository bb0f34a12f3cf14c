//! One partition, from its first file to its last, through an engine for each rule set.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::{Arrival, Engine, Output, Stats};
use schemas::{Arrived, EventTime, Input, Metric, Offset, Partition, RuleSet};

use super::alerts::Alerts;
use super::decode::Decoder;
use super::exposure::Exposure;
use super::files::OpenFile;
use super::{BacktestError, Plan, Progress, Rules};
use crate::lake::{LakeError, RawFile};
use crate::objects::Objects;
use journal::Topic;

/// What one partition adds.
pub struct Part {
    pub files: u64,
    pub rows: u64,
    pub manifest: String,
    pub exposure: Exposure,
    pub first_arrived: Arrived,
    pub last_arrived: Arrived,
    /// For each rule set.
    pub lanes: Vec<(Alerts, Stats)>,
}

/// One rule set.
struct Lane<'a> {
    rules: &'a Rules,
    engine: Engine,
    alerts: Alerts,
}

impl<'a> Lane<'a> {
    fn new(config: engine::Config, rules: &'a Rules) -> Self {
        Self { rules, engine: Engine::new(config), alerts: Alerts::default() }
    }

    /// Rules under trial stand before the first input; a rule set cannot be at an offset of the log, so every offset is one further.
    fn begin(&mut self, arrived_at: Arrived, activated_at: EventTime) {
        if let Rules::Trial(toml) = self.rules {
            let set = RuleSet { version: 1, toml: toml.clone(), activated_at, author: String::new() };
            self.hear(&[Arrival { offset: Offset(0), arrived_at, input: Input::RuleSet(set) }]);
        }
    }

    fn apply(&mut self, arrivals: &[Arrival]) {
        match self.rules {
            Rules::OfTheLog => self.hear(arrivals),
            Rules::Trial(_) => {
                for between in arrivals.split(|arrival| matches!(arrival.input, Input::RuleSet(_))) {
                    self.hear(between);
                }
            }
        }
    }

    fn hear(&mut self, arrivals: &[Arrival]) {
        for output in self.engine.apply(arrivals) {
            if let Output::Transition(transition) = output {
                self.alerts.hear(&transition);
            }
        }
    }

    /// What was due by then, although nothing came.
    fn end(&mut self, clock: Arrived) {
        self.hear(&[Arrival { offset: self.engine.next(), arrived_at: clock, input: Input::Tick }]);
    }
}

struct Reading<'a> {
    plan: &'a Plan,
    decoder: Decoder,
    lanes: Vec<Lane<'a>>,
    part: Part,
    next: Offset,
    begun: bool,
}

pub fn run(
    objects: &Arc<dyn Objects>,
    plan: &Plan,
    rules: &[Rules],
    partition: Partition,
    files: &[RawFile],
    progress: &Progress,
) -> Result<Part, BacktestError> {
    let config = engine::Config { partition, ..plan.engine };
    let part = Part {
        files: 0,
        rows: 0,
        manifest: String::new(),
        exposure: Exposure::default(),
        first_arrived: Arrived::MAX,
        last_arrived: Arrived::MIN,
        lanes: Vec::new(),
    };
    let mut reading = Reading {
        plan,
        decoder: Decoder::new(partition, plan.patients.clone()),
        lanes: rules.iter().map(|rules| Lane::new(config, rules)).collect(),
        part,
        next: files.first().map_or(Offset(0), |file| file.first),
        begun: false,
    };
    let mut ended = false;
    for file in files {
        if ended {
            break;
        }
        if file.first > reading.next {
            return Err(LakeError::Gap { topic: Topic::Inputs, partition, from: reading.next, to: file.first }.into());
        }
        ended = reading.file(&OpenFile::open(objects, file)?, progress)?;
        progress.done.fetch_add(objects.size(&file.name)?, Ordering::Relaxed);
    }
    Ok(reading.end(ended))
}

impl Reading<'_> {
    /// Whether the period ended in this file.
    fn file(&mut self, file: &OpenFile, progress: &Progress) -> Result<bool, BacktestError> {
        let (mut used, mut ended) = (false, false);
        for group in 0..file.groups() {
            let (first, last) = file.arrived(group).unwrap_or((Arrived::MIN, Arrived::MAX));
            ended = first >= self.plan.to;
            if ended {
                break;
            }
            used = true;
            ended = self.group(file, group, last < self.plan.begin(), progress)?;
        }
        if used {
            self.part.files += 1;
            self.part.rows += file.rows();
            self.part.manifest += &file.fingerprint();
        }
        self.next = self.next.max(file.footer.next);
        Ok(ended)
    }

    /// Before the warm-up only what was arranged: settings, voids, rules.
    fn group(&mut self, file: &OpenFile, group: usize, arranged_only: bool, progress: &Progress) -> Result<bool, BacktestError> {
        let places = file.arranged(group)?;
        let arranged = self.decoder.arranged(&file.records(group, &places)?).ok_or_else(|| file.damaged("its records cannot be read"))?;
        if arranged_only {
            let known: Vec<Arrival> = arranged.into_iter().filter(|arrival| arrival.offset >= self.next).collect();
            self.apply(known);
            return Ok(false);
        }
        let mut arranged = arranged.into_iter();
        for batch in file.rows_of(group)? {
            if progress.is_cancelled() {
                return Err(BacktestError::Cancelled);
            }
            let batch = batch.map_err(|error| file.damaged(error))?;
            let rows = self
                .decoder
                .rows(&batch, &mut arranged, self.next, self.plan.to)
                .ok_or_else(|| file.damaged("a column of raw/inputs is missing or of another type"))?;
            let (clock, ended) = (rows.clock, rows.ended);
            self.apply(rows.arrivals);
            self.part.last_arrived = self.part.last_arrived.max(clock.unwrap_or(Arrived::MIN));
            if ended {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn apply(&mut self, mut arrivals: Vec<Arrival>) {
        let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else { return };
        self.next = last.offset.next();
        self.part.last_arrived = self.part.last_arrived.max(last.arrived_at);
        if !self.begun {
            self.begun = true;
            self.part.first_arrived = first.arrived_at;
            let activated = first.arrived_at.max(self.plan.begin()).as_event();
            self.lanes.iter_mut().for_each(|lane| lane.begin(first.arrived_at, activated));
        }
        self.part.exposure.see(&arrivals, self.plan.from);
        if let Some(metrics) = &self.plan.metrics {
            let decides = |metric: Metric| metrics.contains(&metric);
            arrivals.retain(|arrival| !matches!(&arrival.input, Input::Reading(reading) if !decides(reading.metric)));
        }
        for arrival in &mut arrivals {
            arrival.offset = arrival.offset.next();
        }
        self.lanes.iter_mut().for_each(|lane| lane.apply(&arrivals));
    }

    fn end(mut self, ended: bool) -> Part {
        let clock = if ended { self.plan.to } else { self.part.last_arrived };
        if self.begun {
            self.lanes.iter_mut().for_each(|lane| lane.end(clock));
        }
        self.part.lanes = self.lanes.into_iter().map(|lane| (lane.alerts, lane.engine.stats())).collect();
        self.part
    }
}
