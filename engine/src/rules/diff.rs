//! What a change of rules changes, by what the rules say and not by how they are written.

use std::collections::BTreeMap;
use std::fmt;

use schemas::{LatePolicy, Micros, Priority, RuleId};

use super::{Rule, RuleBook, RuleKind, State};

/// One rule's way from one set to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDiff {
    pub rule: RuleId,
    /// `None`: it is new.
    pub before: Option<State>,
    /// `None`: it is gone.
    pub after: Option<State>,
    pub fields: Vec<FieldDiff>,
    /// It evaluates differently; without that only a name or a source changed.
    pub decides_differently: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDiff {
    pub field: &'static str,
    /// Empty: it was not there.
    pub before: String,
    pub after: String,
}

/// Everything that differs, by rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookDiff {
    pub rules: Vec<RuleDiff>,
    pub same: usize,
}

/// What only people read.
const WORDS: [&str; 3] = ["name", "source", "hazard"];

impl RuleDiff {
    /// It pages people from now on, or pages them for something else than before.
    pub fn activates(&self) -> bool {
        self.after == Some(State::Live) && (self.before != Some(State::Live) || self.decides_differently)
    }
}

impl BookDiff {
    pub fn of(before: &RuleBook, after: &RuleBook) -> Self {
        let all = |book: &RuleBook| -> BTreeMap<RuleId, Rule> {
            let rules = book.rules.iter().chain(&book.drafts).filter(|rule| rule.id.as_str() != schemas::CANARY_RULE);
            rules.map(|rule| (rule.id.clone(), rule.clone())).collect()
        };
        let (old, new) = (all(before), all(after));
        let mut diff = Self::default();
        let ids: std::collections::BTreeSet<&RuleId> = old.keys().chain(new.keys()).collect();
        for id in ids {
            let (before, after) = (old.get(id), new.get(id));
            let fields = match (before, after) {
                (Some(before), Some(after)) => changed(before, after),
                _ => Vec::new(),
            };
            if before.is_some() && after.is_some() && fields.is_empty() && before.map(|r| r.state) == after.map(|r| r.state) {
                diff.same += 1;
                continue;
            }
            let decides_differently = fields.iter().any(|field| !WORDS.contains(&field.field));
            diff.rules.push(RuleDiff { rule: id.clone(), before: before.map(|r| r.state), after: after.map(|r| r.state), fields, decides_differently });
        }
        diff
    }
}

fn changed(before: &Rule, after: &Rule) -> Vec<FieldDiff> {
    let (old, new) = (said(before), said(after));
    let pairs = old.into_iter().zip(new);
    pairs.filter(|((_, a), (_, b))| a != b).map(|((field, before), (_, after))| FieldDiff { field, before, after }).collect()
}

/// Everything that a rule says but its state, each part under its name in the file.
fn said(rule: &Rule) -> Vec<(&'static str, String)> {
    let span = |span: Micros| if span == Micros::ZERO { String::new() } else { span.to_string() };
    let (when, clear, metric, silent, zone) = match &rule.kind {
        RuleKind::Predicate(p) => {
            (p.when_text.clone(), p.clear_text.clone().unwrap_or_default(), String::new(), String::new(), p.zone.clone().unwrap_or_default())
        }
        RuleKind::Silent { metric, after } => (String::new(), String::new(), metric.name().to_owned(), span(*after), String::new()),
    };
    vec![
        ("name", rule.name.clone()),
        ("priority", priority(rule.priority).to_owned()),
        ("condition", rule.condition.clone().unwrap_or_default()),
        ("metric", metric),
        ("silent", silent),
        ("when", when),
        ("clear", clear),
        ("zone", zone),
        ("needs", rule.needs.to_string()),
        ("hold", span(rule.hold)),
        ("cap", rule.cap.map(span).unwrap_or_default()),
        ("confirm", rule.confirm.map(|c| format!("{} within {}", c.readings, c.within)).unwrap_or_default()),
        ("late", if rule.late == LatePolicy::Page { "page" } else { "inbox" }.to_owned()),
        ("source", rule.source.clone()),
        ("hazard", rule.hazard.clone()),
    ]
}

/// As it is written in a file.
const fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
    }
}

impl fmt::Display for RuleDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.before, self.after) {
            (None, Some(after)) => write!(f, "+ {}  new, {after}", self.rule),
            (Some(before), None) => write!(f, "- {}  gone, was {before}", self.rule),
            (Some(before), Some(after)) if before != after => write!(f, "~ {}  {before} → {after}", self.rule),
            (_, state) => write!(f, "~ {}  {}", self.rule, state.map(|s| s.to_string()).unwrap_or_default()),
        }?;
        let shown = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        for field in &self.fields {
            write!(f, "\n    {:9} {}\n            → {}", field.field, shown(&field.before), shown(&field.after))?;
        }
        Ok(())
    }
}

impl fmt::Display for BookDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            writeln!(f, "{rule}")?;
        }
        match self.same {
            1 => f.write_str("1 rule is the same"),
            same => write!(f, "{same} rules are the same"),
        }
    }
}
