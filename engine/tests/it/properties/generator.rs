//! Histories of a partition: what devices, networks, nurses and clocks do to readings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use engine::Arrival;
use proptest::prelude::*;
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Offset, PatientId, Pause, Reading, ReadingId, RuleSet, Settings, Void};

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;

/// Where histories begin: some day; the evenings before London puts its clocks forward and back; that before a leap day; new year's.
pub const BEGINNINGS: [i64; 5] = [1_795_168_800_000_000, 1_774_738_800_000_000, 1_792_879_200_000_000, 1_835_384_400_000_000, 1_798_750_800_000_000];

/// What measures: a device's name, and the metric. Two oximeters measure the same; what a belt or a scale measures nobody else does.
pub const CHANNELS: [(&str, Metric); 6] = [
    ("oximeter", Metric::Spo2),
    ("oximeter", Metric::HeartRate),
    ("finger", Metric::Spo2),
    ("finger", Metric::HeartRate),
    ("belt", Metric::RespiratoryRate),
    ("scale", Metric::Weight),
];

#[derive(Clone, Debug)]
pub enum Act {
    Reading {
        patient: u8,
        channel: u8,
        value: u8,
        ago_s: u32,
        test: bool,
    },
    /// The device's clock is wrong by this, and was corrected.
    Skewed {
        patient: u8,
        channel: u8,
        value: u8,
        wrong_s: i32,
        ago_s: u32,
    },
    /// Sent again; the corrected clock may now be a second or two off.
    Again {
        which: u8,
        off_s: i8,
    },
    Corrected {
        which: u8,
        value: u8,
    },
    Voided {
        which: u8,
    },
    /// The void comes before its reading, which an `Again` may bring.
    VoidedFirst {
        patient: u8,
        channel: u8,
        value: u8,
        ago_s: u32,
    },
    /// To the patient who wore the device, or back.
    Moved {
        which: u8,
        to: u8,
    },
    Backlog {
        patient: u8,
        channel: u8,
        values: Vec<u8>,
        every_s: u32,
        order: Order,
        ago_s: u32,
    },
    Limit {
        patient: u8,
        low: u8,
        for_min: Option<u16>,
    },
    Paused {
        patient: u8,
        in_min: i16,
        minutes: Option<u16>,
    },
    Resumed {
        patient: u8,
    },
    Monitored {
        patient: u8,
        yes: bool,
    },
    Rules {
        which: u8,
    },
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
    /// Every second one, then the others.
    Shuffled,
}

/// How often which of them happens.
#[derive(Clone, Copy)]
pub struct Mix {
    pub patients: u8,
    pub channels: &'static [u8],
    pub acts: usize,
    /// How late a reading may be; within, most are in time.
    pub late_s: u32,
    pub corrections: u32,
    pub moves: u32,
    pub skewed: u32,
    pub tests: f64,
    pub backlogs: u32,
    pub limits: u32,
    pub pauses: u32,
    pub rules: u32,
    pub gaps: bool,
}

pub const EVERYTHING: Mix = Mix {
    patients: 3,
    channels: &[0, 0, 0, 1, 2, 3, 4, 5],
    acts: 70,
    late_s: 9000,
    corrections: 3,
    moves: 1,
    skewed: 1,
    tests: 0.05,
    backlogs: 1,
    limits: 1,
    pauses: 1,
    rules: 1,
    gaps: true,
};

fn weighted(weight: u32, strategy: impl Strategy<Value = Act> + 'static) -> (u32, BoxedStrategy<Act>) {
    (weight, strategy.boxed())
}

fn act(mix: Mix) -> impl Strategy<Value = Act> {
    let patient = move || 0..mix.patients;
    let channel = move || prop::sample::select(mix.channels);
    // quarters of a minute, so that times meet the edges of widths, windows and holds
    let late = move || prop_oneof![6 => Just(0_u32), 3 => (0_u32..60).prop_map(|quarters| quarters * 15), 2 => (0..mix.late_s / 15).prop_map(|quarters| quarters * 15)];
    let value = || 0_u8..44;
    let order = || prop_oneof![Just(Order::OldestFirst), Just(Order::NewestFirst), Just(Order::Shuffled)];
    let all = vec![
        weighted(
            24,
            (patient(), channel(), value(), late(), prop::bool::weighted(mix.tests)).prop_map(|(patient, channel, value, ago_s, test)| Act::Reading {
                patient,
                channel,
                value,
                ago_s,
                test,
            }),
        ),
        weighted(
            mix.skewed,
            (patient(), channel(), value(), -7200_i32..7200, late()).prop_map(|(patient, channel, value, wrong_s, ago_s)| Act::Skewed {
                patient,
                channel,
                value,
                wrong_s,
                ago_s,
            }),
        ),
        weighted(mix.corrections, (any::<u8>(), -2_i8..3).prop_map(|(which, off_s)| Act::Again { which, off_s })),
        weighted(mix.corrections, (any::<u8>(), value()).prop_map(|(which, value)| Act::Corrected { which, value })),
        weighted(mix.corrections, any::<u8>().prop_map(|which| Act::Voided { which })),
        weighted(
            mix.corrections.min(1),
            (patient(), channel(), value(), late()).prop_map(|(patient, channel, value, ago_s)| Act::VoidedFirst { patient, channel, value, ago_s }),
        ),
        weighted(mix.moves, (any::<u8>(), patient()).prop_map(|(which, to)| Act::Moved { which, to })),
        weighted(
            mix.backlogs,
            (patient(), channel(), prop::collection::vec(value(), 2..9), prop::sample::select(vec![15_u32, 60, 240, 900]), order(), late())
                .prop_map(|(patient, channel, values, every_s, order, ago_s)| Act::Backlog { patient, channel, values, every_s, order, ago_s }),
        ),
        weighted(
            mix.limits,
            (patient(), 80_u8..98, prop::option::weighted(0.3, 0_u16..40)).prop_map(|(patient, low, for_min)| Act::Limit { patient, low, for_min }),
        ),
        weighted(
            mix.pauses,
            (patient(), prop_oneof![2 => Just(0_i16), 1 => -20_i16..30], prop::option::weighted(0.8, 1_u16..60))
                .prop_map(|(patient, in_min, minutes)| Act::Paused { patient, in_min, minutes }),
        ),
        weighted(mix.pauses, patient().prop_map(|patient| Act::Resumed { patient })),
        weighted(mix.pauses, (patient(), any::<bool>()).prop_map(|(patient, yes)| Act::Monitored { patient, yes })),
        weighted(mix.rules, any::<u8>().prop_map(|which| Act::Rules { which })),
        weighted(4, Just(Act::Tick)),
    ];
    prop::strategy::Union::new_weighted(all.into_iter().filter(|(weight, _)| *weight > 0).collect())
}

/// Acts, and the seconds since the one before; below 0, because a journal's clock may be set back.
#[derive(Clone)]
pub struct History {
    pub beginning: u8,
    pub acts: Vec<(i32, Act)>,
}

/// An act on a line, with the time since the beginning.
impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "history from {}:", EventTime(BEGINNINGS[self.beginning as usize]))?;
        let mut clock = 0;
        for (after, act) in &self.acts {
            clock += after;
            writeln!(f, "  {:>5}:{:02} {act:?}", clock.div_euclid(60), clock.rem_euclid(60))?;
        }
        Ok(())
    }
}

pub fn histories(mix: Mix) -> impl Strategy<Value = History> {
    let long = if mix.gaps { 1 } else { 0 };
    let after = prop_oneof![
        4 => Just(0_i32),
        16 => (0_i32..20).prop_map(|quarters| quarters * 15),
        4 => 0_i32..900,
        1 => -5_i32..0,
        long => 900_i32..12_000,
    ];
    let acts = prop::collection::vec((after, act(mix)), 1..mix.acts);
    (0..BEGINNINGS.len() as u8, acts).prop_map(|(beginning, acts)| History { beginning, acts })
}

pub fn patient(number: u8) -> PatientId {
    PatientId::parse(&format!("p{number}")).unwrap()
}

/// In halves, so that sums are exact in whatever order they are made.
fn value(metric: Metric, number: u8) -> f64 {
    let number = f64::from(number) / 2.0;
    match metric {
        Metric::Spo2 => 78.0 + number,
        Metric::HeartRate => 100.0 + number,
        Metric::RespiratoryRate => 10.0 + number,
        _ => 70.0 + number,
    }
}

/// Where a reading was appended, and who wears the device by what is known now.
#[derive(Clone)]
struct Sent {
    reading: Reading,
    away: BTreeSet<PatientId>,
}

pub struct Ward<'a> {
    rules: &'a [&'a str],
    clock: i64,
    inputs: Vec<(i64, Input)>,
    sent: Vec<Sent>,
    settings: BTreeMap<u8, Settings>,
    rules_version: u64,
}

impl History {
    /// The records of the partition, by these versions of the rules; the first is in force from the beginning.
    pub fn arrivals(&self, rules: &[&str]) -> Vec<Arrival> {
        let mut ward =
            Ward { rules, clock: BEGINNINGS[self.beginning as usize], inputs: Vec::new(), sent: Vec::new(), settings: BTreeMap::new(), rules_version: 0 };
        ward.act(&Act::Rules { which: 0 });
        for (after, act) in &self.acts {
            ward.clock += i64::from(*after) * SECOND;
            ward.act(act);
        }
        let all = ward.inputs.into_iter().enumerate();
        all.map(|(offset, (at, input))| Arrival { offset: Offset(offset as i64), arrived_at: Arrived(at), input }).collect()
    }
}

impl Ward<'_> {
    fn push(&mut self, input: Input) {
        self.inputs.push((self.clock, input));
    }

    fn reading(&self, who: u8, channel: u8, number: u8, ago_s: u32, wrong_s: Option<i32>) -> Reading {
        let (name, metric) = CHANNELS[channel as usize];
        let device = DeviceId::parse(&format!("{name}-{who}")).unwrap();
        let at = EventTime(self.clock - i64::from(ago_s) * SECOND);
        let stamped_at = EventTime(at.0 + i64::from(wrong_s.unwrap_or(0)) * SECOND);
        let boot = wrong_s.map(|_| at.0.div_euclid(HOUR).unsigned_abs());
        let value = value(metric, number);
        Reading {
            id: ReadingId::new(&device, metric, stamped_at, boot),
            patient: patient(who),
            device,
            metric,
            value,
            at,
            stamped_at,
            received_at: EventTime(self.clock),
            clock: if wrong_s.is_some() { ClockState::Corrected } else { ClockState::AsSent },
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

    fn send(&mut self, reading: Reading) {
        self.sent.push(Sent { reading: reading.clone(), away: BTreeSet::new() });
        self.push(Input::Reading(reading));
    }

    fn void(&mut self, reading: &Reading, moved_to: Option<PatientId>) {
        let void = Void {
            reading: reading.id,
            patient: reading.patient.clone(),
            metric: reading.metric,
            at: reading.at,
            reason: "entered in error".to_owned(),
            author: "nurse".to_owned(),
            moved_to,
        };
        self.push(Input::Void(void));
    }

    fn settings(&mut self, who: u8, change: impl FnOnce(&mut Settings, i64)) {
        let clock = self.clock;
        let settings =
            self.settings.entry(who).or_insert_with(|| Settings { patient: patient(who), version: 0, enrolled_at: EventTime(clock), ..crate::settings(0) });
        settings.version += 1;
        change(settings, clock);
        let settings = settings.clone();
        self.push(Input::Settings(settings));
    }

    fn which(&self, which: u8) -> Option<usize> {
        // the newest first, which is where shrinking goes, and where rows are
        (!self.sent.is_empty()).then(|| self.sent.len() - 1 - usize::from(which) % self.sent.len())
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Reading { patient, channel, value, ago_s, test } => {
                let reading = self.reading(*patient, *channel, *value, *ago_s, None);
                self.send(Reading { test: *test, ..reading });
            }
            Act::Skewed { patient, channel, value, wrong_s, ago_s } => {
                let reading = self.reading(*patient, *channel, *value, *ago_s, Some(*wrong_s));
                self.send(reading);
            }
            Act::Again { which, off_s } => {
                let Some(place) = self.which(*which) else { return self.push(Input::Tick) };
                let mut reading = self.sent[place].reading.clone();
                // within the hour, which its id is made of
                let at = EventTime(reading.at.0 + i64::from(*off_s) * SECOND);
                if reading.clock == ClockState::Corrected && at.0.div_euclid(HOUR) == reading.at.0.div_euclid(HOUR) {
                    reading.at = at;
                }
                reading.received_at = EventTime(self.clock);
                self.push(Input::Reading(reading));
            }
            Act::Corrected { which, value: number } => {
                let Some(place) = self.which(*which) else { return self.push(Input::Tick) };
                let reading = &mut self.sent[place].reading;
                reading.value = value(reading.metric, *number);
                let reading = reading.clone();
                self.push(Input::Reading(reading));
            }
            Act::Voided { which } => {
                let Some(place) = self.which(*which) else { return self.push(Input::Tick) };
                let reading = self.sent[place].reading.clone();
                self.void(&reading, None);
            }
            Act::VoidedFirst { patient, channel, value, ago_s } => {
                let reading = self.reading(*patient, *channel, *value, *ago_s, None);
                self.void(&reading, None);
                self.sent.push(Sent { reading, away: BTreeSet::new() });
            }
            Act::Moved { which, to } => {
                let Some(place) = self.which(*which) else { return self.push(Input::Tick) };
                let (old, to) = (self.sent[place].reading.clone(), patient(*to));
                if old.patient == to {
                    return self.push(Input::Tick);
                }
                self.void(&old, Some(to.clone()));
                let sent = &mut self.sent[place];
                sent.away.insert(old.patient);
                sent.reading.patient = to.clone();
                let (back, new) = (sent.away.remove(&to), sent.reading.clone());
                if back {
                    self.void(&new, Some(to));
                }
                self.push(Input::Reading(new));
            }
            Act::Backlog { patient, channel, values, every_s, order, ago_s } => {
                let all = values.iter().rev().zip(0_u32..).map(|(value, back)| self.reading(*patient, *channel, *value, ago_s + back * every_s, None));
                let mut all: Vec<Reading> = all.collect();
                all.reverse();
                match order {
                    Order::OldestFirst => {}
                    Order::NewestFirst => all.reverse(),
                    Order::Shuffled => {
                        let (even, odd): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(place, _)| place % 2 == 0);
                        all = even.into_iter().chain(odd).map(|(_, reading)| reading).collect();
                    }
                }
                all.into_iter().for_each(|reading| self.send(reading));
            }
            Act::Limit { patient, low, for_min } => self.settings(*patient, |settings, clock| {
                settings.limits.insert("spo2.low".to_owned(), f64::from(*low));
                settings.limits_until.remove("spo2.low");
                if let Some(minutes) = for_min {
                    settings.limits_until.insert("spo2.low".to_owned(), EventTime(clock + i64::from(*minutes) * MINUTE));
                }
            }),
            Act::Paused { patient, in_min, minutes } => self.settings(*patient, |settings, clock| {
                let from = EventTime(clock + i64::from(*in_min) * MINUTE);
                settings.pauses.push(Pause { from, until: minutes.map(|minutes| EventTime(from.0 + i64::from(minutes) * MINUTE)), reason: "bath".to_owned() });
            }),
            Act::Resumed { patient } => self.settings(*patient, |settings, clock| {
                for pause in settings.pauses.iter_mut().filter(|pause| pause.covers(EventTime(clock))) {
                    pause.until = Some(EventTime(clock));
                }
                settings.pauses.retain(|pause| pause.until.is_none_or(|until| until > pause.from));
            }),
            Act::Monitored { patient, yes } => self.settings(*patient, |settings, _| settings.monitored = *yes),
            Act::Rules { which } => {
                self.rules_version += 1;
                let toml = self.rules[usize::from(*which) % self.rules.len()].to_owned();
                let set = RuleSet { version: self.rules_version, toml, activated_at: EventTime(self.clock), author: "nurse".to_owned() };
                self.push(Input::RuleSet(set));
            }
            Act::Tick => self.push(Input::Tick),
        }
    }
}
