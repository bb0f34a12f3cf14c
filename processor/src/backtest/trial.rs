//! One partition through an engine for each rule set.

use std::sync::Arc;

use engine::{Arrival, Engine, Output, Stats};
use schemas::{Arrived, EventTime, Input, Offset, Partition, RuleSet};

use super::alerts::Alerts;
use super::exposure::Exposure;
use super::stream::{Read, stream};
use super::{BacktestError, Plan, Progress, Rules};
use crate::lake::RawFile;
use crate::objects::Objects;

/// What one partition adds.
pub struct Part {
    pub read: Read,
    pub exposure: Exposure,
    /// `None`: nobody's inputs were wanted.
    pub first_arrived: Option<Arrived>,
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
        let clock = self.engine.clock();
        for output in self.engine.apply(arrivals) {
            if let Output::Transition(transition) = output {
                let cause = arrivals.partition_point(|arrival| arrival.offset < transition.cause.offset);
                let before = cause.checked_sub(1).and_then(|at| arrivals.get(at)).map_or(clock, |arrival| arrival.arrived_at);
                self.alerts.hear(&transition, before);
            }
        }
    }

    /// What was due by then, although nothing came.
    fn end(&mut self, clock: Arrived) {
        self.hear(&[Arrival { offset: self.engine.next(), arrived_at: clock, input: Input::Tick }]);
    }
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
    let mut lanes: Vec<Lane<'_>> = rules.iter().map(|rules| Lane::new(config, rules)).collect();
    let mut exposure = Exposure::default();
    let mut first_arrived = None;
    let mut hear = |mut arrivals: Vec<Arrival>| {
        let Some(first) = arrivals.first().map(|first| first.arrived_at) else { return };
        if first_arrived.is_none() {
            first_arrived = Some(first);
            let activated = first.max(plan.begin()).as_event();
            lanes.iter_mut().for_each(|lane| lane.begin(first, activated));
        }
        exposure.see(&arrivals, plan.from);
        if let Some(metrics) = &plan.metrics {
            arrivals.retain(|arrival| !matches!(&arrival.input, Input::Reading(reading) if !metrics.contains(&reading.metric)));
        }
        for arrival in &mut arrivals {
            arrival.offset = arrival.offset.next();
        }
        lanes.iter_mut().for_each(|lane| lane.apply(&arrivals));
    };
    let read = stream(objects, plan, partition, files, progress, &mut hear)?;
    if first_arrived.is_some() {
        lanes.iter_mut().for_each(|lane| lane.end(read.clock(plan)));
    }
    let lanes = lanes.into_iter().map(|lane| (lane.alerts, lane.engine.stats())).collect();
    Ok(Part { read, exposure, first_arrived, lanes })
}
