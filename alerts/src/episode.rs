//! What one transition makes of an episode, as a value: nothing here reads a clock, a store or a socket.
//!
//! Who is paged is decided here and in [`crate::escalation`]:
//!
//! | alert | first page | repeated | told of its end |
//! |---|---|---|---|
//! | high, medium | yes | by the plan's steps, until taken or over | yes |
//! | low | yes | no | yes |
//! | late, and the engine says `pages = false` | no: inbox | no | no |
//! | technical, or of a device under test | no: inbox | no | no |
//!
//! An end never takes back a first page (A2); it takes back what would repeat it. Who was paged is told of the end, through the channel
//! that paged: a page without its end keeps a nurse walking.

use schemas::{AlertId, EventTime, Micros, Partition, Transition, TransitionKind};
use store::episodes::{Care, Episode, Rung, State, What};
use store::notifications::{Notification, State as Sending};
use store::timers::Timer;

use crate::escalation::{self, Plan, Recipient, is_page};

/// The kind of the first page.
pub const PAGE: &str = "page";
/// It is over, by its rule.
pub const CLEARED: &str = "cleared";
/// It is over, because the patient is no longer monitored, the rule is gone, or nothing is left that it rests on.
pub const WITHDRAWN: &str = "withdrawn";
/// It no longer holds by what is known now; it is still open.
pub const AMENDED: &str = "amended";
/// Somebody has it: for a receiver that repeats by itself. The store adds it with what was done.
pub const ACKNOWLEDGED: &str = "acknowledged";

/// An alert that ended this soon after it was heard is brief: no page has reached a person by then.
pub const BRIEF: Micros = Micros::seconds(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: EventTime,
    pub what: What,
    pub note: Option<String>,
}

/// What is to be stored, all of it or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub episode: Episode,
    pub history: Entry,
    /// One that is here already, by its id, is not added again.
    pub notifications: Vec<Notification>,
    pub timers: Vec<Timer>,
    /// Timers and re-pages are cancelled; the first page never is.
    pub ends: bool,
}

/// `None`: a replay, which changes nothing. `told` are the alert's notifications so far, `plan` says who is there to be paged.
///
/// A transition of an alert that is not here (its raising was lost with the journal's retention) makes the episode as well, and pages
/// as the raising would have.
pub fn step(current: Option<&Episode>, told: &[Notification], transition: &Transition, partition: Partition, plan: &Plan, now: EventTime) -> Option<Step> {
    if current.is_some_and(|episode| transition.cause <= episode.cause) {
        return None;
    }
    let kind = transition.kind;
    let was_open = current.is_none_or(|episode| episode.state == State::Open);
    let raises = kind == TransitionKind::Raised || current.is_none();
    let mut episode = next(current, transition, partition);
    let ends = was_open && episode.state != State::Open;

    let mut notifications = Vec::new();
    let mut timers = Vec::new();
    if raises && pages(transition) {
        if let Some((step, rung)) = plan.next(Rung::default()) {
            notifications = pages_of(&episode, PAGE, &page_key(episode.alert), &step.to, now);
            episode.care.rung = rung;
        }
        timers.extend(escalation::first(&episode, plan, now));
    } else if let Some((kind, key)) = told_of(transition, was_open) {
        notifications = paged(told).map(|channel| notification(episode.alert, kind, &key, channel, now)).collect();
    }
    let history = Entry { at: transition.heard_at.as_event(), what: what(kind), note: note(transition, plan, raises) };
    Some(Step { episode, history, notifications, timers, ends })
}

/// The key of the alert's first page, the same for every channel and attempt. No full stop is in it: the signature's text has them as
/// its seams.
pub fn page_key(alert: AlertId) -> String {
    format!("{alert}_{PAGE}")
}

pub(crate) fn notification(alert: AlertId, kind: &str, key: &str, channel: &str, now: EventTime) -> Notification {
    Notification::due(format!("{key} {channel}"), alert, kind, channel, key.to_owned(), now, now)
}

/// Each person's own, also where several share a channel: it is sent there once, and each of them has channels to go on to.
pub(crate) fn to_person(n: Notification, person: Option<&str>, fallback: &[String]) -> Notification {
    let id = person.map_or_else(|| n.id.clone(), |person| format!("{} {person}", n.id));
    Notification { id, person: person.map(str::to_owned), fallback: fallback.to_vec(), ..n }
}

/// One for each recipient, in the first channel; the others stand by.
pub(crate) fn pages_of(episode: &Episode, kind: &str, key: &str, to: &[Recipient], now: EventTime) -> Vec<Notification> {
    let page = |to: &Recipient| {
        let (channel, fallback) = to.channels.split_first()?;
        Some(to_person(notification(episode.alert, kind, key, channel, now), to.person.as_deref(), fallback))
    };
    to.iter().filter_map(page).collect()
}

/// Whether the raising pages people. An amendment says nothing about that, so one of an unknown alert pages: better once too often.
fn pages(transition: &Transition) -> bool {
    !transition.technical && (transition.pages || transition.kind == TransitionKind::Amended)
}

/// The channels that paged or still will, with the first page or a later one.
fn paged(told: &[Notification]) -> impl Iterator<Item = &str> {
    let reached = told.iter().filter(|n| is_page(n) && !matches!(n.state, Sending::Failed | Sending::Cancelled));
    reached.map(|n| n.channel.as_str()).collect::<std::collections::BTreeSet<_>>().into_iter()
}

/// What those who were paged hear of a transition that raises nothing.
fn told_of(transition: &Transition, was_open: bool) -> Option<(&'static str, String)> {
    let alert = transition.alert;
    match transition.kind {
        _ if !was_open => None,
        TransitionKind::Cleared => Some((CLEARED, format!("{alert}_{CLEARED}"))),
        TransitionKind::Withdrawn => Some((WITHDRAWN, format!("{alert}_{WITHDRAWN}"))),
        // SEMANTICS 16: people are told only when it no longer holds
        TransitionKind::Amended if !transition.holds => Some((AMENDED, format!("{alert}_{AMENDED}_{}_{}", transition.cause.offset, transition.cause.ordinal))),
        TransitionKind::Amended | TransitionKind::Raised => None,
    }
}

fn next(current: Option<&Episode>, t: &Transition, partition: Partition) -> Episode {
    let mut episode = current.cloned().unwrap_or_else(|| raised(t, partition));
    episode.cause = t.cause;
    episode.since = t.since;
    episode.summary = clean(&t.summary);
    episode.evidence = t.evidence.iter().map(|e| schemas::Evidence { column: clean(&e.column), text: clean(&e.text), value: e.value }).collect();
    let state = match t.kind {
        TransitionKind::Raised => State::Open,
        TransitionKind::Cleared => State::Cleared,
        TransitionKind::Withdrawn => State::Withdrawn,
        TransitionKind::Amended => return episode,
    };
    episode.state = state;
    episode.cleared_at = (state != State::Open).then_some(t.at);
    episode.brief = state != State::Open && t.heard_at - episode.heard_at < BRIEF;
    episode
}

fn raised(t: &Transition, partition: Partition) -> Episode {
    let raised = t.kind == TransitionKind::Raised;
    Episode {
        alert: t.alert,
        patient: t.patient.clone(),
        rule: t.rule.clone(),
        rule_name: clean(&t.rule_name),
        priority: t.priority,
        state: State::Open,
        raised_at: if raised { t.at } else { t.since },
        heard_at: t.heard_at,
        since: t.since,
        cleared_at: None,
        summary: String::new(),
        evidence: Vec::new(),
        late: t.late,
        brief: false,
        technical: t.technical,
        // the engine names two reasons not to page: late, and a device under test
        test: raised && !t.pages && !t.late && !t.technical,
        acknowledged: None,
        care: Care::default(),
        version: 0,
        partition,
        cause: t.cause,
    }
}

fn what(kind: TransitionKind) -> What {
    match kind {
        TransitionKind::Raised => What::Raised,
        TransitionKind::Cleared => What::Cleared,
        TransitionKind::Amended => What::Amended,
        TransitionKind::Withdrawn => What::Withdrawn,
    }
}

fn note(t: &Transition, plan: &Plan, raises: bool) -> Option<String> {
    let mut notes = Vec::new();
    if !t.reason.is_empty() {
        notes.push(clean(&t.reason));
    }
    if t.kind == TransitionKind::Amended && !t.holds {
        notes.push("it no longer holds".to_owned());
    }
    if raises && t.kind != TransitionKind::Raised {
        notes.push("its raising was not heard".to_owned());
    }
    if raises {
        let why = match t {
            t if t.technical => Some("technical: nobody is paged"),
            t if !pages(t) && t.late => Some("over before it was heard: nobody is paged"),
            t if !pages(t) => Some("a device under test: nobody is paged"),
            _ if plan.first().is_none() => Some("nobody is on call and no channel is configured: nobody is paged"),
            _ => None,
        };
        notes.extend(why.map(str::to_owned));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// PostgreSQL stores no NUL, and one in a rule's name must not stop every alert behind it.
fn clean(text: &str) -> String {
    text.replace('\0', "")
}
