//! The gateway is away for a while: whether what was measured meanwhile came, all of it and in order.

use std::collections::{BTreeMap, HashSet};

use schemas::{EventTime, Metric, Micros};

use super::list::Finding;
use super::resend::exactly;
use super::seen::{Mark, Message};

/// Readings that are remembered; a device that sends more in one run is judged by these.
const MOST: usize = 500_000;
/// So many of a metric's longest usual pauses may pass between two of its readings.
const PAUSES: i64 = 3;

/// Every reading with a time of its own, once, in the order in which they came.
#[derive(Default)]
pub struct Arrivals {
    known: HashSet<Mark>,
    /// With the time of receipt.
    came: Vec<(Mark, EventTime)>,
}

impl Arrivals {
    pub fn take(&mut self, message: &Message) {
        for mark in message.entries.iter().filter_map(|entry| entry.mark) {
            if self.came.len() < MOST && self.known.insert(mark) {
                self.came.push((mark, message.received_at));
            }
        }
    }

    /// By metric: when they were measured by a right clock, and when they came, in the order in which they came.
    fn by_metric(&self, offset: Micros) -> BTreeMap<Option<Metric>, Vec<(EventTime, EventTime)>> {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for (mark, received_at) in &self.came {
            all.entry(mark.metric).or_default().push((mark.stamped_at + offset, *received_at));
        }
        all
    }
}

/// The gateway was not there from `from` until `until`.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Nothing had been done to the device until then: what it measured before says how often it measures.
    pub calm_until: EventTime,
    pub from: EventTime,
    pub until: EventTime,
}

enum Judged {
    /// So many were measured meanwhile.
    Whole(usize),
    /// Nothing measured after the return has come yet.
    Unfinished,
    Missing(Micros, Micros),
    Disordered,
    /// It measures too seldom for this outage.
    Seldom(Micros),
    TooFew,
}

impl Outage {
    /// `None`: more may still come. `over`: nothing more is waited for.
    pub fn finding(&self, arrivals: &Arrivals, offset: Micros, over: bool) -> Option<Finding> {
        let judged: Vec<Judged> = arrivals.by_metric(offset).into_values().map(|times| self.judge(&times)).collect();
        let away = exactly(self.until - self.from);
        if !over && judged.iter().any(|one| matches!(one, Judged::Unfinished | Judged::Missing(..))) {
            return None;
        }
        let remedy = "keep what is measured while the gateway cannot be reached, with its times, and send it after connecting, the oldest first";
        for one in &judged {
            match one {
                Judged::Missing(gap, usual) => {
                    let saw =
                        format!("away for {away}: nothing was measured in {}, usually every {}: the backlog is not whole", exactly(*gap), exactly(*usual));
                    return Some(Finding::fail(saw, remedy));
                }
                Judged::Unfinished => return Some(Finding::fail(format!("away for {away}: nothing that was measured since has come"), remedy)),
                _ => {}
            }
        }
        if judged.iter().any(|one| matches!(one, Judged::Disordered)) {
            return Some(Finding::fail(format!("away for {away}: what was measured meanwhile came, and not in the order of its times"), remedy));
        }
        let whole: usize = judged.iter().map(|one| if let Judged::Whole(count) = one { *count } else { 0 }).sum();
        if whole > 0 {
            return Some(Finding::pass(format!("away for {away}: {whole} readings of that time came, in order, and none is missing")));
        }
        if !over {
            return None;
        }
        let seldom = judged.iter().filter_map(|one| if let Judged::Seldom(usual) = one { Some(*usual) } else { None }).min();
        Some(match seldom {
            Some(usual) => Finding::not_seen(format!("away for {away}: it measures every {}, too seldom to tell", exactly(usual)))
                .or_try(format!("measure while the gateway is away, or give --outage \"{} s\"", 1 + (usual.as_seconds() + 1) * (PAUSES + 1))),
            None => Finding::not_seen("too few readings with a time of their own came to tell").or_try("send a time of measurement with each reading"),
        })
    }

    /// Of one metric.
    fn judge(&self, came: &[(EventTime, EventTime)]) -> Judged {
        let mut times: Vec<EventTime> = came.iter().map(|(measured, _)| *measured).collect();
        times.sort_unstable();
        times.dedup();
        let before = times.partition_point(|at| *at <= self.from);
        let calm = times.partition_point(|at| *at <= self.calm_until);
        let Some(usual) = times[..calm].windows(2).map(|pair| pair[1] - pair[0]).max().filter(|_| calm > 2) else { return Judged::TooFew };
        let after = times.partition_point(|at| *at < self.until);
        let inside = after - before;
        let allowed = Micros(usual.0.saturating_mul(PAUSES));
        if inside == 0 && allowed >= self.until - self.from {
            return Judged::Seldom(usual);
        }
        if after == times.len() {
            return Judged::Unfinished;
        }
        let gap = times[before - 1..=after].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        if gap > allowed {
            return Judged::Missing(gap, usual);
        }
        let meanwhile = came.iter().map(|(measured, _)| *measured).filter(|at| *at > self.from && *at < self.until);
        if meanwhile.is_sorted() { Judged::Whole(inside) } else { Judged::Disordered }
    }
}
