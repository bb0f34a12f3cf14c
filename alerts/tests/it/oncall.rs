//! Who is on call, through both changes of the clocks, and the hours in which nobody is.

use std::collections::BTreeMap;

use alerts::oncall::{Finding, Gap, OnCall, Rehearsal};
use proptest::prelude::*;
use schemas::{EventTime, Micros, Priority};

fn at(text: &str) -> EventTime {
    EventTime::parse(text).unwrap()
}

fn oncall(schedule: &str) -> OnCall {
    let text = format!(
        r#"
timezone = "Europe/Lisbon"
person = [{{ name = "silva", channels = ["sms:+1", "mail:s@c.example"] }}, {{ name = "ito", channels = ["mail:i@c.example"] }}, {{ name = "kaya", channels = [] }}]
team = [{{ name = "doctors", people = ["ito", "kaya"] }}]

[[schedule]]
name = "nurses"
{schedule}

[[policy]]
name = "all"
last_resort = ["channel:webhook:pager"]
[[policy.step]]
to = ["schedule:nurses"]
wait = "5 min"
[[policy.step]]
to = ["team:doctors"]
wait = "10 min"
"#
    );
    OnCall::parse(&text).unwrap()
}

fn who(oncall: &OnCall, time: &str) -> Vec<String> {
    oncall.schedules["nurses"].who(at(time)).into_iter().map(str::to_owned).collect()
}

/// Lisbon puts its clocks forward on 29 March 2026 at 01:00 UTC, and back on 25 October at 01:00 UTC.
#[test]
fn a_hand_off_is_when_the_wall_says_so_through_both_changes_of_the_clocks() {
    let daily = oncall("rotation = [{ people = [\"silva\", \"ito\"], starts = \"2026-03-27\", days_each = 1, hand_off = \"08:00\" }]");
    for (time, person) in [
        ("2026-03-27T07:59:59Z", None),
        ("2026-03-27T08:00:00Z", Some("silva")),
        ("2026-03-28T07:59:59Z", Some("silva")),
        ("2026-03-28T08:00:00Z", Some("ito")),
        // a night of 23 hours: 08:00 is 07:00 UTC from now on
        ("2026-03-29T06:59:59Z", Some("ito")),
        ("2026-03-29T07:00:00Z", Some("silva")),
        ("2026-10-24T06:59:59Z", Some("silva")),
        ("2026-10-24T07:00:00Z", Some("ito")),
        // one of 25
        ("2026-10-25T07:00:00Z", Some("ito")),
        ("2026-10-25T07:59:59Z", Some("ito")),
        ("2026-10-25T08:00:00Z", Some("silva")),
    ] {
        assert_eq!(who(&daily, time), person.into_iter().collect::<Vec<_>>(), "{time}");
    }
    // a hand-off in the hour that is left out is as much later, one in the hour that comes twice is in the first
    let odd = oncall("rotation = [{ people = [\"silva\", \"ito\"], starts = \"2026-03-28\", days_each = 1, hand_off = \"01:30\" }]");
    for (time, person) in [
        ("2026-03-29T01:29:59Z", "silva"),
        ("2026-03-29T01:30:00Z", "ito"),
        ("2026-10-25T00:29:59Z", "silva"),
        ("2026-10-25T00:30:00Z", "ito"),
        ("2026-10-25T01:30:00Z", "ito"),
    ] {
        assert_eq!(who(&odd, time), [person], "{time}");
    }
}

#[test]
fn hours_days_overrides_and_holidays() {
    let nurses = oncall(
        r#"
rotation = [
  { people = ["silva"], starts = "2026-01-01", from = "08:00", until = "20:00" },
  { people = ["ito"], starts = "2026-01-01", from = "20:00", until = "08:00", days = ["fri", "sat"] },
]
override = [{ people = ["kaya"], from = "2026-11-06T22:00", until = "2026-11-07T06:00" }]
holiday = [{ date = "2026-11-08", people = ["ito", "silva"] }]
"#,
    );
    for (time, people) in [
        // 2026-11-05 is a Thursday
        ("2026-11-05T19:59:59Z", &["silva"][..]),
        ("2026-11-05T20:00:00Z", &[]),
        ("2026-11-06T20:00:00Z", &["ito"]),
        ("2026-11-06T21:59:59Z", &["ito"]),
        ("2026-11-06T22:00:00Z", &["kaya"]),
        ("2026-11-07T05:59:59Z", &["kaya"]),
        // Friday's night goes on after midnight
        ("2026-11-07T06:00:00Z", &["ito"]),
        ("2026-11-07T08:00:00Z", &["silva"]),
        ("2026-11-08T03:00:00Z", &["ito", "silva"]),
        ("2026-11-09T03:00:00Z", &[]),
    ] {
        assert_eq!(who(&nurses, time), people, "{time}");
    }
    let gaps = nurses.schedules["nurses"].gaps(at("2026-11-05T12:00:00Z"), at("2026-11-07T00:00:00Z"));
    assert_eq!(gaps, [Gap { from: at("2026-11-05T20:00:00Z"), until: at("2026-11-06T08:00:00Z") }]);
}

#[test]
fn a_plan_skips_whom_nobody_reaches_and_ends_with_the_last_resort() {
    let nurses = oncall("rotation = [{ people = [\"silva\"], starts = \"2026-01-01\", from = \"08:00\", until = \"20:00\" }]");
    let day = nurses.plan(Some("w7"), Priority::High, None, at("2026-11-05T12:00:00Z"));
    let channels = |plan: &alerts::escalation::Plan| {
        plan.steps.iter().map(|s| (s.index, s.to.iter().map(|to| to.channels.join(",")).collect())).collect::<Vec<(u32, Vec<String>)>>()
    };
    let text = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        channels(&day),
        [(1, text(&["sms:+1,mail:s@c.example"])), (2, text(&["mail:i@c.example"])), (3, text(&["webhook:pager"]))],
        "kaya has no channel"
    );
    let night = nurses.plan(None, Priority::Low, Some("ito"), at("2026-11-05T22:00:00Z"));
    assert_eq!(channels(&night), [(0, text(&["mail:i@c.example"])), (2, text(&["mail:i@c.example"])), (3, text(&["webhook:pager"]))], "who owns it first");
    let uncovered = |works: fn(&str) -> bool| nurses.uncovered(at("2026-11-05T00:00:00Z"), at("2026-11-06T00:00:00Z"), works).len();
    assert_eq!(uncovered(|_| true), 0, "the doctors are always there");
    assert_eq!(uncovered(|channel| channel.starts_with("sms:")), 2, "they have mail only, and the nurse her day");
}

#[test]
fn a_rehearsal_names_hours_people_and_steps() {
    let nurses = oncall("rotation = [{ people = [\"silva\", \"kaya\"], starts = \"2026-11-05\", days_each = 1, hand_off = \"08:00\" }]");
    let what = Rehearsal { rules: vec![("spo2-low".to_owned(), Priority::High)], patients: BTreeMap::from([(Some("w7".to_owned()), 3)]) };
    let (from, until) = (at("2026-11-06T00:00:00Z"), at("2026-11-06T12:00:00Z"));
    let fails = |channel: &str| channel.starts_with("mail:").then(|| "no mail server is configured".to_owned());
    let found = nurses.rehearse(&what, from, until, fails);
    assert_eq!(found.pairs, 3);
    let from_8 = Gap { from: at("2026-11-06T08:00:00Z"), until };
    assert!(found.findings.contains(&Finding::Uncovered { policy: "all".to_owned(), last_resort: true, gap: from_8 }), "{:#?}", found.findings);
    assert!(found.findings.contains(&Finding::EmptyStep { policy: "all".to_owned(), step: 1, gap: from_8 }));
    assert!(found.findings.contains(&Finding::EmptyStep { policy: "all".to_owned(), step: 2, gap: Gap { from, until } }));
    let ito = Finding::Unreachable { person: "ito".to_owned(), gap: Gap { from, until }, why: "mail:i@c.example: no mail server is configured".to_owned() };
    assert!(found.findings.contains(&ito));
    assert!(found.findings.iter().all(|f| !matches!(f, Finding::NeverReached { .. })), "a high alert goes on to the second step");
    assert_eq!((found.policies[0].policy.as_str(), found.policies[0].rules.len(), found.policies[0].patients), ("all", 1, 3));
    let low = Rehearsal { rules: vec![("weight".to_owned(), Priority::Low)], ..what.clone() };
    let found = nurses.rehearse(&low, from, until, |_| None);
    assert!(!found.findings.iter().any(|f| matches!(f, Finding::NeverReached { .. })), "kaya has no channel: her hours go on to the doctors");
    let found = nurses.rehearse(&low, from, from_8.from, |_| None);
    assert!(found.findings.iter().any(|f| matches!(f, Finding::NeverReached { step: 2, .. })), "{:#?}", found.findings);
    assert_eq!(nurses.rehearse(&Rehearsal::default(), from, until, fails).findings.iter().filter(|f| matches!(f, Finding::Uncovered { .. })).count(), 0);
}

#[test]
fn a_text_that_cannot_work_says_what_to_change() {
    let good = "timezone = \"Europe/Lisbon\"\nperson = [{ name = \"a\", channels = [\"mail:a@b.example\"] }]\n";
    let policy = "[[policy]]\nname = \"p\"\n[[policy.step]]\nto = [\"person:a\"]\nwait = \"5 min\"\n";
    assert!(OnCall::parse(&format!("{good}{policy}")).is_ok());
    for (text, says) in [
        (good.to_owned(), "no policy is for alerts of priority high"),
        (format!("{good}{policy}{}", policy.replace("\"p\"", "\"q\"\nwards = [\"w7\"]")), "the policy q is never used"),
        (format!("{good}{}", policy.replace("\"p\"", "\"p\"\npriorities = [\"high\"]")), "no policy is for alerts of priority medium"),
        (format!("{good}{}", policy.replace("person:a", "person:b")), "no person of that name"),
        (format!("{good}{}", policy.replace("person:a", "a")), "write person:"),
        (format!("{good}{}", policy.replace("5 min", "soon")), "`soon` is no wait"),
        (format!("{}{policy}", good.replace("mail:a", "fax:a")), "is no channel"),
        (format!("{}{policy}", good.replace("Europe/Lisbon", "Europe/Lisboa")), "is no time zone"),
        (format!("{good}schedule = [{{ name = \"s\", rotation = [{{ people = [\"b\"], starts = \"2026-01-01\" }}] }}]\n{policy}"), "who has no [[person]]"),
        (format!("{good}{policy}wait2 = 1"), "line 8"),
    ] {
        let error = OnCall::parse(&text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}\n{error}");
    }
}

#[test]
fn a_moment_is_as_the_wall_shows_it() {
    let site = oncall("rotation = [{ people = [\"silva\"], starts = \"2026-01-01\" }]");
    for (now, text, moment) in [
        ("2026-11-26T20:00:00Z", "07:00", "2026-11-27T07:00:00Z"),
        ("2026-11-26T06:59:59Z", "07:00", "2026-11-26T07:00:00Z"),
        ("2026-11-26T07:00:00Z", "07:00", "2026-11-27T07:00:00Z"),
        // the clocks change in this night
        ("2026-10-24T20:00:00Z", "07:00", "2026-10-25T07:00:00Z"),
        ("2026-03-28T20:00:00Z", "07:00", "2026-03-29T06:00:00Z"),
        ("2026-07-01T00:00:00Z", "2026-07-02T08:00", "2026-07-02T07:00:00Z"),
        ("2026-07-01T00:00:00Z", "2026-07-02T08:00:00+02:00", "2026-07-02T06:00:00Z"),
        ("2026-07-01T00:00:00Z", "now", "2026-07-01T00:00:00Z"),
    ] {
        assert_eq!(site.moment(text, at(now)).unwrap(), at(moment), "{text} at {now}");
    }
    assert!(site.moment("tomorrow", at("2026-07-01T00:00:00Z")).unwrap_err().to_string().contains("07:00"));
    assert_eq!(site.wall(at("2026-07-01T11:00:00Z")), "2026-07-01T12:00:00+01:00");
}

/// A holiday without anybody, three months from now, is found today.
#[test]
fn it_is_looked_as_far_ahead_as_anything_is_written() {
    let now = at("2026-11-05T12:00:00Z");
    let weekly = "rotation = [{ people = [\"silva\", \"ito\", \"ito\", \"ito\", \"ito\", \"kaya\"], starts = \"2026-11-05\" }]";
    assert_eq!(oncall(weekly).horizon(now), now + Micros::days(42));
    let holiday = oncall(&format!("{weekly}\nholiday = [{{ date = \"2027-02-28\", people = [] }}]"));
    assert_eq!(holiday.horizon(now), at("2027-03-01T00:00:00Z"));
    let gaps = holiday.schedules["nurses"].gaps(now, holiday.horizon(now));
    assert_eq!(gaps, [Gap { from: at("2027-02-28T00:00:00Z"), until: at("2027-03-01T00:00:00Z") }]);
    assert_eq!(holiday.schedules["nurses"].relieved(now, holiday.horizon(now)), Some(at("2026-11-12T00:00:00Z")));
}

proptest! {
    /// The gaps are the minutes in which nobody is there, minute by minute.
    #[test]
    fn gaps_are_the_minutes_without_anybody(
        spring in any::<bool>(),
        hours in prop::collection::vec((0..48_u32, 0..48_u32, 0..7_usize), 1..4),
        hand_off in 0..48_u32,
    ) {
        let half = |n: u32| format!("{:02}:{:02}", n / 2, n % 2 * 30);
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let rotations: Vec<String> = hours.iter().filter(|(from, until, _)| from != until).map(|(from, until, day)| format!(
            "{{ people = [\"silva\", \"ito\"], starts = \"2026-01-01\", days_each = 2, hand_off = \"{}\", from = \"{}\", until = \"{}\", days = [\"{}\", \"sun\"] }}",
            half(hand_off), half(*from), half(*until), days[*day]
        )).collect();
        let nurses = oncall(&format!("rotation = [{}]", rotations.join(", ")));
        let from = if spring { at("2026-03-28T00:10:00Z") } else { at("2026-10-24T00:10:00Z") };
        let until = from + Micros::hours(60);
        let schedule = &nurses.schedules["nurses"];
        let gaps = schedule.gaps(from, until);
        let mut minute = from;
        while minute < until {
            let inside = gaps.iter().any(|gap| gap.from <= minute && minute < gap.until);
            prop_assert_eq!(inside, schedule.who(minute).is_empty(), "{}", minute);
            minute = minute + Micros::minutes(1);
        }
    }
}
