//! `episode::step` and `escalation::fire` as values.

use std::collections::BTreeMap;

use alerts::episode::step;
use alerts::escalation::{Again, Fired, Plan, Turn, fire, turn};
use proptest::prelude::*;
use schemas::{Cause, EventTime, Micros, Offset, Priority, Transition, TransitionKind};
use store::episodes::{Acknowledgement, Episode, State};
use store::notifications::{Notification, State as Sending};
use store::timers::Timer;

use crate::{P0, now, raised};

/// What a store keeps of one alert.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept {
    episode: Option<Episode>,
    history: usize,
    notifications: BTreeMap<String, Notification>,
    timers: BTreeMap<String, Timer>,
}

const NOW: EventTime = EventTime(1_795_168_800_000_000);

fn plan() -> Plan {
    Plan::everybody(&["webhook:a".to_owned(), "mail:b@c.example".to_owned()], Micros::minutes(5))
}

impl Kept {
    fn hear(&mut self, t: &Transition) {
        let told: Vec<_> = self.notifications.values().cloned().collect();
        let Some(step) = step(self.episode.as_ref(), &told, t, P0, &plan(), NOW) else { return };
        self.episode = Some(step.episode);
        self.history += 1;
        if step.ends {
            self.timers.values_mut().for_each(|timer| timer.done = true);
        }
        for n in step.notifications {
            self.notifications.entry(n.id.clone()).or_insert(n);
        }
        for timer in step.timers {
            self.timers.entry(timer.id.clone()).or_insert(timer);
        }
    }

    fn of(kind: &str, kept: &Self) -> usize {
        kept.notifications.values().filter(|n| n.kind == kind).count()
    }
}

/// One alert's life: raised, then anything, each under a later cause.
fn life() -> impl Strategy<Value = Vec<Transition>> {
    let raising = (any::<bool>(), any::<bool>(), any::<bool>(), 0..3usize);
    let rest = prop::collection::vec((0..3usize, any::<bool>(), 1..3u32), 0..6);
    (raising, rest).prop_map(|((technical, late, pages, priority), rest)| {
        let priority = [Priority::Low, Priority::Medium, Priority::High][priority];
        let at = NOW;
        let first = Transition { technical, late, pages, priority, at, since: at, heard_at: schemas::Arrived(at.0), ..raised(1) };
        let mut said = vec![first.clone()];
        for (i, (kind, holds, ordinal)) in rest.into_iter().enumerate() {
            let kind = [TransitionKind::Amended, TransitionKind::Cleared, TransitionKind::Withdrawn][kind];
            let cause = Cause { offset: Offset(2 + i as i64), ordinal };
            said.push(Transition { cause, kind, holds, ..first.clone() });
        }
        said
    })
}

proptest! {
    /// Any replay of what was said before, at any point, changes nothing.
    #[test]
    fn a1_a_replay_changes_nothing(life in life(), replays in prop::collection::vec((0..7usize, 0..7usize), 0..4)) {
        let mut once = Kept::default();
        life.iter().for_each(|t| once.hear(t));
        let mut again = Kept::default();
        for (i, t) in life.iter().enumerate() {
            again.hear(t);
            for (after, from) in &replays {
                if *after == i {
                    life[(*from).min(i)..=i].iter().for_each(|t| again.hear(t));
                }
            }
        }
        prop_assert_eq!(once.history, life.len());
        prop_assert_eq!(once, again);
    }

    /// However it ends, who was to be paged has a page in every channel, once; and nobody else has.
    #[test]
    fn a2_every_raised_alert_is_paged_in_every_channel_once(life in life()) {
        let mut kept = Kept::default();
        life.iter().for_each(|t| kept.hear(t));
        let pages = life[0].pages && !life[0].technical;
        prop_assert_eq!(Kept::of("page", &kept), if pages { 2 } else { 0 });
        prop_assert!(kept.notifications.values().all(|n| n.kind != "page" || n.state == Sending::Due));
        let episode = kept.episode.unwrap();
        let open = kept.timers.values().filter(|timer| !timer.done).count();
        let repeats = pages && episode.priority != Priority::Low && episode.state == State::Open;
        prop_assert_eq!(open, usize::from(repeats), "a timer as long as it is open, and never for a low one");
        let ended = episode.state != State::Open;
        let told = kept.notifications.values().filter(|n| n.kind == "cleared" || n.kind == "withdrawn").count();
        prop_assert_eq!(told, if ended && pages { 2 } else { 0 }, "its end is told once, to who was paged");
    }

    /// A raising that was lost still makes an episode, and a page.
    #[test]
    fn what_was_not_heard_raised_is_shown_and_paged(life in life()) {
        let mut kept = Kept::default();
        life.iter().skip(1).for_each(|t| kept.hear(t));
        prop_assert_eq!(kept.episode.is_some(), life.len() > 1);
        if let Some(second) = life.get(1).filter(|t| !t.technical && t.pages) {
            prop_assert_eq!(Kept::of("page", &kept), 2, "{:?}", second.kind);
        }
    }
}

fn open() -> (Episode, Vec<Notification>) {
    let mut kept = Kept::default();
    kept.hear(&raised(1));
    (kept.episode.unwrap(), kept.notifications.into_values().collect())
}

#[test]
fn a_repage_is_for_who_owes_none() {
    let (episode, mut told) = open();
    let Fired::Again(Again { number, notifications, due, .. }) = fire(&episode, &told, &plan(), NOW) else { panic!() };
    assert_eq!((number, notifications.len(), due), (2, 0, Some(NOW + Micros::minutes(5))), "both still owe the first page");
    told[0].state = Sending::Sent;
    let Fired::Again(Again { notifications: second, .. }) = fire(&episode, &told, &plan(), NOW) else { panic!() };
    assert_eq!(second.iter().map(|n| &n.channel).collect::<Vec<_>>(), [&told[0].channel]);
    told.iter_mut().for_each(|n| n.state = Sending::Sent);
    told.extend(second.into_iter().map(|n| Notification { state: Sending::Sent, ..n }));
    let Fired::Again(Again { number, notifications, .. }) = fire(&episode, &told, &plan(), NOW) else { panic!() };
    assert_eq!((number, notifications.len()), (3, 2));
    let taken = Episode { acknowledged: Some(Acknowledgement { by: "silva".to_owned(), at: NOW, note: None, until: None }), ..episode.clone() };
    assert_eq!(fire(&taken, &told, &plan(), NOW), Fired::Over);
    assert_eq!(fire(&Episode { state: State::Cleared, ..episode }, &told, &plan(), NOW), Fired::Over);
}

#[test]
fn a_first_page_is_sent_whatever_happened_since() {
    let (episode, told) = open();
    let over = Episode { state: State::Withdrawn, acknowledged: Some(Acknowledgement { by: "silva".to_owned(), at: NOW, note: None, until: None }), ..episode };
    assert_eq!(turn(&told[0], &over, &told, now()), Turn::Send);
    let repage = Notification { kind: "repage".to_owned(), ..told[0].clone() };
    assert!(matches!(turn(&repage, &over, &told, now()), Turn::Drop(_)));
}

#[test]
fn an_end_follows_its_page() {
    let (episode, mut told) = open();
    let end = Notification { kind: "cleared".to_owned(), ..told[0].clone() };
    let over = Episode { state: State::Cleared, ..episode };
    assert!(matches!(turn(&end, &over, &told, NOW), Turn::Wait(at) if at > NOW));
    told[0].state = Sending::Sent;
    assert_eq!(turn(&end, &over, &told, NOW), Turn::Send);
    told[0].state = Sending::Failed;
    assert!(matches!(turn(&end, &over, &told, NOW), Turn::Drop(_)), "who never heard of it need not hear that it is over");
}
