//! The curated layer over lakes that were archived from random logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod compaction;
mod erase;
mod export;
mod sql;

use std::sync::Arc;

use lake::{Lake, Progress, Wanted};
use processor::backtest::write_inputs;
use processor::objects::{LocalObjects, Objects};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, PatientId, Reading, ReadingId, Void};

pub const INSTALLATION: &str = "8c0ffee";

/// Numbers of a seed that is printed: set VIGIL_TEST_SEED to repeat a run.
pub fn random() -> StdRng {
    let seed = std::env::var("VIGIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| rand::rng().random());
    println!("VIGIL_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

pub fn start() -> EventTime {
    EventTime::parse("2026-01-20T22:00:00Z").unwrap()
}

pub fn reading(patient: &str, metric: Metric, at: EventTime, value: f64) -> Reading {
    let device = DeviceId::parse(&format!("{patient}-ox")).unwrap();
    Reading {
        id: ReadingId::new(&device, metric, at, None),
        patient: PatientId::parse(patient).unwrap(),
        device,
        metric,
        value,
        at,
        stamped_at: at,
        received_at: at + Micros(1_234_567),
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

pub fn void(of: &Reading, moved_to: Option<&str>) -> Void {
    Void {
        reading: of.id,
        patient: of.patient.clone(),
        metric: of.metric,
        at: of.at,
        reason: "wrong finger".to_owned(),
        author: "nurse".to_owned(),
        moved_to: moved_to.map(|patient| PatientId::parse(patient).unwrap()),
    }
}

/// A folder with a lake whose raw inputs grow.
pub struct Ward {
    pub folder: tempfile::TempDir,
    pub objects: Arc<dyn Objects>,
    log: Vec<(Arrived, PatientId, Input)>,
}

impl Default for Ward {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder.path()).unwrap());
        Self { folder, objects, log: Vec::new() }
    }
}

impl Ward {
    pub fn lake(&self) -> Lake {
        Lake::open(self.folder.path()).unwrap()
    }

    /// What arrived then. What was archived before stays as it is: a file has one day of arrival.
    pub fn arrives(&mut self, at: EventTime, input: Input) {
        let patient = input.patient().unwrap().clone();
        self.log.push((Arrived(at.0), patient, input));
    }

    /// Everything that arrived before the day of the newest stands in files; call it with whole days.
    pub fn archive(&self) {
        write_inputs(&self.objects, 3, self.log.iter().cloned()).unwrap();
    }

    pub fn log(&self) -> impl Iterator<Item = &Input> {
        self.log.iter().map(|(_, _, input)| input)
    }

    pub fn wanted(&self) -> Wanted {
        Wanted { installation: INSTALLATION.to_owned(), now: start(), horizon: Micros::hours(2), anew: false, store: None }
    }

    pub fn compact(&self) -> lake::Compacted {
        lake::compact(&self.lake(), &self.wanted(), &Progress::default()).unwrap()
    }

    pub fn verified(&self) -> lake::Verified {
        lake::verify(&self.lake(), Some(INSTALLATION), &Progress::default()).unwrap()
    }
}
