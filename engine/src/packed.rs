//! Rows of integers in as few bits as they need: every row takes the same number of bits, and is found by its number.
//!
//! A column stands as the difference from a base, in a unit that divides all of them. A value that does not fit makes the rows be packed
//! anew, with more room; what comes out is always exactly what went in.

/// Microseconds: minutes, seconds, milliseconds. Most devices tell the time in one of them; and whole numbers stand in tenths.
const UNITS: [u64; 4] = [60_000_000, 1_000_000, 1_000, 10];

/// To which side a column may be expected to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grows {
    /// The first column: time.
    Up,
    Both,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Column {
    base: i64,
    unit: u32,
    /// In bits.
    width: u8,
    /// Where it begins in a row.
    shift: u16,
}

impl Column {
    fn of(values: impl Iterator<Item = i64> + Clone, grows: Grows) -> Self {
        let least = values.clone().min().unwrap_or(0);
        let above = |value: i64| value.wrapping_sub(least) as u64;
        let most = values.clone().map(above).max().unwrap_or(0);
        let unit = UNITS.into_iter().find(|unit| most > 0 && values.clone().all(|value| above(value).is_multiple_of(*unit))).unwrap_or(1);
        let needs = (64 - (most / unit).leading_zeros()) as u8;
        let (width, below) = match grows {
            Grows::Up => (if needs == 0 { 0 } else { (needs + 1).min(64) }, 0),
            // twice the room: what scatters hardly makes them be packed anew
            Grows::Both if needs > 0 && needs < 60 => (needs + 1, (mask(needs + 1) - most / unit) / 2),
            Grows::Both => (needs, (mask(needs) - most / unit) / 2),
        };
        let base = i64::try_from(below.saturating_mul(unit)).ok().and_then(|below| least.checked_sub(below)).unwrap_or(least);
        Self { base, unit: unit as u32, width, shift: 0 }
    }

    #[inline]
    fn code(&self, value: i64) -> Option<u64> {
        let above = value.wrapping_sub(self.base) as u64;
        let unit = u64::from(self.unit);
        let code = if unit == 1 { above } else { above / unit };
        (value >= self.base && code <= mask(self.width) && code * unit == above).then_some(code)
    }

    #[inline]
    const fn value(&self, code: u64) -> i64 {
        self.base.wrapping_add((code.wrapping_mul(self.unit as u64)) as i64)
    }
}

const fn mask(width: u8) -> u64 {
    if width == 0 { 0 } else { u64::MAX >> (64 - width) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed<const COLUMNS: usize> {
    columns: [Column; COLUMNS],
    /// Bits of a row.
    stride: u16,
    /// Bits before the first row, less than a word.
    head: u8,
    rows: u32,
    /// One more than the rows reach into, so that two can be read at once.
    words: Vec<u64>,
}

impl<const COLUMNS: usize> Default for Packed<COLUMNS> {
    fn default() -> Self {
        let empty = Column { unit: 1, ..Column::default() };
        Self { columns: [empty; COLUMNS], stride: 0, head: 0, rows: 0, words: Vec::new() }
    }
}

impl<const COLUMNS: usize> Packed<COLUMNS> {
    pub fn len(&self) -> usize {
        self.rows as usize
    }

    #[inline]
    pub fn get(&self, row: usize, column: usize) -> i64 {
        let column = &self.columns[column];
        if column.width == 0 { column.base } else { column.value(self.bits(self.place(row) + usize::from(column.shift), column.width)) }
    }

    /// A column of some rows.
    #[inline]
    pub fn column(&self, rows: std::ops::Range<usize>, column: usize) -> impl DoubleEndedIterator<Item = i64> + Clone {
        let column = self.columns[column];
        let (first, stride) = (usize::from(self.head) + usize::from(column.shift), usize::from(self.stride));
        rows.map(move |row| if column.width == 0 { column.base } else { column.value(self.bits(first.wrapping_add(row.wrapping_mul(stride)), column.width)) })
    }

    /// What stands in a column of every row, where that is the same by the way it is packed.
    pub fn constant(&self, column: usize) -> Option<i64> {
        let column = &self.columns[column];
        (column.width == 0).then_some(column.base)
    }

    pub fn row(&self, row: usize) -> [i64; COLUMNS] {
        std::array::from_fn(|column| self.get(row, column))
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The rows are in the order of their first column: how many of them have less than this there, or as much.
    pub fn until(&self, value: i64) -> usize {
        // what is asked for is mostly near the end
        let (mut low, mut high, mut step) = (0, self.len(), 1);
        while high > 0 {
            let probe = self.len().saturating_sub(step);
            if self.get(probe, 0) <= value {
                low = probe + 1;
                break;
            }
            high = probe;
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle, 0) <= value {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub fn push(&mut self, row: &[i64; COLUMNS]) {
        self.insert(self.len(), row);
    }

    pub fn insert(&mut self, at: usize, row: &[i64; COLUMNS]) {
        let Some(codes) = self.codes(row) else {
            let mut rows: Vec<[i64; COLUMNS]> = (0..self.len()).map(|row| self.row(row)).collect();
            rows.insert(at, *row);
            *self = Self::of(&rows);
            return;
        };
        self.rows += 1;
        self.reach();
        for row in (at + 1..self.len()).rev() {
            self.copy(row - 1, row);
        }
        self.write(at, &codes);
    }

    pub fn set(&mut self, at: usize, row: &[i64; COLUMNS]) {
        if let Some(codes) = self.codes(row) {
            self.write(at, &codes);
            return;
        }
        let mut rows: Vec<[i64; COLUMNS]> = (0..self.len()).map(|row| self.row(row)).collect();
        rows[at] = *row;
        *self = Self::of(&rows);
    }

    /// Drops the first rows.
    pub fn drop_first(&mut self, count: usize) {
        let bits = usize::from(self.head) + count * usize::from(self.stride);
        self.words.drain(..bits / 64);
        self.head = (bits % 64) as u8;
        self.rows -= count as u32;
    }

    fn of(rows: &[[i64; COLUMNS]]) -> Self {
        let mut packed = Self::default();
        for (number, column) in packed.columns.iter_mut().enumerate() {
            let grows = if number == 0 { Grows::Up } else { Grows::Both };
            *column = Column::of(rows.iter().map(|row| row[number]), grows);
            column.shift = packed.stride;
            packed.stride += u16::from(column.width);
        }
        packed.rows = rows.len() as u32;
        packed.reach();
        for (number, row) in rows.iter().enumerate() {
            if let Some(codes) = packed.codes(row) {
                packed.write(number, &codes);
            }
        }
        packed
    }

    fn codes(&self, row: &[i64; COLUMNS]) -> Option<[u64; COLUMNS]> {
        let mut codes = [0; COLUMNS];
        for ((code, column), value) in codes.iter_mut().zip(&self.columns).zip(row) {
            *code = column.code(*value)?;
        }
        Some(codes)
    }

    fn place(&self, row: usize) -> usize {
        usize::from(self.head).wrapping_add(row.wrapping_mul(usize::from(self.stride)))
    }

    /// As many words as the rows need, and hardly more.
    fn reach(&mut self) {
        let words = self.place(self.len()) / 64 + 2;
        if words > self.words.capacity() {
            self.words.reserve_exact(words - self.words.len() + 2 + words / 16);
        }
        self.words.resize(words, 0);
    }

    #[inline]
    fn bits(&self, at: usize, width: u8) -> u64 {
        let (word, shift) = (at / 64, at % 64);
        let [low, high] = self.words[word..word.wrapping_add(2)] else { return 0 };
        // in two steps: a shift by 64 is none
        ((low >> shift) | (high << (63 - shift) << 1)) & mask(width)
    }

    fn write(&mut self, row: usize, codes: &[u64; COLUMNS]) {
        let place = self.place(row);
        for (code, column) in codes.iter().zip(self.columns) {
            self.write_bits(place + usize::from(column.shift), *code, column.width);
        }
    }

    #[inline]
    fn write_bits(&mut self, at: usize, bits: u64, width: u8) {
        let (word, shift) = (at / 64, at % 64);
        let [low, high] = &mut self.words[word..word.wrapping_add(2)] else { return };
        *low = (*low & !(mask(width) << shift)) | (bits << shift);
        *high = (*high & !(mask(width) >> (63 - shift) >> 1)) | (bits >> (63 - shift) >> 1);
    }

    fn copy(&mut self, from: usize, to: usize) {
        let (from, to, stride) = (self.place(from), self.place(to), usize::from(self.stride));
        for done in (0..stride).step_by(64) {
            let width = (stride - done).min(64) as u8;
            let bits = self.bits(from + done, width);
            self.write_bits(to + done, bits, width);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = [i64; 6];

    fn rows() -> impl Strategy<Value = Vec<(i64, Row)>> {
        let number = prop_oneof![4 => 0..5i64, 2 => (0..1000i64).prop_map(|n| n * 1000), 1 => any::<i64>()];
        let row = (0..2000i64, prop::array::uniform6(number)).prop_map(|(at, row)| (at * 1_000_000, row));
        prop::collection::vec(row, 1..80)
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(rows in rows(), drops in prop::collection::vec(0..4usize, 80), far in any::<i64>()) {
            let (mut packed, mut plain) = (Packed::<6>::default(), Vec::<Row>::new());
            for (number, (at, mut row)) in rows.into_iter().enumerate() {
                row[0] = if number == 70 { far } else { at };
                let place = plain.partition_point(|known| known[0] <= row[0]);
                prop_assert_eq!(packed.until(row[0]), place);
                packed.insert(place, &row);
                plain.insert(place, row);
                if number % 7 == 3 {
                    let place = number % plain.len();
                    plain[place][1] ^= 1 << (number % 64);
                    packed.set(place, &plain[place]);
                }
                if number % 11 == 10 {
                    let count = drops[number].min(plain.len());
                    packed.drop_first(count);
                    plain.drain(..count);
                }
                prop_assert_eq!((0..packed.len()).map(|row| packed.row(row)).collect::<Vec<_>>(), plain.clone());
            }
        }
    }

    #[test]
    fn a_minutely_reading_takes_less_than_eight_bytes() {
        let mut packed = Packed::<6>::default();
        for minute in 0..245i64 {
            let delay = 40_000 + minute * 7_919_317 % 2_000_000;
            packed.push(&[1_795_168_800_123_000 + minute * 60_000_000, 96 + minute % 5, delay, 1000 + minute * 7919 % 10_000, 0, 0]);
        }
        assert!(packed.words.capacity() * 8 < 245 * 8, "{} bytes", packed.words.capacity() * 8);
    }
}
