//! A ward at home: every patient's devices send six values a minute, in time, with the odd episode.

use std::collections::BTreeMap;

use engine::{Arrival, DEFAULT_RULES};
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, Offset, PatientId, Reading, ReadingId, RuleSet, Settings};

const START: i64 = 1_795_168_800_000_000;
pub const METRICS: [Metric; 6] =
    [Metric::Spo2, Metric::HeartRate, Metric::RespiratoryRate, Metric::SystolicPressure, Metric::DiastolicPressure, Metric::Temperature];

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

pub struct Ward {
    patients: Vec<(String, i64)>,
    order: Vec<u32>,
    dice: Dice,
    minute: i64,
    /// In `order`, and within the message.
    place: (usize, usize),
    offset: i64,
    clock: i64,
    message: (i64, i64),
    /// One reading in so many is a resend, and as many are late.
    unruly: Option<u64>,
}

impl Ward {
    /// Its first batch holds the rules and everybody's settings.
    pub fn new(patients: usize, unruly: Option<u64>) -> (Self, Vec<Arrival>) {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let names = (0..patients).map(|number| (format!("patient-{number:06}"), dice.roll(60_000) as i64 * 1000)).collect();
        let mut ward =
            Self { patients: names, order: (0..patients as u32).collect(), dice, minute: 0, place: (0, 0), offset: 0, clock: START, message: (0, 0), unruly };
        for at in (1..ward.order.len()).rev() {
            let other = ward.dice.roll(at as u64 + 1) as usize;
            ward.order.swap(at, other);
        }
        // in the order of their phases, as they come
        let Self { order, patients, .. } = &mut ward;
        order.sort_by_key(|number| patients[*number as usize].1);
        let rules = RuleSet { version: 1, toml: DEFAULT_RULES.to_owned(), activated_at: EventTime(START), author: String::new() };
        let mut first = vec![ward.arrival(Input::RuleSet(rules))];
        for number in 0..ward.patients.len() {
            let patient = PatientId::parse(&ward.patients[number].0).unwrap();
            let settings = Settings {
                patient,
                version: 1,
                monitored: true,
                limits: [("spo2.low".to_owned(), 88.0)].into_iter().filter(|_| number % 10 == 0).collect(),
                limits_until: BTreeMap::new(),
                oxygen_l_min: None,
                news2_scale: 1,
                pauses: Vec::new(),
                expected_interval: [(Metric::Spo2, Micros::minutes(1))].into(),
                enrolled_at: EventTime(START),
                author: "nurse".to_owned(),
            };
            first.push(ward.arrival(Input::Settings(settings)));
        }
        (ward, first)
    }

    fn arrival(&mut self, input: Input) -> Arrival {
        self.offset += 1;
        Arrival { offset: Offset(self.offset - 1), arrived_at: Arrived(self.clock), input }
    }

    /// The next `count` readings, each with ids of its own as they come out of a decoder.
    pub fn readings(&mut self, count: usize) -> Vec<Arrival> {
        (0..count).map(|_| self.reading()).collect()
    }

    fn reading(&mut self) -> Arrival {
        let (turn, metric) = self.place;
        let number = self.order[turn] as usize;
        if metric == 0 {
            let at = START + self.minute * 60_000_000 + self.patients[number].1;
            let received = at + 40_000 + self.dice.roll(2_000_000) as i64;
            self.message = (at, received);
            self.clock = self.clock.max(received + 1_000 + self.dice.roll(10_000) as i64);
        }
        let (mut at, received) = self.message;
        if let Some(one_in) = self.unruly {
            match self.dice.roll(one_in) {
                // sent again
                0 => at -= 60_000_000,
                // measured and not sent until now
                1 => at -= 630_000_000 + self.dice.roll(20) as i64 * 60_000_000,
                _ => {}
            }
        }
        let patient = PatientId::parse(&self.patients[number].0).unwrap();
        let device = DeviceId::parse(&format!("{}-{number:06}", ["oximeter", "cuff", "thermometer"][[0, 0, 0, 1, 1, 2][metric]])).unwrap();
        let ill = (number as i64 + self.minute / 20) % 100 == 0;
        let noise = ((at / 60_000_000 * 7919 + number as i64 * 104_729) % 5) as f64 - 2.0;
        let metric_name = METRICS[metric];
        let value = match (metric_name, ill) {
            (Metric::Spo2, false) => 96.0 + noise,
            (Metric::Spo2, true) => 84.0 + noise,
            (Metric::HeartRate, false) => 72.0 + noise * 2.0,
            (Metric::HeartRate, true) => 136.0 + noise,
            (Metric::RespiratoryRate, _) => 15.0 + noise,
            (Metric::SystolicPressure, _) => 128.0 + noise * 3.0,
            (Metric::DiastolicPressure, _) => 79.0 + noise * 2.0,
            _ => (368.0 + noise) / 10.0,
        };
        self.place = if metric + 1 == METRICS.len() { (turn + 1, 0) } else { (turn, metric + 1) };
        if self.place.0 == self.order.len() {
            self.place.0 = 0;
            self.minute += 1;
        }
        let reading = Reading {
            id: ReadingId::new(&device, metric_name, EventTime(at), None),
            patient,
            device,
            metric: metric_name,
            value,
            at: EventTime(at),
            stamped_at: EventTime(at),
            received_at: EventTime(received),
            clock: ClockState::AsSent,
            boot: None,
            seq: None,
            typed: false,
            test: false,
            value_as_sent: value,
            unit_as_sent: "1".to_owned(),
            author: String::new(),
            format: None,
        };
        self.arrival(Input::Reading(reading))
    }
}
