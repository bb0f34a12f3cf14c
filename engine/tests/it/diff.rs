//! What a change of rules changes.

use engine::{BookDiff, compile};

fn diff(before: &str, after: &str) -> BookDiff {
    BookDiff::of(&compile(before).unwrap(), &compile(after).unwrap())
}

const BEFORE: &str = r#"
[[rule]]
id = "low"
priority = "high"
when = "mean(spo2, '5 min') < limit('spo2.low', 90) and samples(spo2, '5 min') > 2"
clear = "mean(spo2, '5 min') >= 92"
[[rule]]
id = "old"
priority = "low"
metric = "spo2"
silent = "30 min"
[[rule]]
id = "trial"
priority = "medium"
state = "shadow"
when = "last(weight, '1 day') > 90"
[[rule]]
id = "named"
priority = "low"
when = "last(temperature, '1 h') > 39"
"#;

#[test]
fn spaces_capitals_and_comments_change_nothing() {
    let after = BEFORE
        .replace("mean(spo2, '5 min') < limit('spo2.low', 90) and", "mean( spo2,'5 min' )   <  limit('spo2.low',90)  AND")
        .replace("[[rule]]", "# why\n[[rule]]");
    let diff = diff(BEFORE, &after);
    assert_eq!((diff.rules.len(), diff.same), (0, 4), "{diff}");
}

#[test]
fn what_is_new_gone_changed_and_on_its_way() {
    let after = BEFORE
        .replace("90) and", "88) and")
        .replace("priority = \"high\"", "priority = \"high\"\nhold = \"2 min\"")
        .replace("id = \"old\"", "id = \"new\"")
        .replace("state = \"shadow\"", "state = \"live\"")
        .replace("id = \"named\"", "id = \"named\"\nname = \"Fever\"");
    let diff = diff(BEFORE, &after);
    insta::assert_snapshot!(diff.to_string());
    let live: Vec<&str> = diff.rules.iter().filter(|rule| rule.activates()).map(|rule| rule.rule.as_str()).collect();
    assert_eq!(live, ["low", "new", "trial"], "a name alone puts nothing into force");
}

/// A day is another one in another zone: the rules that speak of days change with it, and no others.
#[test]
fn a_zone_changes_the_rules_that_speak_of_days() {
    let diff = diff(BEFORE, &format!("zone = \"Europe/London\"\n{BEFORE}"));
    assert_eq!(diff.rules.iter().map(|rule| rule.rule.as_str()).collect::<Vec<_>>(), ["trial"]);
}
