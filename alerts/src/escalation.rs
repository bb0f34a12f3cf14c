//! When a page is repeated, and when an attempt that failed is made again; pure.

use schemas::{EventTime, Micros, Priority};
use store::episodes::{Episode, State};
use store::notifications::{Notification, State as Sending};
use store::timers::{REPAGE, Timer};

use crate::episode::{PAGE, Policy, notification};

/// A notification that failed for this long is given up, whatever its priority: by then somebody else has the patient, or nobody reads it.
pub const GIVE_UP: Micros = Micros::hours(24);

/// Whether a page is repeated at all. A low one is not: it asks for awareness, and a repetition of it is the alarm that makes the next
/// high one go unheard.
pub const fn repeats(priority: Priority) -> bool {
    matches!(priority, Priority::High | Priority::Medium)
}

/// The timer of an alert that was just raised.
pub fn first(episode: &Episode, policy: &Policy, now: EventTime) -> Option<Timer> {
    let repeats = repeats(episode.priority) && episode.state == State::Open && episode.acknowledged.is_none() && !policy.channels.is_empty();
    repeats.then(|| Timer::new(format!("{}_{REPAGE}", episode.alert), episode.alert, REPAGE, now + policy.repage_after))
}

/// What a re-page timer does when it is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Somebody has it, or it is over: the timer is finished.
    Over,
    /// The timer fires again at `due`. A channel that still owes an earlier page gets no other: when it is back, one page is enough.
    Again { number: u32, notifications: Vec<Notification>, due: EventTime },
}

/// `told` are all notifications of the alert.
pub fn fire(episode: &Episode, told: &[Notification], policy: &Policy, now: EventTime) -> Fired {
    if episode.state != State::Open || episode.acknowledged.is_some() {
        return Fired::Over;
    }
    let number = told.iter().filter(|n| n.kind == REPAGE).map(number).max().unwrap_or(1) + 1;
    let key = format!("{}_{REPAGE}_{number}", episode.alert);
    let owes = |channel: &str| told.iter().any(|n| n.channel == channel && is_page(n) && matches!(n.state, Sending::Due | Sending::Sending));
    let channels = policy.channels.iter().filter(|channel| !owes(channel));
    let notifications = channels.map(|channel| notification(episode.alert, REPAGE, &key, channel, now)).collect();
    Fired::Again { number, notifications, due: now + policy.repage_after }
}

/// Which page it is: the first is 1.
pub fn number(n: &Notification) -> u32 {
    if n.kind == REPAGE { n.key.rsplit('_').next().and_then(|n| n.parse().ok()).unwrap_or(2) } else { 1 }
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
}

/// A first page is always sent. `told` are all notifications of the alert, `n` among them.
pub fn turn(n: &Notification, episode: &Episode, told: &[Notification], now: EventTime) -> Turn {
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
            None => Turn::Send,
        };
    }
    if over && n.kind == crate::episode::AMENDED {
        return Turn::Drop("it was over before this was sent");
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
