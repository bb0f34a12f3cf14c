//! What the rows of one rule and patient said, by their times.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::packed::Packed;

/// What a row said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub when: Option<bool>,
    pub clear: Option<bool>,
    /// The clock when this row was first TRUE; of a row that never was nobody asks.
    pub heard: i64,
    pub readings: u32,
}

/// Rows in order. Only of those that are or were TRUE more than the answers is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    /// (time, answers)
    packed: Packed<2>,
    /// (time, heard, readings)
    facts: Vec<(i64, i64, u32)>,
    /// Rows before it are forgotten, though they may still stand in `packed`.
    oldest: Option<i64>,
    newest: Option<i64>,
}

/// So long forgotten rows may stand before they are dropped, in µs: dropping moves the others.
const SLACK: i64 = 30 * 60_000_000;

const fn code(answer: Option<bool>) -> i64 {
    match answer {
        Some(false) => 0,
        Some(true) => 1,
        None => 2,
    }
}

const fn answer(code: i64) -> Option<bool> {
    match code {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

impl Rows {
    fn first(&self) -> usize {
        match self.oldest {
            Some(oldest) if self.packed.len() > 0 && self.packed.get(0, 0) < oldest => self.packed.until(oldest - 1),
            _ => 0,
        }
    }

    fn fact(&self, at: i64) -> Option<&(i64, i64, u32)> {
        let place = self.facts.binary_search_by_key(&at, |fact| fact.0).ok()?;
        self.facts.get(place)
    }

    fn at(&self, row: usize) -> (i64, Said) {
        let (at, codes) = (self.packed.get(row, 0), self.packed.get(row, 1));
        let (heard, readings) = if self.facts.is_empty() { (0, 0) } else { self.fact(at).map_or((0, 0), |fact| (fact.1, fact.2)) };
        (at, Said { when: answer(codes & 3), clear: answer(codes >> 2), heard, readings })
    }

    pub fn get(&self, at: i64) -> Option<Said> {
        let row = self.packed.until(at).checked_sub(1)?;
        (self.packed.get(row, 0) == at && self.oldest.is_none_or(|oldest| at >= oldest)).then(|| self.at(row).1)
    }

    /// The time of the newest row.
    pub const fn newest(&self) -> Option<i64> {
        self.newest
    }

    pub fn insert(&mut self, at: i64, said: Said) {
        if self.oldest.is_some_and(|oldest| at < oldest) {
            self.packed.drop_first(self.first());
            self.oldest = Some(at);
        }
        let codes = code(said.when) | (code(said.clear) << 2);
        if self.newest.is_none_or(|newest| at > newest) {
            self.packed.push(&[at, codes]);
            self.newest = Some(at);
        } else {
            let row = self.packed.until(at);
            match row.checked_sub(1).filter(|before| self.packed.get(*before, 0) == at) {
                Some(known) => self.packed.set(known, &[at, codes]),
                None => self.packed.insert(row, &[at, codes]),
            }
        }
        self.learn(at, said, said.when == Some(true));
    }

    /// One as a snapshot has it, in order.
    pub fn restore(&mut self, at: i64, said: Said) {
        self.insert(at, said);
        self.learn(at, said, (said.heard, said.readings) != (0, 0));
    }

    fn learn(&mut self, at: i64, said: Said, needed: bool) {
        if !needed && self.facts.is_empty() {
            return;
        }
        match self.facts.binary_search_by_key(&at, |fact| fact.0) {
            Ok(place) => self.facts[place] = (at, said.heard, said.readings),
            Err(place) if needed => self.facts.insert(place, (at, said.heard, said.readings)),
            Err(_) => {}
        }
    }

    /// Rows before `oldest` are no longer there.
    pub fn forget(&mut self, oldest: i64) {
        let oldest = self.oldest.map_or(oldest, |before| before.max(oldest));
        self.oldest = Some(oldest);
        if self.newest.is_some_and(|newest| newest < oldest) {
            return self.clear();
        }
        if self.packed.len() > 0 && self.packed.get(0, 0) < oldest.saturating_sub(SLACK) {
            self.packed.drop_first(self.first());
        }
        if self.facts.first().is_some_and(|fact| fact.0 < oldest) {
            let behind = self.facts.partition_point(|fact| fact.0 < oldest);
            self.facts.drain(..behind);
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, Said)> {
        (self.first()..self.packed.len()).map(|row| self.at(row))
    }

    pub fn range(&self, times: RangeInclusive<i64>) -> impl DoubleEndedIterator<Item = (i64, Said)> {
        let first = if *times.start() == i64::MIN { 0 } else { self.packed.until(*times.start() - 1) };
        let end = self.packed.until(*times.end());
        (first.max(self.first())..end).map(|row| self.at(row))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_map_is(acts in prop::collection::vec((0..90i64, 0..9i64, 0..12i64), 1..120)) {
            let (mut rows, mut plain) = (Rows::default(), BTreeMap::<i64, Said>::new());
            for (number, (at, codes, oldest)) in acts.into_iter().enumerate() {
                let at = (at + number as i64) * 60_000_000;
                let said = Said { when: answer(codes % 3), clear: answer(codes / 3), heard: at + 1, readings: number as u32 };
                rows.insert(at, said);
                plain.insert(at, said);
                if oldest == 0 {
                    rows.forget(at - 20 * 60_000_000);
                    plain = plain.split_off(&(at - 20 * 60_000_000));
                }
                prop_assert_eq!(rows.newest(), plain.keys().last().copied());
                let kept: Vec<_> = rows.iter().collect();
                prop_assert_eq!(kept.len(), plain.len());
                for ((at, said), (time, expected)) in kept.iter().zip(&plain) {
                    prop_assert_eq!((at, said.when, said.clear), (time, expected.when, expected.clear));
                    if expected.when == Some(true) {
                        prop_assert_eq!(said, expected);
                    }
                    prop_assert_eq!(rows.get(*at), Some(*said));
                }
                prop_assert_eq!(rows.range(at - 9 * 60_000_000..=at).count(), plain.range(at - 9 * 60_000_000..=at).count());
            }
        }
    }
}
