//! Who is paged next and when, as a value: what a timer does when it is due, and when an attempt that failed is made again; pure.
//!
//! An alert has one timer. While somebody has the alert or it is snoozed, the timer stands at the end of that; otherwise at the time when
//! the next step is paged. So an open alert that was to wake somebody is never without an end of its silence:
//!
//! | when the timer is due and the alert is | |
//! |---|---|
//! | over, or acknowledged for good | nothing; the timer is finished |
//! | acknowledged or snoozed until later | the timer waits until then |
//! | acknowledged or snoozed until now | that ends, and the first step is paged |
//! | open | the next step is paged; after the last one the first again |

use schemas::{EventTime, Micros, Priority};
use store::episodes::{Episode, Rung, State, What};
use store::notifications::{Notification, State as Sending};
use store::timers::{REPAGE, Timer};

use crate::episode::{ACKNOWLEDGED, AMENDED, PAGE, notification, pages_of, to_person};

/// A notification that failed for this long is given up, whatever its priority: by then somebody else has the patient, or nobody reads it.
pub const GIVE_UP: Micros = Micros::hours(24);

/// Whether a page is repeated at all. A low one is not: it asks for awareness, and a repetition of it is the alarm that makes the next
/// high one go unheard.
pub const fn repeats(priority: Priority) -> bool {
    matches!(priority, Priority::High | Priority::Medium)
}

/// Somebody to be paged, by the first channel that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// `None`: whoever reads the channel.
    pub person: Option<String>,
    pub channels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its place in the policy, which does not change when an earlier step is empty tonight.
    pub index: u32,
    pub to: Vec<Recipient>,
    /// Until the next step.
    pub wait: Micros,
}

/// Who is there for one alert at one time, step by step. A step without anybody is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// How soon it is looked again when nobody is there at all.
    pub look_again: Micros,
}

impl Plan {
    /// Every channel at once, again and again.
    pub fn everybody(channels: &[String], repage_after: Micros) -> Self {
        let to: Vec<_> = channels.iter().map(|channel| Recipient { person: None, channels: vec![channel.clone()] }).collect();
        let steps = if to.is_empty() { Vec::new() } else { vec![Step { index: 0, to, wait: repage_after }] };
        Self { steps, look_again: repage_after }
    }

    pub fn first(&self) -> Option<&Step> {
        self.steps.first()
    }

    /// The step whose turn it is at `rung`, and the rung after it.
    pub fn next(&self, rung: Rung) -> Option<(&Step, Rung)> {
        let here = self.steps.iter().find(|step| step.index >= rung.step).map(|step| (step, rung.round));
        let (step, round) = here.or_else(|| Some((self.first()?, rung.round + 1)))?;
        Some((step, Rung { round, step: step.index + 1 }))
    }
}

/// The timer of an alert that was just raised.
pub fn first(episode: &Episode, plan: &Plan, now: EventTime) -> Option<Timer> {
    let repeats = repeats(episode.priority) && episode.state == State::Open && episode.acknowledged.is_none();
    let wait = plan.first().map_or(plan.look_again, |step| step.wait);
    repeats.then(|| Timer::new(Timer::id_of(episode.alert), episode.alert, REPAGE, now + wait))
}

/// What a timer does when it is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Somebody has it for good, or it is over: the timer is finished.
    Over,
    /// Somebody has it, or it is snoozed: the timer is due then.
    Wait(EventTime),
    Again(Again),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// What ended, acknowledgement or snooze: it is taken out of the episode and stands in its history.
    pub ended: Vec<What>,
    /// Which page this is.
    pub number: u32,
    pub rung: Rung,
    /// A channel that still owes an earlier page gets no other: when it is back, one page is enough. A person's next one is taken.
    pub notifications: Vec<Notification>,
    /// `None`: the timer is finished.
    pub due: Option<EventTime>,
}

/// `told` are all notifications of the alert.
pub fn fire(episode: &Episode, told: &[Notification], plan: &Plan, now: EventTime) -> Fired {
    let taken_for_good = episode.acknowledged.as_ref().is_some_and(|given| given.until.is_none());
    if episode.state != State::Open || taken_for_good {
        return Fired::Over;
    }
    let acknowledged = episode.acknowledged.as_ref().and_then(|given| given.until);
    let snoozed = episode.care.snoozed.as_ref().map(|snooze| snooze.until);
    if let Some(until) = acknowledged.into_iter().chain(snoozed).filter(|until| *until > now).max() {
        return Fired::Wait(until);
    }
    let ended: Vec<What> = acknowledged.map(|_| What::Expired).into_iter().chain(snoozed.map(|_| What::Woken)).collect();
    let pages = told.iter().any(is_page) || (repeats(episode.priority) && !episode.technical && !episode.test && !episode.late);
    let number = told.iter().filter(|n| n.kind == REPAGE).map(number).max().unwrap_or(1) + 1;
    let mut again = Again { ended, number, rung: episode.care.rung, notifications: Vec::new(), due: None };
    if !pages {
        return Fired::Again(again);
    }
    let rung = if again.ended.is_empty() { episode.care.rung } else { Rung { round: episode.care.rung.round + 1, step: 0 } };
    let key = format!("{}_{REPAGE}_{number}", episode.alert);
    let mut wait = plan.look_again;
    if let Some((step, rung)) = plan.next(rung) {
        let owes = |channel: &String| told.iter().any(|n| n.channel == *channel && is_page(n) && matches!(n.state, Sending::Due | Sending::Sending));
        let free = |to: &Recipient| Recipient { person: to.person.clone(), channels: to.channels.iter().filter(|channel| !owes(channel)).cloned().collect() };
        let to: Vec<Recipient> = step.to.iter().map(free).collect();
        again.notifications = pages_of(episode, REPAGE, &key, &to, now);
        (again.rung, wait) = (rung, step.wait);
    }
    again.due = repeats(episode.priority).then(|| now + wait);
    Fired::Again(again)
}

/// What is sent when `n` could not be delivered: the person's next channel, at once and under the same key.
pub fn fall_through(n: &Notification, now: EventTime) -> Option<Notification> {
    let (channel, fallback) = n.fallback.split_first()?;
    Some(to_person(notification(n.alert, &n.kind, &n.key, channel, now), n.person.as_deref(), fallback))
}

/// Which page it is: the first is 1.
pub fn number(n: &Notification) -> u32 {
    if n.kind == REPAGE { n.key.rsplit('_').next().and_then(|n| n.parse().ok()).unwrap_or(2) } else { 1 }
}

/// Whether somebody had it when this channel was last told, and this page says that nobody has it any more.
pub fn reopens(n: &Notification, told: &[Notification]) -> bool {
    let newest = told.iter().filter(|other| other.channel == n.channel && other.state == Sending::Sent).max_by_key(|other| other.created_at);
    n.kind == REPAGE && newest.is_some_and(|newest| newest.kind == ACKNOWLEDGED)
}

pub(crate) fn is_page(n: &Notification) -> bool {
    n.kind == PAGE || n.kind == REPAGE
}

/// What becomes of a notification whose turn has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    Send,
    /// What must arrive before it has not.
    Wait(EventTime),
    /// Nobody needs it any more; why.
    Drop(&'static str),
    /// Its channel is failing with the same page for somebody else: the person's next channel, without another attempt.
    GoOn(String),
}

/// A first page is always sent, to each person by one channel and by each channel once. `told` are all notifications of the alert, `n` among
/// them.
pub fn turn(n: &Notification, episode: &Episode, told: &[Notification], now: EventTime) -> Turn {
    let same = |other: &&Notification| other.id != n.id && other.key == n.key;
    if n.person.is_some() && told.iter().filter(same).any(|other| other.person == n.person && other.state == Sending::Sent) {
        return Turn::Drop("another channel reached them first");
    }
    for twin in told.iter().filter(same).filter(|other| other.channel == n.channel) {
        let first = (twin.created_at, &twin.id) < (n.created_at, &n.id);
        match twin.state {
            Sending::Sent => return Turn::Drop("the channel has it already"),
            Sending::Due | Sending::Sending if first => {
                return twin.last_error.as_ref().map_or(Turn::Wait(now + Micros::seconds(1)), |why| Turn::GoOn(why.clone()));
            }
            _ => {}
        }
    }
    if n.kind == PAGE {
        return Turn::Send;
    }
    // claimed before the page said that it was over, looked at after
    if told.iter().any(|other| other.id == n.id && other.state == Sending::Cancelled) {
        return Turn::Drop("it was cancelled before this was sent");
    }
    let over = episode.state != State::Open;
    if n.kind == REPAGE {
        return match &episode.acknowledged {
            _ if over => Turn::Drop("it was over before this was sent"),
            Some(_) => Turn::Drop("somebody had taken it before this was sent"),
            None if episode.snoozed(now) => Turn::Drop("somebody had snoozed it before this was sent"),
            None => Turn::Send,
        };
    }
    if over && [AMENDED, ACKNOWLEDGED].contains(&n.kind.as_str()) {
        return Turn::Drop("it was over before this was sent");
    }
    // told late, it would silence a page that was sent since
    if n.kind == ACKNOWLEDGED && episode.acknowledged.as_ref().is_none_or(|given| given.at > n.created_at || !episode.taken(now)) {
        return Turn::Drop("nobody has it any more by then");
    }
    // about a page: of no use before it, nor without it
    let pages = || told.iter().filter(|other| is_page(other) && other.channel == n.channel);
    if pages().any(|page| page.state == Sending::Sent) {
        return Turn::Send;
    }
    match pages().filter(|page| matches!(page.state, Sending::Due | Sending::Sending)).map(|page| page.next_at).max() {
        Some(next_at) => Turn::Wait(next_at.max(now + Micros::seconds(1))),
        None => Turn::Drop("the page it is about never arrived"),
    }
}

/// The pause after attempt number `attempt` (from 1) failed: 1 s, doubled up to 5 min, and up to half of it less by `chance` in 0..1.
pub fn backoff(attempt: u32, chance: f64) -> Micros {
    let most = Micros::seconds(1 << attempt.saturating_sub(1).min(16)).min(Micros::minutes(5));
    Micros((most.0 as f64 * (1.0 - 0.5 * chance.clamp(0.0, 1.0))) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_from_a_second_to_five_minutes() {
        for (attempt, seconds) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            assert_eq!(backoff(attempt, 0.0), Micros::seconds(seconds));
            assert_eq!(backoff(attempt, 1.0).0 * 2, Micros::seconds(seconds).0);
        }
    }
}
