//! NEWS2 in the rule language.

use engine::{Config, Engine, run_cases};
use proptest::prelude::*;
use schemas::{EventTime, Input, Metric, Micros, TransitionKind};

use crate::{Log, minutes, reading, settings};

const SEVEN: &str = r#"
[[rule]]
id = "seven"
priority = "high"
when = "news2('4 h') >= 7"
clear = "news2('4 h') < 7"
"#;

#[track_caller]
fn holds(toml: &str) {
    let reports = run_cases(toml).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!reports.is_empty());
    let failed: Vec<String> = reports.iter().filter(|report| !report.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// RR 3, SpO2 2, pulse 2: seven, whatever the four others are.
fn ill(log: &mut Log, minute: f64) {
    for (metric, value) in [(Metric::RespiratoryRate, 26.0), (Metric::Spo2, 93.0), (Metric::HeartRate, 115.0)] {
        log.input(Input::Reading(reading(metric, value, minutes(minute))), minutes(minute));
    }
}

/// Each comparison is TRUE and FALSE as soon as the bounds say so, and NULL in between: what is pulse 115 and a temperature of 37 leaves 2 to 16.
#[test]
fn a_comparison_is_decided_by_the_bounds() {
    let said = |when: &str| {
        let toml = format!(
            r#"
[[rule]]
id = "so"
priority = "high"
when = "{when}"
[[rule]]
id = "not-so"
priority = "high"
when = "NOT ({when})"
"#
        );
        let mut log = Log::new(&toml);
        for (metric, value) in [(Metric::HeartRate, 115.0), (Metric::Temperature, 37.0)] {
            log.input(Input::Reading(reading(metric, value, minutes(0.0))), minutes(0.0));
        }
        let transitions = log.transitions();
        let raised = transitions.iter().filter(|t| t.kind == TransitionKind::Raised);
        match raised.map(|t| t.rule.as_str()).collect::<Vec<_>>()[..] {
            ["so"] => Some(true),
            ["not-so"] => Some(false),
            [] => None,
            ref other => panic!("{when}: {other:?}"),
        }
    };
    for (when, expected) in [
        ("news2('4 h') >= 2", Some(true)),
        ("news2('4 h') >= 3", None),
        ("news2('4 h') >= 16", None),
        ("news2('4 h') >= 17", Some(false)),
        ("news2('4 h') > 1", Some(true)),
        ("news2('4 h') > 2", None),
        ("news2('4 h') > 16", Some(false)),
        ("news2('4 h') <= 16", Some(true)),
        ("news2('4 h') <= 15", None),
        ("news2('4 h') <= 1", Some(false)),
        ("news2('4 h') < 17", Some(true)),
        ("news2('4 h') < 2", Some(false)),
        ("17 > news2('4 h')", Some(true)),
        ("2 <= (news2('4 h'))", Some(true)),
        ("news2('4 h') = 1", Some(false)),
        ("news2('4 h') = 2", None),
        ("news2('4 h') <> 17", Some(true)),
        ("news2('4 h') <> 16", None),
        ("news2('4 h') BETWEEN 2 AND 16", Some(true)),
        ("news2('4 h') BETWEEN 17 AND 20", Some(false)),
        ("news2('4 h') NOT BETWEEN 17 AND 20", Some(true)),
        ("news2('4 h') BETWEEN 3 AND 20", None),
        // the number itself is NULL
        ("news2('4 h') + 0 >= 2", None),
        ("news2('4 h') IS NULL", Some(true)),
        ("news2_red('4 h')", None),
        ("news2('4 h') >= 1 AND news2_red('4 h')", None),
        ("news2('4 h') >= 2 OR news2_red('4 h')", Some(true)),
    ] {
        assert_eq!(said(when), expected, "{when}");
    }
}

#[test]
fn what_is_missing_is_counted_and_red_needs_no_other_part() {
    holds(
        r#"
[[rule]]
id = "known"
priority = "low"
when = "news2_missing('4 h') = 0"
clear = "news2_missing('4 h') > 0"
[[rule]]
id = "red"
priority = "high"
when = "news2_red('4 h')"

[[case]]
name = "part by part, and until the first is too old"
steps = [
  { at = "08:00", temperature = 37.0 },
  { at = "09:00", respiratory_rate = 25, expect = "raised red" },
  { at = "09:01", heart_rate = 80 },
  { at = "09:02", systolic_pressure = 120 },
  { at = "09:03", spo2 = 97 },
  { at = "09:04", consciousness = "A" },
  { at = "09:05", oxygen_flow = 0, expect = "raised known" },
  { at = "09:06", respiratory_rate = 24, expect = "cleared red" },
  { at = "11:59:59", heart_rate = 80 },
  { at = "12:00", heart_rate = 81, expect = "cleared known" },
]

[[case]]
name = "oxygen has two points at most: red does not wait for it"
steps = [
  { at = "08:00", temperature = 37.0, heart_rate = 80, systolic_pressure = 120, spo2 = 97, consciousness = "A" },
  { at = "08:01", respiratory_rate = 25, expect = "raised red" },
  { at = "08:02", respiratory_rate = 20, expect = "cleared red" },
]

[[case]]
name = "on scale 2 a high saturation without oxygen may be red"
news2_scale = 2
steps = [
  { at = "08:00", temperature = 37.0, heart_rate = 80, systolic_pressure = 120, spo2 = 97, consciousness = "A" },
  { at = "08:01", respiratory_rate = 25, expect = "raised red" },
  { at = "08:02", respiratory_rate = 20 },
  { at = "08:03", oxygen_flow = 0, expect = ["raised known", "cleared red"] },
  { at = "08:04", oxygen_flow = 1, expect = "raised red" },
]
"#,
    );
}

#[test]
fn a_message_says_the_score_its_parts_and_what_is_missing() {
    let mut log = Log::new(SEVEN);
    ill(&mut log, 0.0);
    let raised = log.transitions().pop().unwrap();
    assert_eq!(raised.summary, "NEWS2 at least 7 (RR 3, SpO₂ 2, pulse 2; oxygen, systolic BP, consciousness, temperature not known)");
    assert_eq!(raised.readings, 3);
    let of = |text: &str| raised.evidence.iter().find(|e| e.text == text).map(|e| e.value);
    assert_eq!(of("RR of news2('4 h')"), Some(Some(3.0)));
    assert_eq!(of("temperature of news2('4 h')"), Some(None));
    assert_eq!((of("news2('4 h')"), of("news2('4 h') at least"), of("news2('4 h') at most")), (Some(None), Some(Some(7.0)), Some(Some(18.0))));
    assert!(log.engine.latest(&raised.patient, Metric::Spo2).unwrap().breach.is_none(), "a score is no limit of a metric");
}

/// SEMANTICS 2, 16, 17.
#[test]
fn late_and_voided_values_change_an_old_score() {
    let mut log = Log::new(SEVEN);
    ill(&mut log, 0.0);
    log.late(Metric::Temperature, -5.0, 38.5);
    assert_eq!(log.told(), ["raised 0", "amended 0 late quiet"]);
    let amended = log.transitions().pop().unwrap();
    assert_eq!(amended.summary, "NEWS2 at least 8 (RR 3, SpO₂ 2, pulse 2, temperature 1; oxygen, systolic BP, consciousness not known)");
    assert!(amended.holds);
    // typed by mistake
    log.void(Metric::Temperature, -5.0);
    log.void(Metric::RespiratoryRate, 0.0);
    let last = log.transitions().pop().unwrap();
    assert_eq!((last.kind, last.holds, last.pages), (TransitionKind::Amended, false, true), "{:?}", log.told());
    log.void(Metric::Spo2, 0.0).void(Metric::HeartRate, 0.0);
    let last = log.transitions().pop().unwrap();
    assert_eq!((last.kind, last.reason.as_str()), (TransitionKind::Withdrawn, "entered in error"), "{:?}", log.told());
}

#[test]
fn oxygen_of_the_settings_is_no_evidence_of_its_own() {
    let mut log = Log::new(&SEVEN.replace("7", "5"));
    let mut known = settings(1);
    known.oxygen_l_min = Some(2.0);
    log.input(Input::Settings(known), minutes(0.0));
    log.input(Input::Reading(reading(Metric::RespiratoryRate, 26.0, minutes(1.0))), minutes(1.0));
    assert_eq!(log.transitions()[0].summary, "NEWS2 at least 5 (RR 3, oxygen 2; SpO₂, systolic BP, pulse, consciousness, temperature not known)");
    assert_eq!(log.transitions()[0].readings, 1);
    log.void(Metric::RespiratoryRate, 1.0);
    assert_eq!(log.told(), ["raised 1", "withdrawn 1 late"]);
}

#[test]
fn settings_change_the_score_at_once_and_a_reading_of_oxygen_counts_before_them() {
    let mut log = Log::new(&SEVEN.replace("7", "4"));
    let mut known = settings(1);
    (known.news2_scale, known.oxygen_l_min) = (2, Some(1.0));
    log.input(Input::Settings(known.clone()), minutes(0.0));
    // 95 % on oxygen: 2 on scale 2, and 2 for the oxygen
    log.spo2(1.0, 95.0);
    assert_eq!(log.told(), ["raised 1"]);
    known.version = 2;
    known.news2_scale = 1;
    log.input(Input::Settings(known.clone()), minutes(2.0));
    let amended = log.transitions().pop().unwrap();
    assert_eq!((amended.kind, amended.holds, amended.reason.as_str()), (TransitionKind::Amended, false, "later data or settings changed what it rests on"));
    known.version = 3;
    known.news2_scale = 2;
    log.input(Input::Settings(known), minutes(3.0));
    assert!(log.transitions().pop().unwrap().holds);
    log.input(Input::Reading(reading(Metric::OxygenFlow, 0.0, minutes(4.0))), minutes(4.0));
    let now = log.engine.news2(&reading(Metric::Spo2, 0.0, 0).patient, EventTime(minutes(4.0)), Micros::hours(4));
    assert_eq!((now.least(), now.points().0[2]), (0, Some(0)));
}

/// SEMANTICS 5: what is dropped after a gap leaves the newest that counts, also behind many that do not.
#[test]
fn a_value_older_than_samples_are_kept_still_counts() {
    let mut log = Log::new(&SEVEN.replace("4 h", "24 h").replace("7", "3"));
    log.spo2(-60.0, 91.0);
    for n in 0..100 {
        let minute = f64::from(n - 100) * 0.5;
        let mut under_test = reading(Metric::Spo2, 97.0, minutes(minute));
        under_test.test = true;
        log.input(Input::Reading(under_test), minutes(minute));
    }
    for n in 0..10 {
        log.spo2(1200.0 + f64::from(n) * 0.5, 97.0);
    }
    let (ada, at) = (reading(Metric::Spo2, 0.0, 0).patient, EventTime(minutes(1199.0)));
    assert!(log.engine.samples(&ada, Metric::Spo2, EventTime::MIN).len() < 60, "nothing was dropped");
    assert_eq!(log.engine.news2(&ada, at, Micros::hours(24)).least(), 3);
    let restored = Engine::restore(Config::default(), &log.engine.snapshot().unwrap()).unwrap();
    assert_eq!(restored.news2(&ada, at, Micros::hours(24)).least(), 3);
    // voided, it counts no more
    log.void(Metric::Spo2, -60.0);
    assert_eq!(log.engine.news2(&ada, at, Micros::hours(24)).least(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// P1, P7: any split and any restart give what one run gives.
    #[test]
    fn p7_any_split_and_any_restart_give_the_same_scores(
        acts in prop::collection::vec((0u16..1200, 0usize..9, 0.0..1.0, prop_oneof![3 => Just(0u16), 1 => 0u16..9000]), 1..80),
        cuts in prop::collection::vec(1usize..9, 1..40),
    ) {
        let mut log = Log::new(include_str!("../../../rules/news2.toml"));
        let mut clock = minutes(0.0);
        let mut known = settings(1);
        for (after, which, value, ago) in &acts {
            clock += i64::from(*after) * 1_000_000;
            let part = engine::news2::Part::ALL.get(*which);
            let input = match part {
                Some(part) => {
                    let (low, high) = part.metric().plausible();
                    let value = f64::round(low + (high - low) * value);
                    Input::Reading(reading(part.metric(), value, clock - i64::from(*ago) * 1_000_000))
                }
                None => {
                    known.version += 1;
                    known.news2_scale = 1 + u8::from(*value > 0.5);
                    known.oxygen_l_min = (*which == 7).then_some(f64::floor(value * 2.0));
                    Input::Settings(known.clone())
                }
            };
            log.input(input, clock);
        }
        let mut engine = Engine::new(Config::default());
        let (mut rest, mut split, mut cuts) = (log.arrivals.as_slice(), Vec::new(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            split.extend(engine.apply(now));
            engine = Engine::restore(Config::default(), &engine.snapshot().unwrap()).unwrap();
            rest = later;
        }
        prop_assert_eq!(split, log.outputs);
        prop_assert!(engine.snapshot().unwrap() == log.engine.snapshot().unwrap(), "the snapshots differ");
    }
}

/// A blood pressure that counts for hours, and is found to be wrong when the readings that raised with it are long gone.
#[test]
fn a_value_that_is_voided_late_is_told_of_the_alert_that_rests_on_it() {
    for (hours, horizon) in [(1, "within"), (3, "beyond"), (8, "long beyond")] {
        let mut log = Log::new(&SEVEN.replace("'4 h'", "'12 h'"));
        log.input(Input::Reading(reading(Metric::SystolicPressure, 85.0, minutes(0.0))), minutes(0.0));
        for (metric, value) in [(Metric::RespiratoryRate, 22.0), (Metric::Spo2, 93.0), (Metric::HeartRate, 80.0)] {
            log.input(Input::Reading(reading(metric, value, minutes(1.0))), minutes(1.0));
        }
        assert_eq!(log.told(), ["raised 1", "amended 1 late quiet"]);
        for minute in 2..hours * 60 {
            for (metric, value) in [(Metric::RespiratoryRate, 22.0), (Metric::Spo2, 93.0), (Metric::HeartRate, 80.0)] {
                log.input(Input::Reading(reading(metric, value, minutes(f64::from(minute)))), minutes(f64::from(minute)));
            }
        }
        log.void(Metric::SystolicPressure, 0.0);
        let last = log.transitions().pop().unwrap();
        assert_eq!((last.kind, last.holds, last.pages), (TransitionKind::Amended, false, true), "{horizon} the horizon: {:?}", log.told());
    }
}
