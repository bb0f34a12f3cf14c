//! Days by every way: the engine's equal a GROUP BY over the clean readings (P5), a restored engine's those of one that ran on, and any split of
//! the inputs gives the same answers (P7). proptest prints the seed of a failure.

use std::collections::BTreeMap;

use engine::{Arrival, Config, Engine, Output, Zone};
use proptest::prelude::*;
use schemas::{Arrived, EventTime, Input, Metric, Offset, PatientId, Reading};

use crate::{reading, rules, settings};

const RULES: &str = r#"
zone = "Europe/London"
[[rule]]
id = "gain"
priority = "medium"
when = "last(weight, '1 day') - lowest(weight, '3 days') >= 2"
clear = "last(weight, '1 day') - lowest(weight, '3 days') < 1"
[[rule]]
id = "above"
priority = "low"
when = "highest(weight, '1 day') > baseline(weight, '7 days') + 3 OR slope(weight, '5 days') > 1"
[[rule]]
id = "both"
priority = "low"
when = "last(heart_rate, '2 h') > mean(heart_rate, '14 days') AND between_hours('22:00', '06:00')"
"#;
/// The evening before the clocks go forward in London.
const BEGIN: i64 = 1_774_738_800_000_000;
const HOUR: i64 = 3_600_000_000;

#[derive(Clone, Debug)]
enum Act {
    Reading { weight: bool, value: u8, measured_ago_min: u16, test: bool },
    Correct { which: u8, value: u8 },
    Void { which: u8 },
    Pause { from_ago_min: u16, minutes: u16 },
    Tick,
}

fn acts() -> impl Strategy<Value = Vec<(u16, Act)>> {
    let late = prop_oneof![6 => Just(0u16), 3 => 0u16..110, 1 => 0u16..3000];
    let act = prop_oneof![
        20 => (prop::bool::weighted(0.7), 60u8..90, late, prop::bool::weighted(0.05)).prop_map(|(weight, value, measured_ago_min, test)| Act::Reading { weight, value, measured_ago_min, test }),
        2 => (any::<u8>(), 60u8..90).prop_map(|(which, value)| Act::Correct { which, value }),
        2 => any::<u8>().prop_map(|which| Act::Void { which }),
        1 => (0u16..300, 1u16..300).prop_map(|(from_ago_min, minutes)| Act::Pause { from_ago_min, minutes }),
        1 => Just(Act::Tick),
    ];
    // minutes after the one before: many in a day, some days with none
    prop::collection::vec((prop_oneof![8 => 1u16..90, 1 => 600u16..3000], act), 1..160)
}

fn log(acts: &[(u16, Act)]) -> Vec<Arrival> {
    let mut clock = BEGIN;
    let mut sent: Vec<Reading> = Vec::new();
    let mut known = settings(1);
    let mut inputs = vec![(BEGIN, rules(RULES))];
    for (after, act) in acts {
        clock += i64::from(*after) * 60_000_000;
        let pick = |which: u8| sent.get(usize::from(which) % sent.len().max(1));
        let input = match act {
            Act::Reading { weight, value, measured_ago_min, test } => {
                let metric = if *weight { Metric::Weight } else { Metric::HeartRate };
                let mut new = reading(metric, f64::from(*value) / 3.0, clock - i64::from(*measured_ago_min) * 60_000_000);
                new.test = *test;
                sent.push(new.clone());
                Input::Reading(new)
            }
            Act::Correct { which, value } => pick(*which).map_or(Input::Tick, |r| Input::Reading(Reading { value: f64::from(*value) / 3.0, ..r.clone() })),
            Act::Void { which } => pick(*which).map_or(Input::Tick, |r| {
                Input::Void(schemas::Void {
                    reading: r.id,
                    patient: r.patient.clone(),
                    metric: r.metric,
                    at: r.at,
                    reason: String::new(),
                    author: String::new(),
                    moved_to: None,
                })
            }),
            Act::Pause { from_ago_min, minutes } => {
                let from = EventTime(clock - i64::from(*from_ago_min) * 60_000_000);
                known.version += 1;
                known.pauses.push(schemas::Pause { from, until: Some(EventTime(from.0 + i64::from(*minutes) * 60_000_000)), reason: String::new() });
                Input::Settings(known.clone())
            }
            Act::Tick => Input::Tick,
        };
        inputs.push((clock, input));
    }
    inputs.into_iter().enumerate().map(|(n, (at, input))| Arrival { offset: Offset(n as i64), arrived_at: Arrived(at), input }).collect()
}

fn ada() -> PatientId {
    PatientId::parse("ada").unwrap()
}

/// Count, sum, lowest, highest, last of a day, by its date.
type Days = BTreeMap<String, (u64, f64, f64, f64, f64)>;

/// A reading of the batch.
struct Row {
    reading: Reading,
    offset: i64,
    beyond: bool,
    voided: bool,
    /// Of the readings that nothing changes any more: whether it counts.
    settled: Option<bool>,
}

/// What batch SQL says: one row per id, the newest value, voids applied, without those beyond the horizon, under test or in a pause. What
/// is older than the samples are kept, and not of the last 32, is as it was when it became so.
fn batch(log: &[Arrival], metric: Metric) -> Days {
    let (horizon, kept) = (2 * HOUR, 4 * HOUR + 300_000_000);
    let mut rows: Vec<Row> = Vec::new();
    let (mut frontier, mut pauses, mut voids) = (i64::MIN, Vec::new(), Vec::new());
    let paused = |pauses: &[schemas::Pause], at: EventTime| pauses.iter().any(|pause| pause.covers(at));
    for arrival in log {
        match &arrival.input {
            Input::Settings(s) => pauses.clone_from(&s.pauses),
            Input::Void(v) if v.metric == metric => {
                voids.push(v.reading);
                rows.iter_mut().filter(|row| row.reading.id == v.reading).for_each(|row| row.voided = true);
            }
            Input::Reading(r) if r.metric == metric => {
                if let Some(row) = rows.iter_mut().find(|row| row.reading.id == r.id) {
                    if !row.voided && row.settled.is_none() {
                        row.reading.value = r.value;
                    }
                    continue;
                }
                let beyond = frontier.saturating_sub(r.at.0) > horizon;
                rows.push(Row { reading: r.clone(), offset: arrival.offset.0, beyond, voided: voids.contains(&r.id), settled: None });
                rows.sort_by_key(|row| (row.reading.at, row.offset));
                if !beyond && r.at.0 > frontier {
                    frontier = r.at.0;
                    let old = rows.iter().filter(|row| row.reading.at.0 < frontier - kept).count();
                    let settles = old.min(rows.len().saturating_sub(32));
                    for row in &mut rows[..settles] {
                        let counts = !row.beyond && !row.voided && !row.reading.test && !paused(&pauses, row.reading.at);
                        row.settled.get_or_insert(counts);
                    }
                }
            }
            _ => {}
        }
    }
    let mut days = Days::new();
    for row in &rows {
        if !row.settled.unwrap_or(!row.beyond && !row.voided && !row.reading.test && !paused(&pauses, row.reading.at)) {
            continue;
        }
        let date = jiff::Timestamp::from_microsecond(row.reading.at.0).unwrap().in_tz("Europe/London").unwrap().date().to_string();
        let value = row.reading.value;
        let day = days.entry(date).or_insert((0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0));
        *day = (day.0 + 1, day.1 + value, day.2.min(value), day.3.max(value), value);
    }
    days
}

fn streamed(engine: &Engine, metric: Metric) -> Days {
    let date = |at: EventTime| jiff::Timestamp::from_microsecond(at.0).unwrap().in_tz("Europe/London").unwrap().date().to_string();
    let days = engine.days(&ada(), metric, EventTime::MIN).into_iter();
    days.map(|day| (date(day.start()), (day.count, day.sum, day.lowest, day.highest, day.last))).collect()
}

/// `Origin` and `by_row` give ids that the offset does not touch, so outputs compare as they are.
fn run(log: &[Arrival]) -> (Engine, Vec<Output>) {
    let mut engine = Engine::new(Config::default());
    let outputs = engine.apply(log);
    (engine, outputs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn p5_days_equal_batch(acts in acts()) {
        let log = log(&acts);
        let (engine, _) = run(&log);
        for metric in [Metric::Weight, Metric::HeartRate] {
            let (streamed, batch) = (streamed(&engine, metric), batch(&log, metric));
            // days are kept for two weeks and a little more
            let newest = batch.keys().next_back().cloned().unwrap_or_default();
            let oldest = newest.parse::<jiff::civil::Date>().map(|date| date.saturating_sub(jiff::ToSpan::days(15)).to_string()).unwrap_or_default();
            let recent = |days: Days| days.into_iter().filter(|(date, _)| *date >= oldest).collect::<Days>();
            prop_assert_eq!(recent(streamed), recent(batch));
        }
    }

    #[test]
    fn p7_any_split_and_any_restart_give_the_same_days(acts in acts(), cuts in prop::collection::vec(1usize..9, 1..80)) {
        let log = log(&acts);
        let (golden, said) = run(&log);
        let mut engine = Engine::new(Config::default());
        let (mut rest, mut split, mut cuts) = (log.as_slice(), Vec::new(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            split.extend(engine.apply(now));
            engine = Engine::restore(Config::default(), &engine.snapshot().unwrap()).unwrap();
            rest = later;
        }
        prop_assert_eq!(split, said);
        prop_assert!(engine.snapshot().unwrap() == golden.snapshot().unwrap(), "the snapshots differ");
    }
}

#[test]
fn rules_of_another_zone_cut_other_days() {
    let mut readings: Vec<Input> = (0..4).map(|n| Input::Reading(reading(Metric::Weight, 80.0, BEGIN + n * HOUR))).collect();
    readings.insert(0, rules(&RULES.replace("Europe/London", "Pacific/Auckland")));
    let log: Vec<Arrival> =
        readings.into_iter().enumerate().map(|(n, input)| Arrival { offset: Offset(n as i64), arrived_at: Arrived(BEGIN + n as i64 * HOUR), input }).collect();
    let (engine, _) = run(&log);
    assert_eq!(engine.days(&ada(), Metric::Weight, EventTime::MIN).len(), 1, "midnight in London is noon in Auckland");
    assert_eq!(engine.rules().zone, Zone::named("Pacific/Auckland").unwrap());
}

/// What comes beyond the horizon is put among samples that have settled: none of them settles twice.
#[test]
fn p5_a_reading_beyond_the_horizon_unsettles_nothing() {
    let mut acts: Vec<(u16, Act)> = (0..60).map(|n| (30, Act::Reading { weight: true, value: 60 + n, measured_ago_min: 0, test: false })).collect();
    acts.insert(50, (1, Act::Reading { weight: true, value: 80, measured_ago_min: 1490, test: false }));
    let log = log(&acts);
    assert_eq!(streamed(&run(&log).0, Metric::Weight), batch(&log, Metric::Weight));
}
