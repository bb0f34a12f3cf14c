//! The engine by its words: SEMANTICS case by case, and the invariants as properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod days;
mod diff;
mod document;
mod errors;
mod formats;
mod invariants;
mod news2;
mod packs;
mod properties;
mod semantics;
mod shadow;
mod words;

use std::collections::BTreeMap;

use engine::{Arrival, Config, Engine, Output};
use schemas::{
    Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, Offset, PatientId, Pause, Reading, ReadingId, RuleSet, Settings, Transition,
    TransitionKind, Void,
};

/// 10:00 of some day.
pub const TEN: i64 = 1_795_168_800_000_000;

pub fn minutes(n: f64) -> i64 {
    TEN + (n * 60e6) as i64
}

pub fn reading(metric: Metric, value: f64, at: i64) -> Reading {
    let device = DeviceId::parse(&format!("device-{metric}")).unwrap();
    Reading {
        id: ReadingId::new(&device, metric, EventTime(at), None),
        patient: PatientId::parse("ada").unwrap(),
        device,
        metric,
        value,
        at: EventTime(at),
        stamped_at: EventTime(at),
        received_at: EventTime(at),
        clock: ClockState::AsSent,
        boot: None,
        seq: None,
        typed: false,
        test: false,
        value_as_sent: value,
        unit_as_sent: String::new(),
        author: String::new(),
        format: None,
    }
}

pub fn settings(version: u64) -> Settings {
    Settings {
        patient: PatientId::parse("ada").unwrap(),
        version,
        monitored: true,
        limits: BTreeMap::new(),
        limits_until: BTreeMap::new(),
        oxygen_l_min: None,
        news2_scale: 1,
        pauses: Vec::<Pause>::new(),
        expected_interval: BTreeMap::new(),
        enrolled_at: EventTime(minutes(0.0)),
        author: "nurse".to_owned(),
    }
}

pub fn rules(toml: &str) -> Input {
    Input::RuleSet(RuleSet { version: 1, toml: toml.to_owned(), activated_at: EventTime(TEN - 1), author: String::new() })
}

/// A log of one partition, and what the engine said to it.
pub struct Log {
    pub engine: Engine,
    pub arrivals: Vec<Arrival>,
    pub outputs: Vec<Output>,
    clock: i64,
}

impl Log {
    pub fn new(toml: &str) -> Self {
        engine::compile(toml).unwrap_or_else(|errors| panic!("{errors}"));
        let mut log = Self { engine: Engine::new(Config::default()), arrivals: Vec::new(), outputs: Vec::new(), clock: TEN - 60_000_000 };
        log.input(rules(toml), TEN - 60_000_000);
        log
    }
    pub fn input(&mut self, input: Input, arrived: i64) -> &mut Self {
        self.clock = self.clock.max(arrived);
        let arrival = Arrival { offset: Offset(self.arrivals.len() as i64), arrived_at: Arrived(self.clock), input };
        self.outputs.extend(self.engine.apply(std::slice::from_ref(&arrival)));
        self.arrivals.push(arrival);
        self
    }
    /// Measured and received at the same minute past ten.
    pub fn spo2(&mut self, minute: f64, value: f64) -> &mut Self {
        self.input(Input::Reading(reading(Metric::Spo2, value, minutes(minute))), minutes(minute))
    }
    pub fn late(&mut self, metric: Metric, minute: f64, value: f64) -> &mut Self {
        let clock = self.clock + 1_000_000;
        self.input(Input::Reading(reading(metric, value, minutes(minute))), clock)
    }
    pub fn tick(&mut self, minute: f64) -> &mut Self {
        self.input(Input::Tick, minutes(minute))
    }
    pub fn void(&mut self, metric: Metric, minute: f64) -> &mut Self {
        self.void_to(metric, minute, None)
    }
    /// Takes a void back: the reading is moved to the patient it was voided of.
    pub fn unvoid(&mut self, metric: Metric, minute: f64) -> &mut Self {
        self.void_to(metric, minute, Some(reading(metric, 0.0, minutes(minute)).patient))
    }
    fn void_to(&mut self, metric: Metric, minute: f64, moved_to: Option<PatientId>) -> &mut Self {
        let reading = reading(metric, 0.0, minutes(minute));
        let void =
            Void { reading: reading.id, patient: reading.patient, metric, at: reading.at, reason: "finger".to_owned(), author: "nurse".to_owned(), moved_to };
        let clock = self.clock + 1_000_000;
        self.input(Input::Void(void), clock)
    }
    pub fn transitions(&self) -> Vec<Transition> {
        self.outputs.iter().filter_map(|o| if let Output::Transition(t) = o { Some(t.clone()) } else { None }).collect()
    }
    /// `raised 10:05`, `cleared 10:20 late` …
    pub fn told(&self) -> Vec<String> {
        let word = |kind| match kind {
            TransitionKind::Raised => "raised",
            TransitionKind::Cleared => "cleared",
            TransitionKind::Amended => "amended",
            TransitionKind::Withdrawn => "withdrawn",
        };
        self.transitions()
            .iter()
            .map(|t| {
                let since_ten = Micros(t.at.0 - TEN).as_seconds();
                let (minutes, seconds) = (since_ten.div_euclid(60), since_ten.rem_euclid(60));
                let at = if seconds == 0 { format!("{minutes}") } else { format!("{minutes}:{seconds:02}") };
                format!("{} {at}{}{}", word(t.kind), if t.late { " late" } else { "" }, if t.pages { "" } else { " quiet" })
            })
            .collect()
    }
}
