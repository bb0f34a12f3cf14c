//! Episode, escalation and what people do, all three as they are in production but without a store, against a small model that knows none
//! of their rows: it knows who may sleep until when.
//!
//! `VIGIL_TEST_CASES=20000 cargo test -p alerts --test it model` runs it long.

use std::collections::BTreeMap;

use alerts::episode::{page_key, step};
use alerts::escalation::{Fired, Plan, Recipient, Step, Turn, fall_through, fire, turn};
use proptest::prelude::*;
use proptest::test_runner::Config;
use schemas::{Arrived, Cause, EventTime, Micros, Offset, Priority, Transition, TransitionKind};
use store::episodes::{Act, Action, Episode, Look, State, What, Word, decide, longest_snooze};
use store::notifications::{Notification, State as Sending};
use store::timers::Timer;

use crate::{P0, raised};

const START: EventTime = EventTime(1_795_168_800_000_000);

#[derive(Clone, Debug)]
enum Event {
    /// Of the alert, after its raising.
    Said(TransitionKind),
    /// So long nothing happens; the timers that come due are fired.
    Passes(i64),
    Does(Action, Option<i64>),
    /// A sender takes the oldest notification that is due, and looks at it later.
    Claims,
    /// Its answer about the oldest that it took.
    Sends(Outcome),
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Arrives,
    Fails,
    FailsForGood,
}

/// What a store keeps, and what it does in one transaction.
struct World {
    now: EventTime,
    plan: Plan,
    episode: Option<Episode>,
    notifications: BTreeMap<String, Notification>,
    timers: BTreeMap<String, Timer>,
    /// Every page that was added, with when.
    pages: Vec<(EventTime, Notification)>,
    offset: i64,
}

impl World {
    fn told(&self) -> Vec<Notification> {
        self.notifications.values().cloned().collect()
    }

    fn add(&mut self, n: Notification) {
        if self.notifications.contains_key(&n.id) {
            return;
        }
        if n.kind == "page" || n.kind == "repage" {
            self.pages.push((self.now, n.clone()));
        }
        self.notifications.insert(n.id.clone(), n);
    }

    fn hear(&mut self, t: &Transition) {
        let Some(step) = step(self.episode.as_ref(), &self.told(), t, P0, &self.plan, self.now) else { return };
        self.episode = Some(step.episode);
        if step.ends {
            self.timers.values_mut().for_each(|timer| timer.done = true);
            self.quiet();
        }
        step.notifications.into_iter().for_each(|n| self.add(n));
        for timer in step.timers {
            self.timers.entry(timer.id.clone()).or_insert(timer);
        }
    }

    fn quiet(&mut self) {
        for n in self.notifications.values_mut().filter(|n| n.kind == "repage" && n.state == Sending::Due) {
            n.state = Sending::Cancelled;
        }
    }

    /// Whether it was allowed.
    fn act(&mut self, action: &Action) -> bool {
        let Some(episode) = &mut self.episode else { return false };
        let act = Act { alert: episode.alert, by: "ito", note: Some("a reason"), now: self.now, if_match: None, request: None, action: action.clone() };
        let Ok(next) = decide(episode, &act) else { return false };
        (episode.acknowledged, episode.care) = (next.acknowledged, next.care);
        let alert = episode.alert;
        match next.look {
            Look::AsBefore => {}
            Look::Never => self.timers.values_mut().for_each(|timer| timer.done = true),
            Look::At(due) => {
                self.timers.values_mut().for_each(|timer| timer.done = true);
                self.timers.insert(Timer::id_of(alert), Timer::new(Timer::id_of(alert), alert, "repage", due));
            }
        }
        if next.quiet {
            self.quiet();
        }
        true
    }

    fn due(&self) -> Option<EventTime> {
        self.timers.values().filter(|timer| !timer.done).map(|timer| timer.due).min()
    }

    fn pass(&mut self, until: EventTime) -> Vec<What> {
        let mut ended = Vec::new();
        while let Some(due) = self.due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let told = self.told();
            let episode = self.episode.as_mut().unwrap();
            let timer = self.timers.values_mut().find(|timer| !timer.done && timer.due == due).unwrap();
            match fire(episode, &told, &self.plan, self.now) {
                Fired::Over => timer.done = true,
                Fired::Wait(due) => timer.due = due,
                Fired::Again(again) => {
                    match again.due {
                        Some(due) => timer.due = due,
                        None => timer.done = true,
                    }
                    for what in &again.ended {
                        match what {
                            What::Expired => episode.acknowledged = None,
                            _ => episode.care.snoozed = None,
                        }
                    }
                    episode.care.rung = again.rung;
                    ended.extend(again.ended);
                    again.notifications.into_iter().for_each(|n| self.add(n));
                }
            }
        }
        self.now = until;
        ended
    }

    /// A sender leases the oldest that is due.
    fn claim(&mut self) {
        let due = self.notifications.values_mut().filter(|n| n.state == Sending::Due).min_by_key(|n| (n.created_at, n.id.clone()));
        due.into_iter().for_each(|n| n.state = Sending::Sending);
    }

    /// What left, if anything did.
    fn send(&mut self, outcome: Outcome) -> Option<Notification> {
        if !self.notifications.values().any(|n| n.state == Sending::Sending) {
            self.claim();
        }
        let told = self.told();
        let claimed = self.notifications.values_mut().filter(|n| n.state == Sending::Sending);
        let n = claimed.min_by_key(|n| (n.created_at, n.id.clone()))?;
        match turn(n, self.episode.as_ref()?, &told, self.now) {
            Turn::Send => {}
            Turn::Drop(_) => {
                n.state = Sending::Cancelled;
                return None;
            }
            Turn::Wait(_) | Turn::GoOn(_) => {
                n.state = Sending::Due;
                return None;
            }
        }
        n.attempts += 1;
        n.state = Sending::Due;
        let left = n.clone();
        let next = match outcome {
            Outcome::Arrives => {
                n.state = Sending::Sent;
                None
            }
            Outcome::Fails => fall_through(n, self.now),
            Outcome::FailsForGood => {
                n.state = Sending::Failed;
                fall_through(n, self.now)
            }
        };
        next.into_iter().for_each(|n| self.add(n));
        Some(left)
    }
}

/// What may be expected, from the words of the issue alone.
#[derive(Debug, Default)]
struct Model {
    over: bool,
    /// Nobody is woken before; `None`: nobody has it.
    acknowledged: Option<EventTime>,
    snoozed: Option<EventTime>,
}

impl Model {
    fn asleep(&self, now: EventTime) -> bool {
        self.over || self.acknowledged.is_some_and(|until| until > now) || self.snoozed.is_some_and(|until| until > now)
    }

    /// When somebody is woken at the latest, if nothing else happens.
    fn by(&self, now: EventTime, longest: Micros) -> EventTime {
        let held = self.acknowledged.into_iter().chain(self.snoozed).filter(|until| *until > now).max();
        held.unwrap_or(now + longest)
    }

    fn does(&mut self, action: &Action) {
        match action {
            Action::Acknowledge { until } | Action::Claim { until } => {
                self.acknowledged = Some(until.unwrap_or(EventTime::MAX));
                self.snoozed = None;
            }
            Action::Assign { .. } => (self.acknowledged, self.snoozed) = (None, None),
            Action::Release => self.acknowledged = None,
            Action::Snooze { until } => self.snoozed = Some(*until),
            Action::Wake => self.snoozed = None,
            Action::Note | Action::Contact { .. } | Action::Judge { .. } => {}
        }
    }
}

fn plan(steps: &[(bool, i64)]) -> Plan {
    let step = |(index, (fallback, minutes)): (usize, &(bool, i64))| {
        let mut channels = vec![format!("sms:{index}")];
        if *fallback {
            channels.push(format!("mail:{index}@c.example"));
        }
        Step { index: index as u32 * 2, to: vec![Recipient { person: Some(format!("p{index}")), channels }], wait: Micros::minutes(*minutes) }
    };
    Plan { steps: steps.iter().enumerate().map(step).collect(), look_again: Micros::minutes(1) }
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![3 => Just(TransitionKind::Amended), 1 => Just(TransitionKind::Cleared), 1 => Just(TransitionKind::Withdrawn)];
    let action = prop_oneof![
        1 => Just(Action::Acknowledge { until: None }),
        3 => Just(Action::Acknowledge { until: Some(EventTime(0)) }),
        2 => Just(Action::Claim { until: Some(EventTime(0)) }),
        2 => Just(Action::Assign { to: "kaya".to_owned() }),
        1 => Just(Action::Release),
        3 => Just(Action::Snooze { until: EventTime(0) }),
        1 => Just(Action::Wake),
        1 => Just(Action::Note),
        1 => Just(Action::Contact { with: "daughter".to_owned(), reached: true }),
        1 => Just(Action::Judge { word: Word::Artefact }),
    ];
    prop_oneof![
        1 => kind.prop_map(Event::Said),
        4 => (0..3600_i64).prop_map(Event::Passes),
        4 => (action, prop::option::of(1..7200_i64)).prop_map(|(action, span)| Event::Does(action, span)),
        2 => Just(Event::Claims),
        3 => prop_oneof![Just(Outcome::Arrives), Just(Outcome::Fails), Just(Outcome::FailsForGood)].prop_map(Event::Sends),
    ]
}

/// Gives the action its end, some seconds from now.
fn ending(action: Action, until: EventTime) -> Action {
    match action {
        Action::Acknowledge { until: Some(_) } => Action::Acknowledge { until: Some(until) },
        Action::Claim { .. } => Action::Claim { until: Some(until) },
        Action::Snooze { .. } => Action::Snooze { until },
        other => other,
    }
}

fn cases() -> Config {
    let cases = std::env::var("VIGIL_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(256);
    Config { cases, ..Config::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_open_alert_is_never_without_an_end_of_its_silence(
        high in any::<bool>(),
        steps in prop::collection::vec((any::<bool>(), 1..30_i64), 0..4),
        events in prop::collection::vec(event(), 0..40),
    ) {
        let plan = plan(&steps);
        let longest = plan.steps.iter().map(|step| step.wait).max().unwrap_or(plan.look_again);
        let priority = if high { Priority::High } else { Priority::Medium };
        let first = Transition { priority, at: START, since: START, heard_at: Arrived(START.0), ..raised(1) };
        let (now, plan) = (START, plan);
        let mut world = World { now, plan, episode: None, notifications: BTreeMap::new(), timers: BTreeMap::new(), pages: Vec::new(), offset: 1 };
        let mut model = Model::default();
        world.hear(&first);
        let pages = world.pages.len();
        prop_assert_eq!(pages, usize::from(!steps.is_empty()), "the first step is paged at once");
        for event in events {
            let before = (world.pages.len(), world.now);
            match event {
                Event::Said(kind) => {
                    world.offset += 1;
                    let t = Transition { kind, cause: Cause { offset: Offset(world.offset), ordinal: 0 }, ..first.clone() };
                    let quiet = kind == TransitionKind::Amended || model.over;
                    world.hear(&t);
                    // the engine says no more of an alert that is over; an amendment of one changes nothing about its pages
                    model.over |= !quiet;
                    prop_assert_eq!(world.pages.len(), before.0, "only a timer or the raising pages");
                }
                Event::Passes(seconds) => {
                    let until = world.now + Micros::seconds(seconds);
                    let held = (model.acknowledged, model.snoozed, model.over);
                    world.pass(until);
                    for (at, page) in &world.pages[before.0..] {
                        let model = Model { acknowledged: held.0, snoozed: held.1, over: held.2 };
                        prop_assert!(!model.asleep(*at), "{} at {at}, while somebody has it or it is over: {model:?}", page.id);
                    }
                    // what ended while time passed has ended in the model by itself: it compares with now
                }
                Event::Does(action, span) => {
                    let most = longest_snooze(priority).0 / 1_000_000;
                    let seconds = span.map_or(600, |span| if matches!(action, Action::Snooze { .. }) { span % most + 1 } else { span });
                    let action = ending(action, world.now + Micros::seconds(seconds));
                    if world.act(&action) {
                        model.does(&action);
                    }
                    prop_assert_eq!(world.pages.len(), before.0);
                }
                Event::Claims => world.claim(),
                Event::Sends(outcome) => {
                    let left = world.send(outcome);
                    let asleep = model.asleep(world.now);
                    prop_assert!(left.is_none_or(|n| n.kind != "repage" || !asleep), "sent again, while somebody has it or it is over: {model:?}");
                }
            }
            // no black hole
            let for_good = model.acknowledged == Some(EventTime::MAX);
            if !model.over && !for_good {
                let due = world.due();
                prop_assert!(due.is_some(), "open, not taken for good, and no timer: {:?} {model:?}", world.episode);
                let latest = model.by(world.now, longest);
                prop_assert!(due.unwrap() <= latest.max(world.now + longest), "due {:?}, expected by {latest}", due);
            }
            prop_assert!(world.timers.values().filter(|timer| !timer.done).count() <= 1, "one timer");
            let episode = world.episode.as_ref().unwrap();
            prop_assert_eq!(model.over, episode.state != State::Open);
            // one stable key, and one for each repetition, whatever channel it goes through
            let mut numbers = BTreeMap::new();
            for (at, page) in &world.pages {
                let stable = page.kind != "page" || page.key == page_key(episode.alert);
                prop_assert!(stable, "{}", page.key);
                let (first, times) = numbers.entry(page.key.clone()).or_insert((*at, 0));
                *times += 1;
                let repeats = page.key.starts_with(&format!("{}_repage_", episode.alert));
                prop_assert!(page.kind == "page" || repeats);
                prop_assert!(*times == 1 || page.channel.starts_with("mail:"), "twice through one channel since {first}: {}", page.id);
            }
        }
        // and if nothing else happens, somebody is woken
        if !model.over && model.acknowledged != Some(EventTime::MAX) && !steps.is_empty() {
            let (count, until) = (world.pages.len(), model.by(world.now, longest).max(world.now + longest));
            world.notifications.values_mut().filter(|n| matches!(n.state, Sending::Due | Sending::Sending)).for_each(|n| n.state = Sending::Sent);
            world.pass(until + longest);
            prop_assert!(world.pages.len() > count, "nobody was woken by {until}");
        }
    }
}
