//! What lets a TRUE row raise: hold, confirmation, the cap on both, and the other rules of its condition.
//!
//! Everything here is a function of the rows that a rule's state keeps, so a late or corrected row changes the answer as if it had been
//! in time.

use schemas::{Arrived, EventTime};

use crate::decide::{Decided, Open, Pending, RuleState, running};
use crate::rules::{Rule, RuleBook};
use crate::said::Rows;

/// Whether the TRUE stretch since `since` raises at its row `at`.
pub(crate) fn met(rule: &Rule, rows: &Rows, since: EventTime, at: EventTime) -> bool {
    let held = at - since >= rule.hold && confirmed(rule, rows, since, at);
    held || rule.cap.is_some_and(|cap| first_true(rows, at).is_some_and(|(first, _)| at - first >= cap))
}

/// Enough rows of the stretch agree, not too far apart.
fn confirmed(rule: &Rule, rows: &Rows, since: EventTime, at: EventTime) -> bool {
    let Some(confirm) = rule.confirm else { return true };
    let from = since.max(at - confirm.within);
    rows.range(from.0..=at.0).filter(|(_, said)| said.when == Some(true)).count() >= confirm.readings as usize
}

/// The first TRUE row since `clear` was last true, and when it was heard: from there the cap counts, whatever was FALSE in between.
fn first_true(rows: &Rows, at: EventTime) -> Option<(EventTime, Arrived)> {
    let back = rows.range(i64::MIN..=at.0).rev().take_while(|(_, said)| said.when == Some(true) || said.clear != Some(true));
    back.filter(|(_, said)| said.when == Some(true)).last().map(|(first, said)| (EventTime(first), Arrived(said.heard)))
}

/// When the clock raises what is pending, if nothing more is heard; `None`: never.
pub(crate) fn due(rule: &Rule, rows: &Rows, pending: &Pending) -> Option<Arrived> {
    let after = |heard: Arrived, span: schemas::Micros| Arrived(heard.0.saturating_add(span.0));
    let held = confirmed(rule, rows, pending.since, pending.row).then(|| after(pending.heard, rule.hold));
    let capped = rule.cap.and_then(|cap| first_true(rows, pending.row).map(|(_, heard)| after(heard, cap)));
    held.into_iter().chain(capped).min()
}

/// A rule that waits for nothing keeps no stretch in mind.
pub(crate) fn waits(rule: &Rule) -> bool {
    rule.hold > schemas::Micros::ZERO || rule.confirm.is_some()
}

/// The rules of the same condition that are more urgent. One on trial silences none that is live.
pub(crate) fn superiors<'a>(book: &'a RuleBook, rule: &'a Rule) -> impl Iterator<Item = (usize, &'a Rule)> {
    let of = |other: &&Rule| rule.condition.is_some() && other.condition == rule.condition;
    book.rules.iter().enumerate().filter(move |(_, other)| of(other)).filter(|(_, other)| other.priority > rule.priority && other.state >= rule.state)
}

/// Those that are less urgent, the other way round.
pub(crate) fn inferiors<'a>(book: &'a RuleBook, rule: &'a Rule) -> impl Iterator<Item = (usize, &'a Rule)> {
    let of = |other: &&Rule| rule.condition.is_some() && other.condition == rule.condition;
    book.rules.iter().enumerate().filter(move |(_, other)| of(other)).filter(|(_, other)| other.priority < rule.priority && other.state <= rule.state)
}

/// What silences a rule of a patient.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Silence {
    /// A more urgent alert is open, or is raised at the same moment.
    pub now: bool,
    /// Stretches of event time in which one was.
    pub before: Vec<(i64, i64)>,
}

impl Silence {
    /// `at`: the moment at which a timer fires.
    pub fn of(book: &RuleBook, rule: &Rule, decided: &Decided, at: Option<Arrived>) -> Self {
        let mut silence = Self::default();
        for (superior, _) in superiors(book, rule) {
            let Some(state) = decided.rules.get(superior) else { continue };
            silence.now |= state.open.is_some() || (at.is_some() && decided.due(superior) == at);
            silence.before.extend(state.told.iter().copied());
            silence.before.extend(state.open.iter().map(|open| (open.since.0, i64::MAX)));
        }
        silence
    }

    pub fn covers(&self, from: i64, to: i64) -> bool {
        self.before.iter().any(|(since, until)| *since <= to && from <= *until)
    }
}

/// What was open and is superseded: as if it had never been told, but for its name. What is still TRUE is raised again when it is no longer silenced.
pub(crate) fn superseded(state: &mut RuleState) -> Option<Box<Open>> {
    let Some(open) = state.open.take() else {
        state.pending = None;
        return None;
    };
    let of = |(from, _): &(i64, i64)| *from == open.since.0;
    state.undone.extend(state.told.iter().filter(|stretch| of(stretch)));
    state.told.retain(|stretch| !of(stretch));
    state.pending = running(state);
    if let Some(pending) = &mut state.pending {
        if state.rows.get(open.row.0).is_some() && pending.since <= open.row {
            // the row that its evidence is of
            pending.row = open.row;
            state.evidence.clone_from(&open.evidence);
        } else {
            state.evidence.clear();
        }
    }
    Some(open)
}
