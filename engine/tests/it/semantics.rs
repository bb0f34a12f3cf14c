//! SEMANTICS, by its numbers. Times are minutes after ten.

use schemas::{EventTime, Input, Metric, Pause, TransitionKind};

use crate::{Log, minutes, settings};

const LAST: &str = "[[rule]]\nid = \"low\"\npriority = \"high\"\nwhen = \"last(spo2, '5 min') < 90\"\n";
const MEAN: &str = "[[rule]]\nid = \"low\"\npriority = \"high\"\nneeds = 3\nwhen = \"mean(spo2, '5 min') < limit('spo2.low', 90)\"\nclear = \"mean(spo2, '5 min') >= limit('spo2.low', 90) + 2\"\n";
const HOLD: &str = "[[rule]]\nid = \"low\"\npriority = \"high\"\nhold = \"2 min\"\nwhen = \"last(spo2, '5 min') < 90\"\n";
const SILENT: &str = "[[rule]]\nid = \"silent\"\npriority = \"low\"\nmetric = \"spo2\"\nsilent = \"30 min\"\n";
const BOTH: &str = "[[rule]]\nid = \"both\"\npriority = \"high\"\nwhen = \"last(spo2, '10 min') < 90 and last(heart_rate, '10 min') > 120\"\n";

#[track_caller]
fn check(toml: &str, play: impl Fn(&mut Log), expected: &[&str]) {
    let mut log = Log::new(toml);
    play(&mut log);
    assert_eq!(log.told(), expected);
}

#[test]
fn a_reading_raises_and_clears() {
    check(
        LAST,
        |log| {
            log.spo2(0.0, 95.0).spo2(1.0, 85.0).spo2(2.0, 84.0).spo2(3.0, 93.0);
        },
        &["raised 1", "cleared 3"],
    );
}

#[test]
fn s1_another_metric_with_a_newer_frontier_decides_there() {
    check(
        BOTH,
        |log| {
            log.spo2(5.0, 80.0).late(Metric::HeartRate, 3.0, 130.0);
        },
        &["raised 5"],
    );
}

#[test]
fn s2_a_late_reading_evaluates_the_rows_that_could_see_it() {
    check(
        MEAN,
        |log| {
            log.spo2(0.0, 80.0).spo2(2.0, 80.0).spo2(20.0, 97.0).late(Metric::Spo2, 1.0, 80.0);
        },
        &["raised 2 late", "cleared 20 late"],
    );
}

#[test]
fn s3_settings_evaluate_the_frontier_at_once() {
    check(
        MEAN,
        |log| {
            log.spo2(0.0, 91.0).spo2(1.0, 91.0).spo2(2.0, 91.0);
            let mut personal = settings(1);
            personal.limits.insert("spo2.low".to_owned(), 92.0);
            log.input(Input::Settings(personal), minutes(3.0));
        },
        &["raised 2"],
    );
}

#[test]
fn s7_too_little_evidence_neither_raises_nor_clears() {
    check(
        MEAN,
        |log| {
            log.spo2(0.0, 80.0).spo2(1.0, 80.0);
        },
        &[],
    );
    check(
        MEAN,
        |log| {
            log.spo2(0.0, 80.0).spo2(1.0, 80.0).spo2(2.0, 80.0).spo2(20.0, 99.0).spo2(21.0, 99.0);
        },
        &["raised 2"],
    );
    check(
        MEAN,
        |log| {
            log.spo2(0.0, 80.0).spo2(1.0, 80.0).spo2(2.0, 80.0).spo2(20.0, 99.0).spo2(21.0, 99.0).spo2(22.0, 99.0);
        },
        &["raised 2", "cleared 22"],
    );
}

#[test]
fn s11_hold_is_met_in_event_time_or_by_the_clock() {
    check(
        HOLD,
        |log| {
            log.spo2(0.0, 85.0).spo2(1.0, 85.0).spo2(2.0, 85.0);
        },
        &["raised 2"],
    );
    check(
        HOLD,
        |log| {
            log.spo2(0.0, 85.0).spo2(1.0, 95.0).spo2(2.0, 85.0).spo2(3.0, 85.0);
        },
        &[],
    );
    // nothing more was heard: the clock raises, stamped when it was due
    check(
        HOLD,
        |log| {
            log.spo2(0.0, 85.0).tick(2.0);
        },
        &[],
    );
    check(
        HOLD,
        |log| {
            log.spo2(0.0, 85.0).tick(9.0);
        },
        &["raised 2"],
    );
    // a late FALSE inside the stretch moves its start
    check(
        HOLD,
        |log| {
            log.spo2(0.0, 85.0).spo2(1.0, 85.0).late(Metric::Spo2, 0.5, 95.0).spo2(2.0, 85.0);
        },
        &[],
    );
    check(
        HOLD,
        |log| {
            log.spo2(0.0, 85.0).spo2(1.0, 85.0).late(Metric::Spo2, 0.5, 95.0).spo2(2.0, 85.0).spo2(3.0, 85.0);
        },
        &["raised 3"],
    );
}

#[test]
fn s12_silence_counts_from_the_newest_reading() {
    check(
        SILENT,
        |log| {
            log.spo2(0.0, 95.0).tick(30.0);
        },
        &[],
    );
    check(
        SILENT,
        |log| {
            log.spo2(0.0, 95.0).tick(30.1);
        },
        &["raised 30"],
    );
    check(
        SILENT,
        |log| {
            log.spo2(0.0, 95.0).tick(31.0).spo2(32.0, 95.0);
        },
        &["raised 30", "cleared 32"],
    );
    // neither a duplicate nor a backlog ends it
    check(
        SILENT,
        |log| {
            log.spo2(0.0, 95.0).tick(31.0).late(Metric::Spo2, 0.0, 95.0).late(Metric::Spo2, -5.0, 95.0);
        },
        &["raised 30"],
    );
    // enrolment counts
    check(
        SILENT,
        |log| {
            log.input(Input::Settings(settings(1)), minutes(0.0)).tick(31.0);
        },
        &["raised 30"],
    );
}

#[test]
fn s13_a_pause_withdraws_and_its_readings_decide_nothing() {
    let pause = |from: f64, until: f64| {
        let mut paused = settings(1);
        paused.pauses.push(Pause { from: EventTime(minutes(from)), until: Some(EventTime(minutes(until))), reason: "bath".to_owned() });
        Input::Settings(paused)
    };
    check(
        LAST,
        |log| {
            log.spo2(0.0, 85.0).input(pause(1.0, 10.0), minutes(1.0)).spo2(2.0, 80.0).spo2(11.0, 85.0);
        },
        &["raised 0", "withdrawn 1", "raised 11"],
    );
    // one that begins later withdraws when it begins
    check(
        LAST,
        |log| {
            log.spo2(0.0, 85.0).input(pause(5.0, 10.0), minutes(1.0)).tick(6.0);
        },
        &["raised 0", "withdrawn 5"],
    );
}

#[test]
fn s14_an_old_late_stretch_is_told_quietly() {
    check(
        MEAN,
        |log| {
            log.spo2(0.0, 80.0).spo2(2.0, 80.0).spo2(20.0, 97.0).spo2(70.0, 97.0).late(Metric::Spo2, 1.0, 80.0);
        },
        &["raised 2 late quiet", "cleared 20 late quiet"],
    );
}

#[test]
fn s15_beyond_the_horizon_decides_nothing() {
    let mut log = Log::new(LAST);
    log.spo2(0.0, 95.0).spo2(121.0, 95.0).late(Metric::Spo2, 0.5, 50.0);
    assert_eq!(log.told(), Vec::<String>::new());
    assert_eq!(log.engine.stats().beyond_horizon, 1);
    // exactly the horizon late is inside
    let mut log = Log::new(LAST);
    log.spo2(0.0, 95.0).spo2(121.0, 95.0).late(Metric::Spo2, 1.0, 50.0);
    assert_eq!(log.engine.stats().beyond_horizon, 0);
    assert_eq!(log.told().len(), 2);
}

#[test]
fn s16_people_are_told_only_when_it_no_longer_holds() {
    check(
        MEAN,
        |log| {
            log.spo2(0.0, 80.0).spo2(1.0, 80.0).spo2(2.0, 80.0).late(Metric::Spo2, 1.5, 82.0);
        },
        &["raised 2", "amended 2 late quiet"],
    );
    check(
        MEAN,
        |log| {
            log.spo2(0.0, 88.0).spo2(1.0, 88.0).spo2(2.0, 88.0).late(Metric::Spo2, 1.5, 100.0);
        },
        &["raised 2", "amended 2 late"],
    );
}

#[test]
fn s17_an_alert_without_evidence_is_withdrawn() {
    check(
        LAST,
        |log| {
            log.spo2(0.0, 85.0).void(Metric::Spo2, 0.0);
        },
        &["raised 0", "withdrawn 0 late"],
    );
    // the void wins over a resend, also when it comes first
    check(
        LAST,
        |log| {
            log.void(Metric::Spo2, 0.0).spo2(0.0, 85.0);
        },
        &[],
    );
}

/// A reading that was moved away and is moved back counts again, and can be corrected again.
#[test]
fn s17_a_void_that_is_taken_back_is_none() {
    let mut log = Log::new(LAST);
    log.spo2(0.0, 85.0).void(Metric::Spo2, 0.0).unvoid(Metric::Spo2, 0.0).unvoid(Metric::Spo2, 0.0).spo2(0.0, 85.0);
    log.void(Metric::Spo2, 0.0).unvoid(Metric::Spo2, 0.0).spo2(0.0, 95.0);
    assert_eq!(log.told(), ["raised 0", "withdrawn 0 late", "raised 0", "withdrawn 0 late", "raised 0", "amended 0 late", "cleared 0"]);
    let raised: std::collections::BTreeSet<_> = log.transitions().iter().filter(|t| t.kind == TransitionKind::Raised).map(|t| t.alert).collect();
    assert_eq!(raised.len(), 3, "an id that somebody acknowledged would page nobody");
    check(
        LAST,
        |log| {
            log.void(Metric::Spo2, 0.0).unvoid(Metric::Spo2, 0.0).spo2(0.0, 85.0);
        },
        &["raised 0"],
    );
}

/// A value that is corrected and corrected back raises another alert: an id that somebody acknowledged would page nobody.
#[test]
fn s19_an_alert_that_is_raised_again_by_the_same_reading_has_an_id_of_its_own() {
    let mut log = Log::new(LAST);
    log.spo2(0.0, 85.0).spo2(0.0, 95.0).spo2(0.0, 85.0);
    assert_eq!(log.told(), ["raised 0", "amended 0 late", "cleared 0", "raised 0"]);
    let raised: Vec<_> = log.transitions().into_iter().filter(|t| t.kind == TransitionKind::Raised).map(|t| t.alert).collect();
    assert_ne!(raised[0], raised[1]);
}

/// Also when the alert before was withdrawn, because another reading that it rested on was entered in error.
#[test]
fn s19_an_alert_in_place_of_a_withdrawn_one_has_an_id_of_its_own() {
    const THREE: &str = r#"
        [[rule]]
        id = "low"
        priority = "high"
        needs = 3
        when = "mean(spo2, '10 min') < 90"
        clear = "mean(spo2, '10 min') >= 90"
    "#;
    let mut log = Log::new(THREE);
    log.spo2(0.0, 85.0).spo2(1.0, 85.0).spo2(2.0, 85.0).void(Metric::Spo2, 0.0).spo2(2.0, 99.0).late(Metric::Spo2, 0.5, 95.0).spo2(2.0, 85.0);
    let raised: Vec<_> = log.transitions().into_iter().filter(|t| t.kind == TransitionKind::Raised).map(|t| t.alert).collect();
    assert_eq!(log.told().first().map(String::as_str), Some("raised 2"));
    assert!(raised.len() > 1 && raised.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", log.told());
}

#[test]
fn s18_the_same_reading_again_is_one_reading() {
    let mut log = Log::new(LAST);
    log.spo2(0.0, 85.0).spo2(0.0, 85.0);
    assert_eq!((log.engine.stats().readings, log.engine.stats().duplicates), (1, 1));
    log.spo2(0.0, 95.0);
    assert_eq!(log.engine.stats().corrected, 1);
    assert_eq!(log.told(), ["raised 0", "amended 0 late", "cleared 0"]);
}

#[test]
fn s19_a_tick_cannot_change_an_id() {
    let play = |ticks: &[f64]| {
        let mut log = Log::new(SILENT);
        log.spo2(0.0, 95.0);
        for tick in ticks {
            log.tick(*tick);
        }
        log.spo2(40.0, 95.0);
        log.transitions().into_iter().map(|t| (t.alert, t.at, t.heard_at)).collect::<Vec<_>>()
    };
    assert_eq!(play(&[10.0, 31.0]), play(&[]));
}

#[test]
fn a_device_under_test_never_pages() {
    let mut log = Log::new(LAST);
    let mut reading = crate::reading(Metric::Spo2, 50.0, minutes(0.0));
    reading.test = true;
    log.input(Input::Reading(reading), minutes(0.0));
    assert!(log.told().is_empty());
    assert!(log.engine.latest(&schemas::PatientId::parse("ada").unwrap(), Metric::Spo2).unwrap().test);
}

fn paused(version: u64, pauses: &[(f64, f64)]) -> Input {
    let mut paused = settings(version);
    paused.pauses = pauses
        .iter()
        .map(|(from, until)| Pause { from: EventTime(minutes(*from)), until: Some(EventTime(minutes(*until))), reason: "bath".to_owned() })
        .collect();
    Input::Settings(paused)
}

pub fn edited(toml: &str, minute: f64) -> Input {
    Input::RuleSet(schemas::RuleSet { version: 2, toml: toml.to_owned(), activated_at: EventTime(minutes(minute)), author: String::new() })
}

#[test]
fn s3_an_open_alert_survives_a_rule_that_asks_for_more() {
    let rule = |needs: u32| {
        format!("[[rule]]\nid = \"low\"\npriority = \"high\"\nneeds = {needs}\nwhen = \"mean(spo2, '5 min') < 90\"\nclear = \"mean(spo2, '5 min') >= 92\"\n")
    };
    check(
        &rule(2),
        |log| {
            log.spo2(0.0, 80.0).spo2(1.0, 80.0).input(edited(&rule(3), 2.0), minutes(2.0)).spo2(3.0, 80.0);
        },
        &["raised 1"],
    );
}

/// Its alert rests on what the rule asked before; that, too, is kept over a restart.
#[test]
fn s3_an_open_alert_whose_rule_changed_survives_a_restart() {
    let mut log = Log::new(LAST);
    log.spo2(0.0, 80.0).input(edited(&LAST.replace("90", "91"), 1.0), minutes(1.0));
    let restored = engine::Engine::restore(engine::Config::default(), &log.engine.snapshot().unwrap()).unwrap();
    let ada = schemas::PatientId::parse("ada").unwrap();
    assert_eq!(restored.open_alerts(&ada), log.engine.open_alerts(&ada));
    assert_eq!(restored.open_alerts(&ada).len(), 1);
}

#[test]
fn s12_silence_after_a_pause_that_was_set_in_advance() {
    check(
        SILENT,
        |log| {
            log.input(paused(1, &[(30.0, 60.0)]), minutes(0.0)).spo2(29.0, 95.0).tick(31.0).tick(89.0).tick(91.0);
        },
        &["raised 90"],
    );
    // in whatever order pauses are listed
    check(
        SILENT,
        |log| {
            log.input(paused(1, &[(70.0, 120.0), (30.0, 60.0)]), minutes(0.0)).spo2(10.0, 95.0).tick(31.0).tick(71.0).tick(149.0).tick(151.0);
        },
        &["raised 150"],
    );
}

#[test]
fn s12_another_rule_s_edit_ends_no_silence() {
    check(
        SILENT,
        |log| {
            log.spo2(0.0, 95.0).tick(31.0).input(edited(&format!("{SILENT}{LAST}"), 40.0), minutes(40.0)).tick(71.0);
        },
        &["raised 30"],
    );
}

#[test]
fn s12_who_is_monitored_again_is_silent_from_then() {
    check(
        SILENT,
        |log| {
            let mut left = settings(1);
            left.monitored = false;
            log.spo2(0.0, 95.0).tick(31.0).input(Input::Settings(left), minutes(40.0));
            log.input(Input::Settings(settings(2)), minutes(100.0)).tick(129.0).tick(131.0);
        },
        &["raised 30", "withdrawn 40", "raised 130"],
    );
}

#[test]
fn s12_a_device_under_test_ends_no_silence() {
    check(
        SILENT,
        |log| {
            let mut test = crate::reading(Metric::Spo2, 95.0, minutes(20.0));
            test.test = true;
            log.spo2(0.0, 95.0).input(Input::Reading(test), minutes(20.0)).tick(31.0);
        },
        &["raised 30"],
    );
}

#[test]
fn s13_nothing_is_raised_while_paused() {
    // by a late reading
    check(
        LAST,
        |log| {
            log.spo2(0.0, 85.0).input(paused(1, &[(1.0, 30.0)]), minutes(1.0)).late(Metric::Spo2, -0.5, 84.0);
        },
        &["raised 0", "withdrawn 1"],
    );
    // by a rule that changed
    check(
        LAST,
        |log| {
            let changed = LAST.replace("< 90", "< 91");
            log.spo2(0.0, 85.0).input(paused(1, &[(1.0, 30.0)]), minutes(1.0)).input(edited(&changed, 2.0), minutes(2.0)).tick(3.0);
        },
        &["raised 0", "withdrawn 1"],
    );
}

#[test]
fn s13_no_hold_bridges_a_pause() {
    check(
        HOLD,
        |log| {
            log.spo2(0.0, 85.0).input(paused(1, &[(0.5, 30.0)]), minutes(0.5)).spo2(31.0, 85.0).late(Metric::Spo2, 30.5, 85.0).tick(33.1);
        },
        &["raised 33"],
    );
}

#[test]
fn s17_what_was_entered_in_error_hides_nothing() {
    check(
        LAST,
        |log| {
            log.spo2(0.0, 85.0).void(Metric::Spo2, 0.0).spo2(5.0, 97.0).late(Metric::Spo2, -2.0, 80.0);
        },
        &["raised 0", "withdrawn 0 late", "raised -2 late", "cleared 5 late"],
    );
}

#[test]
fn an_alert_by_the_clock_says_what_it_rests_on() {
    let mut log = Log::new(
        "[[rule]]\nid = \"low\"\npriority = \"high\"\nneeds = 2\nhold = \"2 min\"\nwhen = \"mean(spo2, '5 min') < 90\"\nclear = \"mean(spo2, '5 min') >= 92\"\n",
    );
    log.input(Input::Settings(settings(4)), minutes(0.0)).spo2(0.0, 85.0).spo2(10.0, 97.0).late(Metric::Spo2, 1.0, 84.0).tick(20.0);
    let raised = log.transitions().into_iter().next().unwrap();
    assert_eq!(raised.evidence[0].value, Some(84.5), "{raised:?}");
    assert_eq!(raised.settings_version, 4);
}

#[test]
fn a_limit_is_a_number() {
    for default in ["'nan'", "nan", "'inf'"] {
        let toml = format!("[[rule]]\nid = \"low\"\npriority = \"high\"\nwhen = \"last(spo2, '5 min') < limit('spo2.low', {default})\"\n");
        assert!(engine::compile(&toml).is_err(), "{default}");
    }
}

/// Decision 011.
#[test]
fn a_void_is_forgotten_after_30_days_and_not_before() {
    const DAY: f64 = 24.0 * 60.0;
    let mut log = Log::new("");
    for minute in 0..64 {
        log.void(Metric::Spo2, f64::from(minute));
    }
    let empty = Log::new("").engine.snapshot().unwrap().len();
    let size = |log: &Log| log.engine.snapshot().unwrap().len() - empty;
    let full = size(&log);
    log.tick(29.0 * DAY);
    for minute in 64..128 {
        log.void(Metric::Spo2, f64::from(minute));
    }
    assert!(size(&log) > full + full / 2, "a void was forgotten early");
    // what it voids comes at last, and stays voided
    log.late(Metric::Spo2, 5.0, 85.0);
    assert_eq!(log.engine.stats().voided, 1);
    log.tick(31.0 * DAY);
    for minute in 0..128 {
        log.void(Metric::Spo2, 31.0 * DAY + f64::from(minute));
    }
    assert!(size(&log) < full * 3, "{} bytes more, {full} with 64 voids", size(&log));
    log.late(Metric::Spo2, 5.5, 85.0).late(Metric::Spo2, 31.0 * DAY + 5.0, 85.0);
    assert_eq!(log.engine.stats().voided, 2);
}

/// A clock that was corrected: the id does not follow from the time. The first reading of that id is no longer among the samples when the second comes.
#[test]
fn s17_a_void_finds_a_reading_whose_id_was_there_before() {
    let mut log = Log::new(LAST);
    let corrected = |minute: f64| {
        let mut reading = crate::reading(Metric::Spo2, 85.0, minutes(minute));
        reading.stamped_at = EventTime(10_000_000);
        reading.id = schemas::ReadingId::new(&reading.device, Metric::Spo2, reading.stamped_at, Some(7));
        reading
    };
    log.input(Input::Reading(corrected(0.0)), minutes(0.0));
    for minute in 1..600 {
        log.spo2(f64::from(minute), 97.0);
    }
    let again = corrected(600.0);
    log.input(Input::Reading(again.clone()), minutes(600.0));
    let void = schemas::Void {
        reading: again.id,
        patient: again.patient.clone(),
        metric: Metric::Spo2,
        at: again.at,
        reason: "finger".to_owned(),
        author: "nurse".to_owned(),
        moved_to: None,
    };
    log.input(Input::Void(void), minutes(600.1));
    assert_eq!(log.told().last().map(String::as_str), Some("cleared 600"));
}
