//! A rule file: TOML to rules.

use std::ops::Range;

use schemas::{LatePolicy, Metric, Micros, Priority, RuleId};
use serde::Deserialize;

use super::compile::predicate;
use super::diagnostic::{Diagnostics, Refusal, Severity, diagnostic};
use super::rewrite::Context;
use super::vocabulary::MAX_WIDTH;
use super::width::parse_span;
use super::{Confirm, Rule, RuleBook, RuleKind, State};
use crate::zone::Zone;

pub(super) type Text = toml::Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileToml {
    zone: Option<Text>,
    #[serde(default)]
    rule: Vec<toml::Spanned<RuleToml>>,
    /// What `vigil rule test` plays; see `cases`.
    #[serde(default, rename = "case")]
    _case: serde::de::IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleToml {
    id: Text,
    name: Option<String>,
    priority: Text,
    state: Option<Text>,
    condition: Option<Text>,
    when: Option<Text>,
    clear: Option<Text>,
    needs: Option<toml::Spanned<u32>>,
    hold: Option<Text>,
    cap: Option<Text>,
    confirm: Option<Text>,
    late: Option<Text>,
    source: Option<String>,
    hazard: Option<String>,
    metric: Option<Text>,
    silent: Option<Text>,
}

/// Compiles a rule file.
///
/// # Errors
/// Every mistake, each with its place and its remedy.
pub fn compile(toml: &str) -> Result<RuleBook, Diagnostics> {
    let mut book = read(toml)?;
    // an installation's rules cannot leave it out
    book.rules.extend(read(CANARY)?.rules);
    book.rules.sort_by(|a, b| a.id.cmp(&b.id));
    most_urgent_first(&mut book.rules);
    book.drafts.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(book)
}

/// Of the rules of a condition the most urgent decides first, in the places that they have: it silences the others.
pub(crate) fn most_urgent_first(rules: &mut [Rule]) {
    let conditions: std::collections::BTreeSet<String> = rules.iter().filter_map(|rule| rule.condition.clone()).collect();
    for condition in conditions {
        let places: Vec<usize> = (0..rules.len()).filter(|place| rules[*place].condition.as_ref() == Some(&condition)).collect();
        let mut members: Vec<Rule> = places.iter().map(|place| rules[*place].clone()).collect();
        members.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.id.cmp(&b.id)));
        for (place, member) in places.into_iter().zip(members) {
            rules[place] = member;
        }
    }
}

/// Built in: it raises and clears with the canary, so that its transitions show that readings are evaluated.
const CANARY: &str = r#"
[[rule]]
id = "vigil-canary"
name = "Canary"
priority = "low"
when = "last(canary, '5 min') >= 1"
clear = "last(canary, '5 min') < 1"
source = "Vigil's own: no vital sign"
"#;

fn read(toml: &str) -> Result<RuleBook, Diagnostics> {
    let file: FileToml = match toml::from_str(toml) {
        Ok(file) => file,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            return Err(Diagnostics(vec![diagnostic(toml, Severity::Error, Refusal(error.message().to_owned(), span, String::new()))]));
        }
    };
    let mut errors = Vec::new();
    let zone = match &file.zone {
        None => Zone::default(),
        Some(name) => Zone::named(name.get_ref()).unwrap_or_else(|| {
            let help = "a name of the IANA database: \"Europe/London\"".to_owned();
            errors.push(Refusal(format!("`{}` is not a time zone", name.get_ref()), name.span(), help));
            Zone::default()
        }),
    };
    let context = Context { file: toml, zone: &zone };
    let mut book = RuleBook::default();
    for entry in file.rule {
        let span = entry.span();
        match rule(context, entry.into_inner(), span) {
            Ok((rule, warnings, id_span)) => {
                if rule.id.as_str() == schemas::CANARY_RULE && toml != CANARY {
                    errors.push(Refusal(format!("`{}` is Vigil's own rule", rule.id), id_span, "choose another id".to_owned()));
                } else if book.rules.iter().chain(&book.drafts).any(|other| other.id == rule.id) {
                    errors.push(Refusal(
                        format!("two rules have the id `{}`", rule.id),
                        id_span,
                        "an id is the rule's identity over versions: choose another".to_owned(),
                    ));
                }
                book.warnings.extend(warnings.into_iter().map(|w| diagnostic(toml, Severity::Warning, w)));
                let rules = if rule.state == State::Draft { &mut book.drafts } else { &mut book.rules };
                rules.push(rule);
            }
            Err(refusals) => errors.extend(refusals),
        }
    }
    book.zone = zone.clone();
    if errors.is_empty() { Ok(book) } else { Err(Diagnostics(errors.into_iter().map(|e| diagnostic(toml, Severity::Error, e)).collect())) }
}

fn rule(context: Context<'_>, t: RuleToml, span: Range<usize>) -> Result<(Rule, Vec<Refusal>, Range<usize>), Vec<Refusal>> {
    let mut errors = Vec::new();
    let id_span = t.id.span();
    let id = RuleId::parse(t.id.get_ref()).map_err(|e| errors.push(Refusal(e.to_string(), id_span.clone(), "for example `spo2-low`".to_owned()))).ok();
    let priority = match t.priority.get_ref().as_str() {
        "high" => Priority::High,
        "medium" => Priority::Medium,
        "low" => Priority::Low,
        other => {
            errors.push(Refusal(format!("`{other}` is not a priority"), t.priority.span(), "high, medium or low: the words of IEC 60601-1-8".to_owned()));
            Priority::Low
        }
    };
    let late = match t.late.as_ref().map(|l| l.get_ref().as_str()) {
        None | Some("inbox") => LatePolicy::Inbox,
        Some("page") => LatePolicy::Page,
        Some(other) => {
            errors.push(Refusal(format!("`{other}` is not a late policy"), t.late.as_ref().map_or(0..0, Text::span), "page or inbox".to_owned()));
            LatePolicy::Inbox
        }
    };
    let mut span_of = |value: &Option<Text>| -> Micros {
        let Some(value) = value else { return Micros::ZERO };
        parse_span(value.get_ref()).unwrap_or_else(|help| {
            errors.push(Refusal(format!("`{}` is not a span of time", value.get_ref()), value.span(), help));
            Micros::ZERO
        })
    };
    let hold = span_of(&t.hold);
    let silent = span_of(&t.silent);
    let cap = t.cap.is_some().then(|| span_of(&t.cap));
    let state = match t.state.as_ref().map(|s| s.get_ref().as_str()) {
        None | Some("live") => State::Live,
        Some("shadow") => State::Shadow,
        Some("draft") => State::Draft,
        Some(other) => {
            errors.push(Refusal(format!("`{other}` is not a state"), t.state.as_ref().map_or(0..0, Text::span), "draft, shadow or live".to_owned()));
            State::Live
        }
    };
    let needs = t.needs.as_ref().map_or(1, |n| *n.get_ref());
    if needs == 0 {
        errors.push(Refusal(
            "`needs` is at least 1".to_owned(),
            t.needs.as_ref().map_or(0..0, toml::Spanned::span),
            "without a sample a function is NULL".to_owned(),
        ));
    }
    let confirm = confirmation(t.confirm.as_ref(), &mut errors);
    for (what, value, span) in [("hold", Some(hold), &t.hold), ("cap", cap, &t.cap), ("confirm", confirm.map(|c| c.within), &t.confirm)] {
        if value.is_some_and(|value| value > MAX_WIDTH) {
            let help = "at most '2 h': for longer, look back further in `when`, as mean(systolic_pressure, '7 days') does".to_owned();
            errors.push(Refusal(format!("`{what}` is too long"), span.as_ref().map_or(0..0, Text::span), help));
        }
    }
    if let (Some(cap), Some(span)) = (cap, &t.cap) {
        let (message, help) = if hold == Micros::ZERO && confirm.is_none() {
            ("`cap` without `hold` or `confirm`", "it is the longest that they put an alert off: nothing is put off here")
        } else if cap < hold {
            ("`cap` is shorter than `hold`", "it is the longest that a hold may be put off by interruptions: make it longer")
        } else if t.clear.is_none() {
            ("a rule with `cap` must have `clear`", "without it every FALSE ends the condition, and nothing is interrupted: add clear = \"…\"")
        } else {
            ("", "")
        };
        if !message.is_empty() {
            errors.push(Refusal(message.to_owned(), span.span(), help.to_owned()));
        }
    }
    let mut warnings = Vec::new();
    let kind = match (&t.when, &t.metric, &t.silent) {
        (Some(when), None, None) => match predicate(context, when, t.clear.as_ref(), &mut warnings) {
            Ok(predicate) => Some(RuleKind::Predicate(predicate)),
            Err(refusals) => {
                errors.extend(refusals);
                None
            }
        },
        (None, Some(metric), Some(_)) => match metric.get_ref().parse::<Metric>() {
            Ok(metric) => Some(RuleKind::Silent { metric, after: silent }),
            Err(e) => {
                errors.push(Refusal(e.to_string(), metric.span(), String::new()));
                None
            }
        },
        _ => {
            errors.push(Refusal(
                "a rule has either `when`, or both `metric` and `silent`".to_owned(),
                id_span.clone(),
                "when = \"mean(spo2, '5 min') < 90\", or metric = \"spo2\" with silent = \"30 min\"".to_owned(),
            ));
            None
        }
    };
    if let (Some(span), Some(RuleKind::Predicate(predicate))) = (&t.confirm, &kind) {
        let metrics: std::collections::BTreeSet<&str> = predicate.columns.iter().filter_map(|c| c.source.metric()).map(Metric::name).collect();
        if metrics.len() > 1 {
            let message = format!("`confirm` in a rule on {}", metrics.into_iter().collect::<Vec<_>>().join(" and "));
            let help = "a reading of one would confirm what the other said before: write one rule for each".to_owned();
            errors.push(Refusal(message, span.span(), help));
        }
    }
    match (id, kind) {
        (Some(id), Some(kind)) if errors.is_empty() => {
            let (when, clear, zone) = match &kind {
                RuleKind::Predicate(p) => (Some(&p.when_text), p.clear_text.as_ref(), p.zone.as_ref()),
                RuleKind::Silent { .. } => (None, None, None),
            };
            let what = (id.as_str(), t.metric.as_ref().map(Text::get_ref), silent, when, clear, zone);
            let how = (priority, needs, hold, late, state, t.condition.as_ref().map(Text::get_ref), cap, confirm);
            let text = format!("{:?}", (what, how, &t.name));
            let name = t.name.unwrap_or_else(|| id.to_string());
            let rule = Rule {
                id,
                name,
                priority,
                state,
                condition: t.condition.map(toml::Spanned::into_inner),
                needs,
                hold,
                cap,
                confirm,
                late,
                source: t.source.unwrap_or_default(),
                hazard: t.hazard.unwrap_or_default(),
                kind,
                text,
            };
            Ok((rule, warnings, id_span))
        }
        _ => {
            if errors.is_empty() {
                errors.push(Refusal("this rule does not compile".to_owned(), span, String::new()));
            }
            Err(errors)
        }
    }
}

/// `2 within 10 min`
fn confirmation(text: Option<&Text>, errors: &mut Vec<Refusal>) -> Option<Confirm> {
    let text = text?;
    let parsed = text.get_ref().split_once("within").and_then(|(readings, within)| {
        let readings = readings.trim().parse().ok().filter(|readings| *readings >= 2)?;
        Some(Confirm { readings, within: parse_span(within).ok()? })
    });
    if parsed.is_none() {
        errors.push(Refusal(format!("`{}` is not a confirmation", text.get_ref()), text.span(), "two readings or more: \"2 within 10 min\"".to_owned()));
    }
    parsed
}
