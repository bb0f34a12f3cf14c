//! A rule file: TOML to rules.

use std::ops::Range;

use schemas::{LatePolicy, Metric, Micros, Priority, RuleId};
use serde::Deserialize;

use super::compile::predicate;
use super::diagnostic::{Diagnostics, Refusal, Severity, diagnostic};
use super::width::parse_width;
use super::{Rule, RuleBook, RuleKind};

pub(super) type Text = toml::Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileToml {
    #[serde(default)]
    rule: Vec<toml::Spanned<RuleToml>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleToml {
    id: Text,
    name: Option<String>,
    priority: Text,
    when: Option<Text>,
    clear: Option<Text>,
    needs: Option<toml::Spanned<u32>>,
    hold: Option<Text>,
    late: Option<Text>,
    source: Option<String>,
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
    Ok(book)
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
    let mut book = RuleBook::default();
    let mut errors = Vec::new();
    for entry in file.rule {
        let span = entry.span();
        match rule(toml, entry.into_inner(), span) {
            Ok((rule, warnings, id_span)) => {
                if rule.id.as_str() == schemas::CANARY_RULE && toml != CANARY {
                    errors.push(Refusal(format!("`{}` is Vigil's own rule", rule.id), id_span, "choose another id".to_owned()));
                } else if book.rules.iter().any(|other| other.id == rule.id) {
                    errors.push(Refusal(
                        format!("two rules have the id `{}`", rule.id),
                        id_span,
                        "an id is the rule's identity over versions: choose another".to_owned(),
                    ));
                }
                book.warnings.extend(warnings.into_iter().map(|w| diagnostic(toml, Severity::Warning, w)));
                book.rules.push(rule);
            }
            Err(refusals) => errors.extend(refusals),
        }
    }
    book.rules.sort_by(|a, b| a.id.cmp(&b.id));
    if errors.is_empty() { Ok(book) } else { Err(Diagnostics(errors.into_iter().map(|e| diagnostic(toml, Severity::Error, e)).collect())) }
}

fn rule(file: &str, t: RuleToml, span: Range<usize>) -> Result<(Rule, Vec<Refusal>, Range<usize>), Vec<Refusal>> {
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
        parse_width(value.get_ref()).unwrap_or_else(|help| {
            errors.push(Refusal(format!("`{}` is not a span of time", value.get_ref()), value.span(), help));
            Micros::ZERO
        })
    };
    let hold = span_of(&t.hold);
    let silent = span_of(&t.silent);
    let needs = t.needs.as_ref().map_or(1, |n| *n.get_ref());
    if needs == 0 {
        errors.push(Refusal(
            "`needs` is at least 1".to_owned(),
            t.needs.as_ref().map_or(0..0, toml::Spanned::span),
            "without a sample a function is NULL".to_owned(),
        ));
    }
    let mut warnings = Vec::new();
    let kind = match (&t.when, &t.metric, &t.silent) {
        (Some(when), None, None) => match predicate(file, when, t.clear.as_ref(), &mut warnings) {
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
    match (id, kind) {
        (Some(id), Some(kind)) if errors.is_empty() => {
            let text = format!(
                "{:?}",
                (
                    id.as_str(),
                    &t.metric.as_ref().map(Text::get_ref),
                    &t.name,
                    t.priority.get_ref(),
                    t.when.as_ref().map(Text::get_ref),
                    t.clear.as_ref().map(Text::get_ref),
                    needs,
                    hold.0,
                    t.late.as_ref().map(Text::get_ref),
                    silent.0
                )
            );
            let name = t.name.unwrap_or_else(|| id.to_string());
            Ok((Rule { id, name, priority, needs, hold, late, source: t.source.unwrap_or_default(), kind, text }, warnings, id_span))
        }
        _ => {
            if errors.is_empty() {
                errors.push(Refusal("this rule does not compile".to_owned(), span, String::new()));
            }
            Err(errors)
        }
    }
}
