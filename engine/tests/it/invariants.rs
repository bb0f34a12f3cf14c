//! P1, P2, P3, P5, P7 and the snapshot, over random logs. proptest prints the seed of a failure.

use std::collections::{BTreeMap, BTreeSet};

use engine::{Arrival, Config, Engine, Output, SnapshotError};
use proptest::prelude::*;
use schemas::{Arrived, EventTime, Input, Metric, Offset, PatientId, TransitionKind};

use crate::{Log, TEN, reading, rules, settings};

const RULES: &str = r#"
[[rule]]
id = "low"
priority = "high"
needs = 2
hold = "1 min"
when = "mean(spo2, '5 min') < limit('spo2.low', 90)"
clear = "mean(spo2, '5 min') >= limit('spo2.low', 90) + 2"
[[rule]]
id = "both"
priority = "medium"
when = "last(spo2, '10 min') < 92 and highest(heart_rate, '10 min') > 120"
[[rule]]
id = "critical"
priority = "high"
condition = "spo2"
confirm = "2 within 10 min"
when = "last(spo2, '5 min') < 84"
[[rule]]
id = "low-again"
priority = "low"
condition = "spo2"
hold = "5 min"
cap = "20 min"
when = "last(spo2, '5 min') < 90"
clear = "last(spo2, '5 min') >= 96"
[[rule]]
id = "trial"
priority = "high"
state = "shadow"
when = "lowest(spo2, '1 day') < baseline(spo2, '3 days') OR last(spo2, '5 min') < 82"
[[rule]]
id = "silent"
priority = "low"
metric = "spo2"
silent = "30 min"
"#;

#[derive(Clone, Debug)]
enum Act {
    Reading { patient: u8, metric: bool, value: u8, measured_ago: u16 },
    Correct { patient: u8, which: u8, value: u8 },
    Void { patient: u8, which: u8 },
    Settings { patient: u8, limit: u8 },
    Tick,
}

fn acts() -> impl Strategy<Value = Vec<(u16, Act)>> {
    let late = prop_oneof![6 => Just(0u16), 3 => 0u16..900, 1 => 0u16..9000];
    let act = prop_oneof![
        10 => (0u8..3, any::<bool>(), 80u8..100, late).prop_map(|(patient, metric, value, measured_ago)| Act::Reading { patient, metric, value, measured_ago }),
        1 => (0u8..3, any::<u8>(), 80u8..100).prop_map(|(patient, which, value)| Act::Correct { patient, which, value }),
        1 => (0u8..3, any::<u8>()).prop_map(|(patient, which)| Act::Void { patient, which }),
        1 => (0u8..3, 85u8..95).prop_map(|(patient, limit)| Act::Settings { patient, limit }),
        2 => Just(Act::Tick),
    ];
    prop::collection::vec((0u16..400, act), 1..80)
}

fn log(acts: &[(u16, Act)]) -> Vec<Arrival> {
    let mut clock = TEN;
    let mut inputs = vec![rules(RULES)];
    let mut sent: BTreeMap<u8, Vec<schemas::Reading>> = BTreeMap::new();
    let mut times = vec![TEN];
    for (number, (after, act)) in acts.iter().enumerate() {
        clock += i64::from(*after) * 1_000_000;
        times.push(clock);
        inputs.push(match act {
            Act::Reading { patient, metric, value, measured_ago } => {
                let metric = if *metric { Metric::Spo2 } else { Metric::HeartRate };
                let value = f64::from(*value) + if metric == Metric::HeartRate { 30.0 } else { 0.0 };
                let mut reading = reading(metric, value, clock - i64::from(*measured_ago) * 1_000_000);
                reading.patient = PatientId::parse(&format!("p{patient}")).unwrap();
                reading.id.0[0] = *patient;
                sent.entry(*patient).or_default().push(reading.clone());
                Input::Reading(reading)
            }
            Act::Correct { patient, which, value } => match sent.get(patient).and_then(|all| all.get(usize::from(*which) % all.len())) {
                Some(r) => Input::Reading(schemas::Reading { value: f64::from(*value) + if r.metric == Metric::HeartRate { 30.0 } else { 0.0 }, ..r.clone() }),
                None => Input::Tick,
            },
            Act::Void { patient, which } => match sent.get(patient).and_then(|all| all.get(usize::from(*which) % all.len())) {
                Some(r) => Input::Void(schemas::Void {
                    reading: r.id,
                    patient: r.patient.clone(),
                    metric: r.metric,
                    at: r.at,
                    reason: String::new(),
                    author: String::new(),
                    moved_to: None,
                }),
                None => Input::Tick,
            },
            Act::Settings { patient, limit } => {
                let mut new = settings(number as u64 + 1);
                new.patient = PatientId::parse(&format!("p{patient}")).unwrap();
                new.limits.insert("spo2.low".to_owned(), f64::from(*limit));
                Input::Settings(new)
            }
            Act::Tick => Input::Tick,
        });
    }
    inputs.into_iter().zip(times).enumerate().map(|(n, (input, at))| Arrival { offset: Offset(n as i64), arrived_at: Arrived(at), input }).collect()
}

fn run(log: &[Arrival]) -> Vec<Output> {
    Engine::new(Config::default()).apply(log)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn p1_the_same_inputs_give_the_same_outputs(acts in acts()) {
        let log = log(&acts);
        prop_assert_eq!(run(&log), run(&log));
    }

    /// SEMANTICS 19, decision 005: no two alerts share an id, and what else stands in the log, such as a tick, changes none.
    #[test]
    fn an_alert_has_an_id_of_its_own_in_whatever_log_it_stands(acts in acts(), ticks in prop::collection::vec(any::<bool>(), 80)) {
        let alerts = |log: &[Arrival]| run(log).into_iter().filter_map(|output| match output {
            Output::Transition(t) if t.kind == TransitionKind::Raised => Some((t.alert, t.patient, t.rule, t.at)),
            _ => None,
        }).collect::<Vec<_>>();
        let log = log(&acts);
        let raised = alerts(&log);
        prop_assert_eq!(raised.iter().map(|(alert, ..)| alert).collect::<BTreeSet<_>>().len(), raised.len());
        let mut other = Vec::new();
        for (arrival, tick) in log.iter().zip(ticks.iter().cycle()) {
            let mut push = |input| other.push(Arrival { offset: Offset(other.len() as i64), arrived_at: arrival.arrived_at, input });
            if *tick {
                push(Input::Tick);
            }
            push(arrival.input.clone());
        }
        prop_assert_eq!(alerts(&other), raised);
    }

    #[test]
    fn p7_any_split_gives_the_same_outputs(acts in acts(), cuts in prop::collection::vec(1usize..9, 1..80)) {
        let log = log(&acts);
        let whole = run(&log);
        let mut engine = Engine::new(Config::default());
        let (mut rest, mut split, mut cuts) = (log.as_slice(), Vec::new(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (batch, others) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            split.extend(engine.apply(batch));
            rest = others;
        }
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn a_restored_engine_goes_on_as_if_nothing_had_been(acts in acts(), cut in 0usize..80) {
        let log = log(&acts);
        let cut = cut.min(log.len());
        let mut golden = Engine::new(Config::default());
        golden.apply(&log[..cut]);
        let mut restored = Engine::restore(Config::default(), &golden.snapshot().unwrap()).unwrap();
        prop_assert_eq!(restored.next_due(), golden.next_due());
        prop_assert_eq!(restored.apply(&log[cut..]), golden.apply(&log[cut..]));
        // a replay from the start is ignored up to where it was
        prop_assert_eq!(restored.apply(&log), vec![]);
        prop_assert!(restored.snapshot().unwrap() == golden.snapshot().unwrap(), "the snapshots differ");
    }

    /// The newest revision of every window is the batch answer over the clean readings, once everything has closed.
    #[test]
    fn p5_streaming_equals_batch(acts in acts()) {
        let mut log = log(&acts);
        let end = log.last().unwrap().arrived_at.0 + 20_000_000_000;
        log.push(Arrival { offset: Offset(log.len() as i64), arrived_at: Arrived(end), input: Input::Tick });
        let width = Config::default().window.0;
        let mut streamed = BTreeMap::<(PatientId, Metric, i64), (u32, u64, f64, f64, f64)>::new();
        for output in run(&log) {
            let Output::Window(w) = output else { continue };
            let key = (w.patient, w.metric, w.start.0);
            let next = streamed.get(&key).map_or(0, |known| known.0 + 1);
            prop_assert_eq!(w.revision, next, "revisions count up by one");
            streamed.insert(key, (w.revision, w.count, w.sum, w.min, w.max));
        }
        // clean: one row per id (the newest value), voids applied, beyond the horizon left out
        let mut voided = BTreeSet::new();
        let mut clean: BTreeMap<_, schemas::Reading> = BTreeMap::new();
        let mut frontiers: BTreeMap<(PatientId, Metric), i64> = BTreeMap::new();
        let horizon = Config::default().horizon.0;
        for arrival in &log {
            match &arrival.input {
                // what lies beyond the horizon is no longer amended
                Input::Void(v) => {
                    let frontier = frontiers.get(&(v.patient.clone(), v.metric)).copied().unwrap_or(i64::MIN);
                    if !clean.contains_key(&v.reading) || frontier.saturating_sub(v.at.0) <= horizon {
                        voided.insert(v.reading);
                    }
                }
                Input::Reading(r) => {
                    let frontier = frontiers.entry((r.patient.clone(), r.metric)).or_insert(i64::MIN);
                    let inside = frontier.saturating_sub(r.at.0) <= horizon;
                    if let Some(known) = clean.get_mut(&r.id) {
                        if inside && !voided.contains(&r.id) {
                            known.value = r.value;
                        }
                    } else if inside {
                        clean.insert(r.id, r.clone());
                        *frontier = (*frontier).max(r.at.0);
                    }
                }
                _ => {}
            }
        }
        let mut batch: BTreeMap<(PatientId, Metric, i64), Vec<f64>> = BTreeMap::new();
        for r in clean.values().filter(|r| !voided.contains(&r.id)) {
            batch.entry((r.patient.clone(), r.metric, r.at.0.div_euclid(width) * width)).or_default().push(r.value);
        }
        streamed.retain(|_, known| known.1 > 0);
        prop_assert_eq!(streamed.keys().collect::<Vec<_>>(), batch.keys().collect::<Vec<_>>());
        for (key, (_, count, sum, min, max)) in &streamed {
            let values = &batch[key];
            prop_assert_eq!(*count, values.len() as u64);
            prop_assert!((sum - values.iter().sum::<f64>()).abs() < 1e-6);
            prop_assert_eq!((*min, *max), (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(f64::NEG_INFINITY, f64::max)));
        }
    }

    /// A heart-rate device with any clock changes nothing about the oxygen saturation.
    #[test]
    fn p3_a_clock_affects_only_what_it_measures(acts in acts(), shift in -90_000i64..90_000) {
        let log = log(&acts);
        let mut shifted = log.clone();
        for arrival in &mut shifted {
            if let Input::Reading(r) = &mut arrival.input && r.metric == Metric::HeartRate {
                r.at.0 += shift * 1_000_000;
            }
        }
        let of_spo2 = |outputs: Vec<Output>| -> Vec<String> {
            outputs.into_iter().filter_map(|o| match o {
                Output::Window(mut w) if w.metric == Metric::Spo2 => { w.cause.ordinal = 0; Some(format!("{w:?}")) }
                Output::Transition(t) if t.rule.as_str() != "both" => Some(format!("{:?} {} {} {} {}", t.kind, t.patient, t.rule, t.at, t.heard_at)),
                _ => None,
            }).collect()
        };
        prop_assert_eq!(of_spo2(run(&log)), of_spo2(run(&shifted)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Readings of each minute, then one late by any time: within the horizon its window is said again and holds it; beyond, it says nothing,
    /// and is stored and counted.
    #[test]
    fn p2_a_late_reading_amends_or_is_stored(minutes in 10_i64..260, late_by in 1_i64..300) {
        let mut log = Log::new(RULES);
        for minute in 0..minutes {
            log.spo2(minute as f64, 95.0);
        }
        let (before, counted) = (log.outputs.len(), log.engine.stats().beyond_horizon);
        let frontier = (minutes - 1) as f64;
        let at = frontier - late_by as f64 + 0.5;
        log.late(Metric::Spo2, at, 96.0);
        let windows: Vec<_> = log.outputs[before..].iter().filter_map(|o| if let Output::Window(w) = o { Some(w) } else { None }).collect();
        let stored = log.engine.samples(&PatientId::parse("ada").unwrap(), Metric::Spo2, EventTime::MIN);
        prop_assert!(stored.iter().any(|sample| sample.value == 96.0 && sample.late), "it is not stored");
        if frontier - at > 120.0 {
            prop_assert_eq!(log.outputs.len(), before);
            prop_assert_eq!(log.engine.stats().beyond_horizon, counted + 1);
            return Ok(());
        }
        let start = crate::minutes(at).div_euclid(300_000_000) * 300_000_000;
        let inside = stored.iter().filter(|sample| (start..start + 300_000_000).contains(&sample.at.0)).count() as u64;
        if start + 300_000_000 <= crate::minutes(frontier) {
            prop_assert_eq!(windows.len(), 1);
            prop_assert_eq!((windows[0].start.0, windows[0].count, windows[0].max), (start, inside, 96.0));
        } else {
            prop_assert!(windows.is_empty(), "its window is still open");
        }
    }
}

#[test]
fn p2_inside_the_horizon_a_late_reading_amends_its_window() {
    let mut log = Log::new(RULES);
    log.spo2(0.0, 95.0).spo2(6.0, 95.0).late(Metric::Spo2, 1.0, 97.0);
    let windows: Vec<_> =
        log.outputs.iter().filter_map(|o| if let Output::Window(w) = o { Some((w.start.0 - TEN, w.revision, w.count, w.sum)) } else { None }).collect();
    assert_eq!(windows, [(0, 0, 1, 95.0), (0, 1, 2, 192.0)]);
}

#[test]
fn a_damaged_snapshot_is_refused_by_name() {
    let mut log = Log::new(RULES);
    log.spo2(0.0, 85.0);
    let bytes = log.engine.snapshot().unwrap();
    let restore = |bytes: &[u8]| Engine::restore(Config::default(), bytes).unwrap_err();
    assert_eq!(restore(b"hello, world"), SnapshotError::Foreign);
    assert!(matches!(restore(&bytes[..bytes.len() - 9]), SnapshotError::Truncated { .. }));
    assert!(matches!(restore(&bytes[..20]), SnapshotError::Truncated { .. }));
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    assert_eq!(restore(&flipped), SnapshotError::Checksum);
    let other = Config { partition: schemas::Partition(7), ..Config::default() };
    assert!(matches!(Engine::restore(other, &bytes).unwrap_err(), SnapshotError::Partition { .. }));
}
