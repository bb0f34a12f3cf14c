//! What a rule file is told when it is wrong: each message as it is printed.

fn told(toml: &str) -> String {
    match engine::compile(toml) {
        Ok(book) => book.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"),
        Err(errors) => errors.to_string(),
    }
}

fn when(text: &str) -> String {
    format!("[[rule]]\nid = \"a\"\npriority = \"high\"\nwhen = \"{text}\"\n")
}

fn with(text: &str) -> String {
    format!("{}clear = \"last(spo2, '5 min') >= 92\"\n{text}\n", when("last(spo2, '5 min') < 90"))
}

#[test]
fn the_default_rules_have_no_warning() {
    assert_eq!(told(engine::DEFAULT_RULES), "");
}

#[test]
fn what_a_predicate_is_told() {
    let wrong = [
        "last(spo, '5 min') < 90",
        "last(spo2, '5 min') < 90 AND mean(heartrate, '5 min') > 100",
        "spo2 < 90",
        "avg(spo2, '5 min') < 90",
        "sleep(spo2, '5 min') < 1",
        "age(spo2) > 5",
        "last(spo2) < 90",
        "last(spo2, '5 min')",
        "last(spo2, '5 min') < 'low'",
        "limit('spo2.low', 90) < 91",
        "last(spo2, '5 min') < limit(spo2, 90)",
        "last(spo2, '5 min') < limit('spo2.low', 90) OR mean(spo2, '5 min') < limit('spo2.low', 88)",
        "last(spo2, '5 min') <",
        // widths
        "last(spo2, '3 h') < 90",
        "last(weight, '24 h') > 90",
        "last(weight, '36 h') > 90",
        "last(weight, '30 days') > 90",
        "last(spo2, '5') < 90",
        "last(spo2, '0 min') < 90",
        "last(spo2, 5) < 90",
        "last(weight, '1 day') > baseline(weight, '2 h') + 2",
        "last(weight, '1 day') > baseline(weight, '2 days') + 2",
        // units
        "last(spo2, '5 min') < 0.9",
        "mean(spo2, '5 min') < limit('spo2.low', 0.9) + 0.02",
        "last(temperature, '1 h') > 102",
        "last(glucose, '1 h') < 4",
        "last(systolic_pressure, '1 h') > 18",
        "last(heart_rate, '5 min') BETWEEN 40 AND 1300",
        "last(weight, '1 day') > 900",
        "last(spo2, '5 min') < limit('heart_rate.low', 90)",
        // which belongs to which
        "last(spo2, '5 min') < 90 AND last(heart_rate, '5 min') > 120 OR last(respiratory_rate, '5 min') > 25",
        "last(spo2, '5 min') < 90 OR last(heart_rate, '5 min') > 120 AND last(respiratory_rate, '5 min') > 25",
        // time of day
        "last(spo2, '5 min') < 90 AND between_hours('22:00')",
        "last(spo2, '5 min') < 90 AND between_hours('22', '6')",
        "last(spo2, '5 min') < 90 AND between_hours('22:00', '22:00')",
        "last(spo2, '5 min') < 90 AND between_hours('22:00', '06:00', 'Europe/Londn')",
        "last(spo2, '5 min') < 90 AND hour() > 22",
        // NEWS2
        "news2('2 days') >= 7",
        "news2('25 h') >= 7",
        "news2(4) >= 7",
        "news2() >= 7",
        "news2('4 h') >= 21",
        "news2('4 h')",
        "new2('4 h') >= 7",
        "news2_missing('4 h') > 3",
        // too little evidence is no end
        "samples(spo2, '5 min') < 3",
        "samples(weight, '3 days') < 2",
    ];
    insta::assert_snapshot!(wrong.map(|text| told(&when(text))).join("\n\n"));
}

#[test]
fn what_a_rule_is_told() {
    let rule = "[[rule]]\nid = \"a\"\npriority = \"high\"\n";
    let wrong = [
        rule.to_owned(),
        "[[rule]]\nid = \"A b\"\npriority = \"urgent\"\nwhen = \"last(spo2, '5 min') < 90\"".to_owned(),
        "[[rule]]\nid = \"vigil-canary\"\npriority = \"low\"\nwhen = \"last(spo2, '5 min') < 90\"".to_owned(),
        format!("{}{}", when("last(spo2, '5 min') < 90"), when("last(spo2, '5 min') < 80")),
        format!("{rule}metric = \"spo\"\nsilent = \"30 min\""),
        format!("{rule}metric = \"spo2\"\nsilent = \"soon\""),
        format!("zone = \"London\"\n{}", when("last(spo2, '5 min') < 90")),
        format!("{}clear = \"last(spo2, '5 min') >= 88\"", when("last(spo2, '5 min') < 90")),
        format!("{}clear = \"last(spo2, '5 min') >= 95 AND last(spo2, '5 min') < 95\"", when("last(spo2, '5 min') < 90 AND last(spo2, '5 min') > 95")),
        when("news2('4 h') >= 7 AND news2('4 h') < 5"),
        with("needs = 0"),
        with("late = \"never\""),
        with("state = \"on\""),
        with("hold = \"2 days\""),
        with("hold = \"10 min\"\ncap = \"5 min\""),
        format!("{}hold = \"1 min\"\ncap = \"5 min\"", when("last(spo2, '5 min') < 90")),
        with("cap = \"5 min\""),
        with("confirm = \"two readings\""),
        with("confirm = \"1 within 10 min\""),
        format!("{}confirm = \"2 within 10 min\"", when("last(systolic_pressure, '1 h') >= 180 OR last(diastolic_pressure, '1 h') >= 110")),
        with("prority = \"low\""),
        format!("{}{}", when("last(spo2, '5 min') < limit('spo2.low', 90)"), when("last(spo2, '5 min') < limit('spo2.low', 88)").replace("\"a\"", "\"b\"")),
        "[[rule]\n".to_owned(),
    ];
    insta::assert_snapshot!(wrong.map(|toml| told(&toml)).join("\n\n"));
}

#[test]
fn what_a_case_is_told() {
    let case = |steps: &str| format!("{}\n[[case]]\nname = \"a case\"\nsteps = [{steps}]\n", when("last(spo2, '5 min') < 90"));
    let wrong = [
        "{ at = \"8:00\", spo2 = 95 }",
        "{ spo2 = 95 }",
        "{ at = \"08:00\", sp02 = 95 }",
        "{ at = \"08:00\", spo2 = 0.95 }",
        "{ at = \"08:00\", spo2 = \"95\" }",
        "{ at = \"08:00\", expect = \"raise a\" }",
        "{ at = \"08:00\", expect = \"raised b\" }",
        "{ at = \"08:00\", every = \"x\" }",
        "{ at = 8 }",
    ];
    let told = wrong.map(|steps| engine::run_cases(&case(steps)).map_or_else(|errors| errors.to_string(), |_| "nothing".to_owned()));
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn a_case_that_fails_shows_what_was_said_instead() {
    let toml = r#"
[[rule]]
id = "low"
priority = "high"
hold = "2 min"
when = "mean(spo2, '5 min') < limit('spo2.low', 90)"

[[case]]
name = "expected too soon"
steps = [
  { at = "08:00", spo2 = 85, expect = "raised low" },
  { at = "08:01", spo2 = 86 },
  { at = "08:05", expect = "raised low at 08:02" },
  { at = "08:06", spo2 = 99, limits = { "spo2.low" = 95 } },
]
"#;
    let reports = engine::run_cases(toml).unwrap();
    assert!(!reports[0].passed());
    insta::assert_snapshot!(reports[0].to_string());
}

/// A predicate may stand on several lines.
#[test]
fn the_word_is_underlined_on_its_own_line() {
    let several = |quotes: &str| {
        format!("[[rule]]\nid = \"a\"\npriority = \"high\"\nwhen = {quotes}\nlast(spo2, '5 min') < 90\n  AND mean(heartrate, '5 min') > 100\n{quotes}\n")
    };
    let expected = "error: `heartrate` is not a metric\n --> line 6, column 12\n  |\n6 |   AND mean(heartrate, '5 min') > 100\n  |            ^^^^^^^^^\n  = help: did you mean `heart_rate`?";
    assert_eq!(told(&several("\"\"\"")), expected);
    // what is not written as it reads is underlined as a whole
    assert!(told(&when("last(sp\\u006f2, '5 min') < '9'")).contains("line 4, column 8"));
}
