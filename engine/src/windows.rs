//! The tumbling windows of one patient and metric: which are closed, and how often each was said.

use serde::{Deserialize, Serialize};

/// Windows that follow each other and were said equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: i64,
    count: u32,
    revision: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Windows {
    /// The window of the frontier, unless the clock closed it: behind the frontier none is open.
    pub open: Option<i64>,
    closed: Vec<Run>,
}

/// As it stands in a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plain {
    pub open: Vec<i64>,
    pub closed: std::collections::BTreeMap<i64, u32>,
}

impl Run {
    const fn end(&self, width: i64) -> i64 {
        self.start.saturating_add(width.saturating_mul(self.count as i64))
    }
}

impl Windows {
    pub fn revision(&self, start: i64, width: i64) -> Option<u32> {
        let run = self.closed.iter().rev().find(|run| run.start <= start)?;
        (start < run.end(width)).then_some(run.revision)
    }

    pub fn set(&mut self, start: i64, revision: u32, width: i64) {
        match self.closed.last_mut() {
            Some(run) if run.end(width) == start && run.revision == revision => run.count += 1,
            Some(run) if run.end(width) > start => {
                let mut all: Vec<(i64, u32)> = self.all(width).collect();
                match all.binary_search_by_key(&start, |(start, _)| *start) {
                    Ok(place) => all[place].1 = revision,
                    Err(place) => all.insert(place, (start, revision)),
                }
                self.closed.clear();
                for (start, revision) in all {
                    self.set(start, revision, width);
                }
            }
            _ => self.closed.push(Run { start, count: 1, revision }),
        }
    }

    /// Forgets those that begin before `oldest`.
    pub fn forget(&mut self, oldest: i64, width: i64) {
        while let Some(run) = self.closed.first_mut().filter(|run| run.start < oldest) {
            let behind = ((oldest - run.start) as u64).div_ceil(width as u64);
            if behind >= u64::from(run.count) {
                self.closed.remove(0);
            } else {
                run.start += width * behind as i64;
                run.count -= behind as u32;
            }
        }
    }

    /// Starts and revisions, in order.
    fn all(&self, width: i64) -> impl Iterator<Item = (i64, u32)> {
        self.closed.iter().flat_map(move |run| (0..i64::from(run.count)).map(move |n| (run.start + width * n, run.revision)))
    }

    pub fn plain(&self, width: i64) -> Plain {
        Plain { open: self.open.into_iter().collect(), closed: self.all(width).collect() }
    }

    pub fn of(plain: Plain, width: i64) -> Self {
        let mut windows = Self { open: plain.open.last().copied(), closed: Vec::new() };
        for (start, revision) in plain.closed {
            windows.set(start, revision, width);
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_map_is(sets in prop::collection::vec((0..40i64, 0..3u32, 0..60i64), 1..80)) {
            let (mut windows, mut plain) = (Windows::default(), BTreeMap::new());
            for (start, revision, oldest) in sets {
                windows.set(start * 5, revision, 5);
                plain.insert(start * 5, revision);
                if oldest < 40 {
                    windows.forget(oldest * 5 - 3, 5);
                    plain = plain.split_off(&(oldest * 5 - 3));
                }
                prop_assert_eq!(windows.all(5).collect::<BTreeMap<_, _>>(), plain.clone());
                for start in 0..40 {
                    prop_assert_eq!(windows.revision(start * 5, 5), plain.get(&(start * 5)).copied());
                }
            }
        }
    }
}
