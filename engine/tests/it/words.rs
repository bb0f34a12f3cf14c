//! The vocabulary by cases: each plays a table through the engine, as `vigil rule test` does.

use engine::run_cases;

use crate::semantics::edited;

#[track_caller]
fn holds(toml: &str) {
    let reports = run_cases(toml).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!reports.is_empty());
    let failed: Vec<String> = reports.iter().filter(|report| !report.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_day_is_a_calendar_day_of_the_files_zone() {
    holds(
        r#"
zone = "Europe/London"
[[rule]]
id = "gain"
priority = "medium"
when = "last(weight, '1 day') - lowest(weight, '3 days') >= 2"
clear = "last(weight, '1 day') - lowest(weight, '3 days') < 1"

[[case]]
name = "two kilograms in three days"
steps = [
  { at = "07:00", weight = 80.0 },
  { at = "day 2 07:00", weight = 81.0 },
  { at = "day 3 07:00", weight = 82.0, expect = "raised gain" },
  { at = "day 4 07:00", weight = 82.1, expect = [] },
  { at = "day 5 07:00", weight = 82.2, expect = "cleared gain" },
]

[[case]]
name = "the fourth day no longer sees the first"
steps = [
  { at = "07:00", weight = 80.0 },
  { at = "day 4 07:00", weight = 83.0 },
]

[[case]]
name = "midnight of the wall clock, in a summer that UTC does not know"
date = "2026-06-01"
steps = [
  { at = "00:10", weight = 80.0 },
  { at = "day 3 23:50", weight = 82.0, expect = "raised gain" },
]

[[case]]
name = "one hour later it is another day"
date = "2026-06-01"
steps = [
  { at = "00:10", weight = 80.0 },
  { at = "day 4 00:10", weight = 82.0 },
]
"#,
    );
}

#[test]
fn a_baseline_is_the_median_of_the_days_before_today() {
    holds(
        r#"
[[rule]]
id = "above"
priority = "low"
when = "last(heart_rate, '5 min') > baseline(heart_rate, '5 days') + 10"

[[case]]
name = "three of five days are needed, and today is none of them"
steps = [
  { at = "08:00", heart_rate = 60 },
  { at = "20:00", heart_rate = 80 },
  { at = "day 2 08:00", heart_rate = 70 },
  { at = "day 3 08:00", heart_rate = 300 },
  { at = "day 3 09:00", heart_rate = 90 },
  { at = "day 4 08:00", heart_rate = 80 },
  { at = "day 4 09:00", heart_rate = 81, expect = "raised above" },
  { at = "day 4 10:00", heart_rate = 80, expect = "cleared above" },
]
"#,
    );
}

#[test]
fn days_hold_what_settled_long_ago() {
    holds(
        r#"
[[rule]]
id = "high-week"
priority = "low"
needs = 3
when = "mean(heart_rate, '7 days') >= 80"

[[case]]
name = "more than is kept as single readings"
steps = [
  { at = "00:00", until = "23:59", every = "5 min", heart_rate = 70 },
  { at = "day 2 00:00", until = "day 2 23:59", every = "5 min", heart_rate = 89 },
  { at = "day 3 00:00", heart_rate = 89 },
  { at = "day 3 00:05", until = "day 3 04:00", every = "5 min", heart_rate = 100, expect = "raised high-week at 01:10" },
  { at = "day 8 00:00", heart_rate = 60 },
  { at = "day 9 00:00", heart_rate = 60 },
  { at = "day 10 00:00", heart_rate = 60, expect = "cleared high-week" },
]
"#,
    );
}

#[test]
fn a_void_takes_a_reading_out_of_its_day() {
    holds(
        r#"
[[rule]]
id = "gain"
priority = "medium"
when = "last(weight, '1 day') - lowest(weight, '3 days') >= 2"

[[case]]
name = "typed in error, and found the next day"
steps = [
  { at = "07:00", weight = 60.0 },
  { at = "day 2 07:00", weight = 80.0, expect = "raised gain" },
  { at = "07:00", heard = "day 2 09:00", void = "weight", expect = ["amended gain at 2026-01-06 07:00 late", "cleared gain at 2026-01-06 07:00"] },
]
"#,
    );
}

#[test]
fn the_wall_clock_knows_summer_time() {
    holds(
        r#"
zone = "Europe/London"
[[rule]]
id = "night"
priority = "low"
when = "last(heart_rate, '5 min') > 100 AND between_hours('22:00', '06:00')"

[[case]]
name = "from ten until six"
steps = [
  { at = "21:59", heart_rate = 110 },
  { at = "22:00", heart_rate = 110, expect = "raised night" },
  { at = "day 2 05:59:59", heart_rate = 110 },
  { at = "day 2 06:00", heart_rate = 110, expect = "cleared night" },
]

[[case]]
name = "in the night the clock goes forward, six comes an hour sooner"
date = "2026-03-29"
steps = [
  { at = "00:30", heart_rate = 110, expect = "raised night" },
  { at = "05:59", heart_rate = 110 },
  { at = "06:00", heart_rate = 110, expect = "cleared night" },
]
"#,
    );
}

const GRADED: &str = r#"
[[rule]]
id = "spo2-critical"
priority = "high"
condition = "spo2"
when = "last(spo2, '5 min') < 85"
clear = "last(spo2, '5 min') >= 87"
[[rule]]
id = "spo2-low"
priority = "medium"
condition = "spo2"
when = "last(spo2, '5 min') < 90"
clear = "last(spo2, '5 min') >= 92"
"#;

#[test]
fn the_more_urgent_rule_of_a_condition_takes_the_place_of_the_other() {
    holds(&format!(
        r#"{GRADED}
[[case]]
name = "at once critical: one alert"
steps = [
  {{ at = "08:00", spo2 = 84, expect = "raised spo2-critical" }},
  {{ at = "08:01", spo2 = 83 }},
]

[[case]]
name = "worse and worse, then better"
steps = [
  {{ at = "08:00", spo2 = 89, expect = "raised spo2-low" }},
  {{ at = "08:01", spo2 = 84, expect = ["raised spo2-critical", "withdrawn spo2-low"] }},
  {{ at = "08:02", spo2 = 86 }},
  {{ at = "08:03", spo2 = 88, expect = ["cleared spo2-critical", "raised spo2-low"] }},
  {{ at = "08:04", spo2 = 93, expect = "cleared spo2-low" }},
]

[[case]]
name = "heard late, the less urgent pages nobody"
steps = [
  {{ at = "08:00", spo2 = 95 }},
  {{ at = "08:20", spo2 = 95 }},
  {{ at = "08:10", spo2 = 80, heard = "08:21", expect = ["raised spo2-critical late", "cleared spo2-critical at 08:20 late", "raised spo2-low late quiet", "cleared spo2-low at 08:20 late quiet"] }},
]
"#
    ));
}

#[test]
fn a_condition_with_holds_is_silenced_by_the_clock_too() {
    let toml = GRADED.replace("condition = \"spo2\"\n", "condition = \"spo2\"\nhold = \"2 min\"\n");
    holds(&format!(
        r#"{toml}
[[case]]
name = "both are due at once, and nothing more is heard"
steps = [
  {{ at = "08:00", spo2 = 84 }},
  {{ at = "08:10", expect = "raised spo2-critical at 08:02" }},
  {{ at = "08:11", spo2 = 88, expect = "cleared spo2-critical" }},
  {{ at = "08:14", expect = "raised spo2-low at 08:13" }},
]
"#
    ));
}

/// `raised spo2-low` …
fn said(log: &crate::Log) -> Vec<String> {
    log.transitions().iter().map(|t| format!("{:?} {}", t.kind, t.rule).to_lowercase()).collect()
}

/// The less urgent one looks at another metric, of which nothing new is heard.
const OF_TWO: &str = r#"
[[rule]]
id = "breath-critical"
priority = "high"
condition = "lungs"
when = "last(respiratory_rate, '1 h') >= 30"
clear = "last(respiratory_rate, '1 h') < 28"
[[rule]]
id = "spo2-low"
priority = "medium"
condition = "lungs"
when = "last(spo2, '2 h') < 90"
clear = "last(spo2, '2 h') >= 92"
"#;

#[test]
fn what_was_superseded_is_raised_again_when_the_more_urgent_is_over() {
    holds(&format!(
        r#"{OF_TWO}
[[case]]
name = "cleared, and nothing new of the other metric"
steps = [
  {{ at = "08:00", spo2 = 88, expect = "raised spo2-low" }},
  {{ at = "08:01", respiratory_rate = 34, expect = ["raised breath-critical", "withdrawn spo2-low"] }},
  {{ at = "08:30", respiratory_rate = 18, expect = "cleared breath-critical" }},
  {{ at = "08:31", expect = "raised spo2-low at 08:30" }},
  {{ at = "08:40", spo2 = 95, expect = "cleared spo2-low" }},
]

[[case]]
name = "better in the meantime"
steps = [
  {{ at = "08:00", spo2 = 88, expect = "raised spo2-low" }},
  {{ at = "08:01", respiratory_rate = 34, expect = ["raised breath-critical", "withdrawn spo2-low"] }},
  {{ at = "08:20", spo2 = 95 }},
  {{ at = "08:30", respiratory_rate = 18, expect = "cleared breath-critical" }},
  {{ at = "08:40" }},
]
"#
    ));
}

#[test]
fn a_more_urgent_alert_that_was_entered_in_error_leaves_the_other_to_be_raised() {
    let mut log = crate::Log::new(OF_TWO);
    log.spo2(0.0, 88.0).late(schemas::Metric::RespiratoryRate, 1.0, 34.0).void(schemas::Metric::RespiratoryRate, 1.0).tick(5.0);
    assert_eq!(said(&log), ["raised spo2-low", "raised breath-critical", "withdrawn spo2-low", "withdrawn breath-critical", "raised spo2-low"]);
}

#[test]
fn a_more_urgent_rule_that_is_gone_leaves_the_other_to_be_raised() {
    for changed in [
        OF_TWO.split("[[rule]]").last().map(|rule| format!("[[rule]]{rule}")).unwrap(),
        OF_TWO.replacen("priority = \"high\"", "priority = \"high\"\nstate = \"shadow\"", 1),
        OF_TWO.replacen("condition = \"lungs\"", "condition = \"other\"", 1),
    ] {
        let mut log = crate::Log::new(OF_TWO);
        log.spo2(0.0, 88.0).late(schemas::Metric::RespiratoryRate, 1.0, 34.0);
        log.input(edited(&changed, 2.0), crate::minutes(2.0)).tick(5.0);
        let last = said(&log).pop().unwrap();
        assert_eq!(last, "raised spo2-low", "{changed}");
    }
}

/// The alert that was superseded hides nothing, and is not told again while what silenced it stands.
#[test]
fn a_superseded_stretch_is_not_told_again() {
    let mut log = crate::Log::new(GRADED);
    log.spo2(0.0, 89.0).spo2(1.0, 84.0).spo2(5.0, 95.0).late(schemas::Metric::Spo2, 0.5, 88.0);
    assert_eq!(said(&log), ["raised spo2-low", "raised spo2-critical", "withdrawn spo2-low", "cleared spo2-critical"]);
}

#[test]
fn one_on_trial_silences_none_that_is_live() {
    // `rule test` tries every rule as if it were live: this needs the engine itself
    let toml = GRADED.replacen("priority = \"high\"", "priority = \"high\"\nstate = \"shadow\"", 1);
    let mut log = crate::Log::new(&toml);
    log.spo2(0.0, 80.0);
    let said: Vec<(String, bool)> = log.transitions().iter().map(|t| (t.rule.to_string(), t.pages)).collect();
    assert_eq!(said, [("spo2-critical".to_owned(), false), ("spo2-low".to_owned(), true)]);
}

#[test]
fn a_second_reading_confirms() {
    holds(
        r#"
[[rule]]
id = "severe"
priority = "high"
confirm = "2 within 10 min"
when = "last(systolic_pressure, '2 h') >= 180"
clear = "last(systolic_pressure, '2 h') < 170"

[[case]]
name = "one measurement, and the same again: no confirmation"
steps = [
  { at = "08:00", systolic_pressure = 190 },
  { at = "08:00", heard = "08:01", systolic_pressure = 190 },
  { at = "08:00", heard = "08:02", systolic_pressure = 191 },
  { at = "10:00" },
]

[[case]]
name = "the second agrees"
steps = [
  { at = "08:00", systolic_pressure = 190 },
  { at = "08:10", systolic_pressure = 185, expect = "raised severe" },
]

[[case]]
name = "the second does not, and the count begins anew"
steps = [
  { at = "08:00", systolic_pressure = 190 },
  { at = "08:02", systolic_pressure = 160 },
  { at = "08:04", systolic_pressure = 190 },
  { at = "08:06", systolic_pressure = 190, expect = "raised severe" },
]

[[case]]
name = "too far apart: the second is a first"
steps = [
  { at = "08:00", systolic_pressure = 190 },
  { at = "08:11", systolic_pressure = 190 },
  { at = "08:20", systolic_pressure = 190, expect = "raised severe" },
]

[[case]]
name = "a void takes the confirmation back before it is one"
steps = [
  { at = "08:00", systolic_pressure = 190 },
  { at = "08:00", heard = "08:01", void = "systolic_pressure" },
  { at = "08:05", systolic_pressure = 190 },
]
"#,
    );
}

#[test]
fn a_cap_ends_the_waiting() {
    holds(
        r#"
[[rule]]
id = "low"
priority = "high"
hold = "3 min"
cap = "10 min"
when = "last(spo2, '5 min') < 90"
clear = "last(spo2, '5 min') >= 93"

[[case]]
name = "in and out without ever being well"
steps = [
  { at = "08:00", spo2 = 89 },
  { at = "08:02", spo2 = 91 },
  { at = "08:04", spo2 = 89 },
  { at = "08:06", spo2 = 91 },
  { at = "08:09", spo2 = 89 },
  { at = "08:09:30", spo2 = 91 },
  { at = "08:10", spo2 = 89, expect = "raised low" },
]

[[case]]
name = "who was well in between begins anew"
steps = [
  { at = "08:00", spo2 = 89 },
  { at = "08:02", spo2 = 93 },
  { at = "08:08", spo2 = 89 },
  { at = "08:10", spo2 = 89 },
  { at = "08:11", spo2 = 89, expect = "raised low" },
]

[[case]]
name = "by the clock, when nothing more is heard"
steps = [
  { at = "08:00", spo2 = 89 },
  { at = "08:02", spo2 = 91 },
  { at = "08:09", spo2 = 89 },
  { at = "08:30", expect = "raised low at 08:10" },
]

[[case]]
name = "what is FALSE at the cap is not raised"
steps = [
  { at = "08:00", spo2 = 89 },
  { at = "08:02", spo2 = 91 },
  { at = "08:30" },
]
"#,
    );
}

#[test]
fn a_personal_limit_ends_by_itself() {
    holds(
        r#"
[[rule]]
id = "low"
priority = "high"
when = "last(spo2, '5 min') < limit('spo2.low', 90)"

[[case]]
name = "until ten, in the time of what is measured"
limits = { "spo2.low" = 88 }
steps = [
  { at = "08:00", spo2 = 89 },
  { at = "08:01", spo2 = 89, limits = { "spo2.low" = 88 }, limits_until = { "spo2.low" = "10:00" } },
  { at = "09:59:59", spo2 = 89 },
  { at = "10:00", spo2 = 89, expect = "raised low" },
  { at = "09:59", spo2 = 87, heard = "10:01" },
]
"#,
    );
}

#[test]
fn a_count_of_what_was_never_measured_is_none_and_not_null() {
    holds(
        r#"
[[rule]]
id = "uncounted"
priority = "low"
when = "last(spo2, '1 h') < 92 AND samples(respiratory_rate, '1 h') = 0"
clear = "last(spo2, '1 h') >= 92"
[[rule]]
id = "uncounted-today"
priority = "low"
when = "last(spo2, '1 h') < 92 AND samples(respiratory_rate, '1 day') = 0"
clear = "last(spo2, '1 h') >= 92"

[[case]]
name = "no breathing at all"
steps = [{ at = "08:00", spo2 = 91, expect = ["raised uncounted", "raised uncounted-today"] }]
"#,
    );
}

#[test]
fn a_page_says_of_each_function_what_its_number_is() {
    let when = "samples(spo2, '5 min') >= 2 AND slope(spo2, '1 h') < 0 AND spread(spo2, '5 min') > 1 AND lowest(spo2, '5 min') < 90";
    let mut log = crate::Log::new(&format!("[[rule]]\nid = \"a\"\npriority = \"low\"\nwhen = \"{when}\"\nclear = \"lowest(spo2, '5 min') >= 90\"\n"));
    log.spo2(0.0, 91.0).spo2(1.0, 88.0);
    assert_eq!(log.transitions()[0].summary, "SpO₂ 2 readings in 5 min, SpO₂ -180.0 % an hour, SpO₂ spread 3 %, SpO₂ 88 %");
}
