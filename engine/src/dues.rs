//! The earliest of many moments, each of which moves on all the time: a tree of minima over an array.

use schemas::Arrived;

/// Values of one node; they fill a cache line.
const FAN: usize = 8;
/// No moment.
pub(crate) const NEVER: Arrived = Arrived(i64::MAX);

#[derive(Clone, Debug, Default)]
pub(crate) struct Dues {
    /// The moments, then the minima of every eight of the level before, up to a single one.
    levels: Vec<Vec<i64>>,
}

impl Dues {
    pub fn set(&mut self, slot: usize, due: Arrived) {
        if self.levels.first().is_none_or(|moments| slot >= moments.len()) {
            if due == NEVER {
                return;
            }
            self.grow(slot + 1);
        }
        let (mut slot, mut due) = (slot, due.0);
        for level in &mut self.levels {
            if level[slot] == due {
                return;
            }
            level[slot] = due;
            slot /= FAN;
            due = level[slot * FAN..level.len().min((slot + 1) * FAN)].iter().copied().fold(i64::MAX, i64::min);
        }
    }

    fn grow(&mut self, len: usize) {
        let mut len = len;
        for depth in 0.. {
            if self.levels.len() == depth {
                let minima = match depth.checked_sub(1).and_then(|below| self.levels.get(below)) {
                    Some(below) => below.chunks(FAN).map(|node| node.iter().copied().fold(i64::MAX, i64::min)).collect(),
                    None => Vec::new(),
                };
                self.levels.push(minima);
            }
            if self.levels[depth].len() < len {
                self.levels[depth].resize(len, i64::MAX);
            }
            if len == 1 {
                return;
            }
            len = len.div_ceil(FAN);
        }
    }

    /// The earliest, if there is any.
    pub fn first(&self) -> Option<Arrived> {
        self.levels.last().and_then(|top| top.first()).copied().map(Arrived).filter(|due| *due != NEVER)
    }

    /// What is due before the clock, by slot.
    pub fn before(&self, clock: Arrived) -> Vec<usize> {
        let Some(depth) = self.levels.len().checked_sub(1) else { return Vec::new() };
        let mut slots: Vec<usize> = if self.levels[depth][0] < clock.0 { vec![0] } else { Vec::new() };
        for level in self.levels[..depth].iter().rev() {
            slots = slots.into_iter().flat_map(|node| node * FAN..level.len().min((node + 1) * FAN)).filter(|slot| level[*slot] < clock.0).collect();
        }
        slots
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_is_the_earliest(sets in prop::collection::vec((0..700usize, prop_oneof![3 => 0..50i64, 1 => Just(i64::MAX)]), 1..200), clock in 0..60i64) {
            let (mut dues, mut plain) = (Dues::default(), vec![i64::MAX; 700]);
            for (slot, due) in sets {
                dues.set(slot, Arrived(due));
                plain[slot] = due;
                prop_assert_eq!(dues.first().unwrap_or(NEVER).0, plain.iter().copied().min().unwrap());
            }
            let before: Vec<usize> = (0..700).filter(|slot| plain[*slot] < clock).collect();
            prop_assert_eq!(dues.before(Arrived(clock)), before);
        }
    }
}
