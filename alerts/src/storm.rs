//! Many pages at once for one receiver, such as when a hundred patients come back after six hours: the first few come one by one, the most urgent first,
//! and what is more comes together, in one page for all of it. Each alert keeps its own timers: what nobody takes is repeated, one by one or together again.

use std::collections::{HashMap, VecDeque};

use schemas::{EventTime, Micros};
use store::notifications::Notification;

/// Pages of this long count.
const WITHIN: Micros = Micros::seconds(60);
/// So much of it lies between two pages that are many: a page is not put off for longer.
const APART: Micros = Micros::seconds(15);
/// Alerts in one page: each is recorded under the same lease.
pub(crate) const MOST: usize = 100;

type Receiver = (String, Option<String>);

#[derive(Debug, Default)]
struct Told {
    at: VecDeque<EventTime>,
    /// When many were told together last.
    many: Option<EventTime>,
}

/// What each receiver was told of late, by this process.
#[derive(Debug)]
pub(crate) struct Storm {
    /// So many come one by one.
    alone: usize,
    told: HashMap<Receiver, Told>,
}

/// What becomes of a receiver's pages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub alone: Vec<Notification>,
    pub together: Vec<Vec<Notification>>,
    pub later: Option<(EventTime, Vec<Notification>)>,
}

impl Storm {
    pub fn new(alone: u32) -> Self {
        Self { alone: (alone as usize).max(1), told: HashMap::new() }
    }

    /// Of pages for one receiver, the most urgent first.
    pub fn share(&mut self, mut pages: Vec<Notification>, now: EventTime) -> Share {
        let Some(first) = pages.first() else { return Share::default() };
        let told = self.told.entry((first.channel.clone(), first.person.clone())).or_default();
        while told.at.front().is_some_and(|at| *at <= now - WITHIN) {
            told.at.pop_front();
        }
        let room = self.alone.saturating_sub(told.at.len());
        let mut share = Share::default();
        if pages.len() <= room {
            share.alone = pages;
        } else {
            // the last one is for all that is left
            let rest = pages.split_off(room.saturating_sub(1));
            share.alone = pages;
            let next = told.many.map(|many| many + APART).filter(|next| *next > now && room == 0);
            match next {
                Some(next) => share.later = Some((next, rest)),
                None => {
                    told.many = Some(now);
                    let mut rest = rest.into_iter().peekable();
                    while rest.peek().is_some() {
                        share.together.push(rest.by_ref().take(MOST).collect());
                    }
                }
            }
        }
        told.at.extend(std::iter::repeat_n(now, share.alone.len() + share.together.len()));
        self.told.retain(|_, told| told.at.back().is_some_and(|at| *at > now - WITHIN));
        share
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemas::AlertId;

    use super::*;

    fn page(n: u128, channel: &str) -> Notification {
        let at = EventTime(0);
        Notification::due(format!("page-{n}"), AlertId(n.to_be_bytes()), "page", channel, format!("key-{n}"), at, at)
    }

    fn pages(n: u128) -> Vec<Notification> {
        (0..n).map(|n| page(n, "sms")).collect()
    }

    #[test]
    fn the_first_come_one_by_one_and_the_rest_together() {
        let mut storm = Storm::new(10);
        let share = storm.share(pages(100), EventTime(0));
        assert_eq!((share.alone.len(), share.together.iter().map(Vec::len).collect::<Vec<_>>()), (9, vec![91]));
        let share = storm.share(pages(3), EventTime(0) + Micros::seconds(5));
        assert_eq!(share.later.map(|(at, later)| (at, later.len())), Some((EventTime(0) + APART, 3)));
        let share = storm.share(pages(3), EventTime(0) + APART);
        assert_eq!(share.together.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
        let share = storm.share(pages(3), EventTime(0) + WITHIN + APART);
        assert_eq!(share.alone.len(), 3, "it is over");
        assert_eq!(storm.share(vec![page(7, "pager")], EventTime(0)).alone.len(), 1, "another receiver");
    }

    proptest! {
        /// Nothing is lost, nothing is put off for longer than `APART`, and nobody has more than so many pages a minute.
        #[test]
        fn none_is_lost_and_none_waits_long(alone in 1..12_u32, batches in prop::collection::vec((0..20_i64, 0..40_u128), 1..60)) {
            let mut storm = Storm::new(alone);
            let (mut now, mut sent) = (EventTime(0), Vec::new());
            for (seconds, many) in batches {
                now = now + Micros::seconds(seconds);
                let share = storm.share(pages(many), now);
                let later = share.later.as_ref().map_or(0, |(_, later)| later.len());
                prop_assert_eq!(share.alone.len() + share.together.iter().map(Vec::len).sum::<usize>() + later, many as usize);
                prop_assert!(share.later.is_none_or(|(at, _)| at > now && at <= now + APART));
                sent.extend(std::iter::repeat_n(now, share.alone.len() + share.together.len()));
                let minute = sent.iter().filter(|at| **at > now - WITHIN).count();
                prop_assert!(minute <= alone as usize + 5, "{} pages in a minute", minute);
            }
        }
    }
}
