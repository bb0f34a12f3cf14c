//! The samples of one patient and metric, and the functions over them.

use schemas::{Arrived, ClockState, DeviceId, EventTime, Metric, Micros, Pause, Reading, ReadingId};

use crate::packed::Packed;
use crate::panes::{self, Day, Panes};
use crate::rules::{Function, MAX_AGE};
use crate::windows::Windows;
use crate::zone::Zone;

/// One reading as it is kept, but for who measured it. `voided` ones stay so that a resend is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Kept {
    pub at: EventTime,
    pub value: f64,
    pub received_at: EventTime,
    pub arrived: Arrived,
    pub clock: ClockState,
    pub typed: bool,
    pub test: bool,
    pub late: bool,
    /// Later than the horizon: shown, and in no answer.
    pub beyond: bool,
    pub voided: bool,
    /// Which of the series' sources it is of.
    pub source: u32,
}

/// What readings share, so that their ids need not be kept.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    device: DeviceId,
    name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    /// The id is the hash of device, metric, time and this boot number; the device's time was believed.
    Derived(Option<u64>),
    Whole(ReadingId, EventTime),
}

// columns of a sample
const AT: usize = 0;
const VALUE: usize = 1;
// 2: from when it was measured to when it was received; 3: from then to when it stood in the log
const SOURCE: usize = 4;
const MARKS: usize = 5;

const TYPED: i64 = 1 << 2;
const TEST: i64 = 1 << 3;
const LATE: i64 = 1 << 4;
const BEYOND: i64 = 1 << 5;
const VOIDED: i64 = 1 << 6;
/// How the value stands there: above it.
const FORM: u32 = 7;
const SCALES: [f64; 2] = [10.0, 1000.0];

/// A value as an integer that gives back exactly it, and in which form.
fn integer(value: f64) -> (i64, i64) {
    for (form, scale) in (0..).zip(SCALES) {
        let scaled = (value * scale + 0.5f64.copysign(value)) as i64;
        if (scaled as f64 / scale).to_bits() == value.to_bits() {
            return (scaled, form);
        }
    }
    (value.to_bits() as i64, SCALES.len() as i64)
}

fn number(integer: i64, form: i64) -> f64 {
    SCALES.get(form as usize).map_or(f64::from_bits(integer as u64), |scale| integer as f64 / scale)
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    /// By time; of two at one time the earlier arrival first.
    samples: Packed<6>,
    sources: Vec<Source>,
    /// How many of `sources` hold an id as a whole.
    whole: u32,
    /// How many samples are voided, of a device under test, or came beyond the horizon: mostly none.
    odd: u32,
    /// Its place among all series of the partition.
    pub number: u32,
    pub frontier: Option<EventTime>,
    pub windows: Windows,
    /// Those that have settled into `panes` without being dropped yet; they come first in `samples`.
    pub settled: usize,
    /// When the first was measured that has not settled.
    unsettled: i64,
    pub panes: Panes,
}

impl Series {
    pub fn new(number: u32) -> Self {
        Self { number, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn get(&self, place: usize) -> Kept {
        let [at, value, delay, lag, source, marks] = self.samples.row(place);
        let received = at.wrapping_add(delay);
        Kept {
            at: EventTime(at),
            value: number(value, marks >> FORM),
            received_at: EventTime(received),
            arrived: Arrived(received.wrapping_add(lag)),
            clock: match marks & 3 {
                0 => ClockState::AsSent,
                1 => ClockState::Corrected,
                _ => ClockState::Unstamped,
            },
            typed: marks & TYPED != 0,
            test: marks & TEST != 0,
            late: marks & LATE != 0,
            beyond: marks & BEYOND != 0,
            voided: marks & VOIDED != 0,
            source: source as u32,
        }
    }

    fn row(kept: &Kept) -> [i64; 6] {
        let (value, form) = integer(kept.value);
        let marks = [(kept.typed, TYPED), (kept.test, TEST), (kept.late, LATE), (kept.beyond, BEYOND), (kept.voided, VOIDED)];
        let marks = marks.iter().filter(|(is, _)| *is).fold(kept.clock as i64 | (form << FORM), |all, (_, mark)| all | mark);
        let delay = kept.received_at.0.wrapping_sub(kept.at.0);
        [kept.at.0, value, delay, kept.arrived.0.wrapping_sub(kept.received_at.0), i64::from(kept.source), marks]
    }

    fn value(&self, place: usize) -> f64 {
        number(self.samples.get(place, VALUE), self.samples.get(place, MARKS) >> FORM)
    }

    fn at(&self, place: usize) -> i64 {
        self.samples.get(place, AT)
    }

    /// The id, when it was measured as the device said, and the device.
    pub fn named(&self, place: usize, metric: Metric) -> Option<(ReadingId, EventTime, &DeviceId)> {
        let source = self.sources.get(self.samples.get(place, SOURCE) as usize)?;
        Some(match source.name {
            Name::Whole(id, stamped) => (id, stamped, &source.device),
            Name::Derived(boot) => {
                let at = EventTime(self.at(place));
                (ReadingId::new(&source.device, metric, at, boot), at, &source.device)
            }
        })
    }

    fn id(&self, place: usize, metric: Metric) -> Option<ReadingId> {
        self.named(place, metric).map(|(id, ..)| id)
    }

    /// The samples measured at `at`.
    fn at_time(&self, at: EventTime) -> std::ops::Range<usize> {
        let end = self.samples.until(at.0);
        let mut first = end;
        while first > 0 && self.at(first - 1) == at.0 {
            first -= 1;
        }
        first..end
    }

    /// A reading by its id; `at` is where it is looked for first.
    pub fn find(&self, id: ReadingId, metric: Metric, at: EventTime) -> Option<usize> {
        // several may have had it: a source outlives its sample, until it is forgotten
        let whole = |source: &Source| matches!(source.name, Name::Whole(known, _) if known == id);
        if self.whole > 0 && self.sources.iter().any(whole) {
            let named = |place: &usize| self.sources.get(self.samples.get(*place, SOURCE) as usize).is_some_and(whole);
            if let Some(place) = (0..self.len()).rev().find(named) {
                return Some(place);
            }
        }
        if self.whole as usize == self.sources.len() {
            return None;
        }
        let is = |place: &usize| self.id(*place, metric) == Some(id);
        self.at_time(at).rev().find(is).or_else(|| (0..self.len()).rev().find(is))
    }

    /// How a reading is named, and where it is if it is known.
    pub fn look(&self, reading: &Reading) -> (Named, Option<usize>) {
        let believed = reading.at == reading.stamped_at;
        if !believed || ReadingId::new(&reading.device, reading.metric, reading.at, reading.boot) != reading.id {
            return (Named(Name::Whole(reading.id, reading.stamped_at)), self.find(reading.id, reading.metric, reading.at));
        }
        let name = Name::Derived(reading.boot);
        if self.whole > 0
            && let Some(place) = self.find(reading.id, reading.metric, reading.at)
        {
            return (Named(name), Some(place));
        }
        // one of the same id has the same time, device and boot number
        let same = |place: &usize| {
            let source = self.sources.get(self.samples.get(*place, SOURCE) as usize);
            source.is_some_and(|source| source.name == name && source.device == reading.device)
        };
        let place = if self.frontier.is_none_or(|frontier| reading.at > frontier) { None } else { self.at_time(reading.at).rev().find(same) };
        (Named(name), place)
    }

    /// Takes in a reading that is not known.
    pub fn insert(&mut self, reading: &Reading, name: Named, kept: Kept) {
        let source = self.source(&reading.device, name);
        self.put(Kept { source, ..kept });
    }

    fn source(&mut self, device: &DeviceId, Named(name): Named) -> u32 {
        let known = match name {
            Name::Derived(_) => self.sources.iter().rposition(|source| source.name == name && source.device == *device),
            Name::Whole(..) => None,
        };
        known.unwrap_or_else(|| {
            self.whole += u32::from(matches!(name, Name::Whole(..)));
            let shared = self.sources.iter().find(|source| source.device == *device).map(|source| source.device.clone());
            self.sources.push(Source { device: shared.unwrap_or_else(|| device.clone()), name });
            self.sources.len() - 1
        }) as u32
    }

    fn put(&mut self, kept: Kept) {
        let newest = self.frontier.is_none_or(|frontier| kept.at >= frontier);
        let place = if newest { self.len() } else { self.samples.until(kept.at.0) };
        // beyond the horizon, and in no answer
        self.settled += usize::from(place < self.settled);
        self.odd += u32::from(kept.voided || kept.test || kept.beyond);
        self.samples.insert(place, &Self::row(&kept));
        if place <= self.settled {
            self.look_at_settled();
        }
    }

    fn look_at_settled(&mut self) {
        self.unsettled = if self.settled < self.len() { self.at(self.settled) } else { i64::MAX };
    }

    /// One as a snapshot has it, in order.
    pub fn restore(&mut self, metric: Metric, id: ReadingId, stamped: EventTime, device: &DeviceId, kept: Kept) {
        let derived = stamped == kept.at && ReadingId::new(device, metric, kept.at, None) == id;
        let source = self.source(device, Named(if derived { Name::Derived(None) } else { Name::Whole(id, stamped) }));
        self.odd += u32::from(kept.voided || kept.test || kept.beyond);
        self.samples.push(&Self::row(&Kept { source, ..kept }));
        self.look_at_settled();
    }

    pub fn replace(&mut self, place: usize, kept: Kept) {
        let before = self.get(place);
        self.odd -= u32::from(before.voided || before.test || before.beyond);
        self.odd += u32::from(kept.voided || kept.test || kept.beyond);
        self.samples.set(place, &Self::row(&kept));
    }

    /// Where what was measured from `from` on begins.
    pub fn since(&self, from: EventTime) -> usize {
        if from.0 == i64::MIN { 0 } else { self.samples.until(from.0 - 1) }
    }

    fn places(&self, after: EventTime, to: EventTime) -> std::ops::Range<usize> {
        let until = if self.frontier.is_some_and(|frontier| frontier <= to) { self.len() } else { self.samples.until(to.0) };
        self.samples.until(after.0).min(until)..until
    }

    /// The readings of `(after, to]`, in order, without the voided ones and those beyond the horizon.
    pub fn within(&self, after: EventTime, to: EventTime) -> impl DoubleEndedIterator<Item = Kept> {
        self.places(after, to).map(|place| self.get(place)).filter(|s| !s.voided && !s.beyond)
    }

    /// Their values.
    pub fn values(&self, after: EventTime, to: EventTime) -> impl Iterator<Item = f64> {
        let answers = move |place: &usize| self.odd == 0 || self.samples.get(*place, MARKS) & (VOIDED | BEYOND) == 0;
        self.places(after, to).filter(answers).map(|place| self.value(place))
    }

    /// When something was measured in `[from, until)`, voided or not: the times of rows.
    pub fn times(&self, from: EventTime, until: EventTime) -> impl Iterator<Item = EventTime> {
        let end = self.since(until);
        let inside = move |place: &usize| self.odd == 0 || self.samples.get(*place, MARKS) & BEYOND == 0;
        (self.since(from).min(end)..end).filter(inside).map(|place| EventTime(self.at(place)))
    }

    /// `f(m, w)` at `t` and on how many readings it rests; `needs` fewer samples are no evidence. What was measured in a pause and what a
    /// device under test says are not looked at.
    pub fn function(&self, function: Function, t: EventTime, width: Micros, needs: u32, pauses: &[Pause]) -> (Option<f64>, u32) {
        let places = self.places(t - width, t);
        if self.odd == 0 && pauses.is_empty() && function != Function::Slope {
            if let Some(marks) = self.samples.constant(MARKS) {
                return over(function, places.len(), needs, || self.samples.column(places.clone(), VALUE).map(|value| number(value, marks >> FORM)));
            }
            return over(function, places.len(), needs, || places.clone().map(|place| self.value(place)));
        }
        let samples: Vec<Kept> = places.map(|place| self.get(place)).filter(|s| counts(s, pauses)).collect();
        if function == Function::Slope {
            let count = u32::try_from(samples.len()).unwrap_or(u32::MAX);
            return (if count < needs { None } else { slope(&samples) }, count);
        }
        over(function, samples.len(), needs, || samples.iter().map(|s| s.value))
    }

    /// The newest that a function looks at, measured in `(t − width, t]`.
    pub fn newest(&self, t: EventTime, width: Micros, pauses: &[Pause]) -> Option<Kept> {
        self.within(t - width, t).rev().find(|s| !s.test && !pauses.iter().any(|pause| pause.covers(s.at)))
    }

    /// `f(m, w)` at `t` for a width in days, and on how many readings it rests.
    pub fn over_days(&self, function: Function, t: EventTime, width: u32, zone: &Zone, needs: u32, pauses: &[Pause]) -> (Option<f64>, u32) {
        let from = panes::begin(function, zone, t, width);
        match self.days(zone, from, t, pauses) {
            Some(days) => panes::function(function, &days, width, zone.day_of(t), needs),
            None => (None, 0),
        }
    }

    /// The days that begin in `[from, t]`, up to `t`.
    pub fn days(&self, zone: &Zone, from: EventTime, t: EventTime, pauses: &[Pause]) -> Option<Vec<Day>> {
        let until = self.samples.until(t.0);
        let first = self.since(from).max(self.settled).min(until);
        let samples = (first..until).map(|place| self.get(place)).filter(|s| counts(s, pauses));
        self.panes.days(zone, from, t, samples.map(|s| (s.at, s.value)))
    }

    /// Settles and drops what no row can look back on any more, but keeps the last 32, and the newest that counts of what is older: NEWS2 looks
    /// back on single values for longer than samples are kept.
    pub fn evict(&mut self, keep: Micros, zone: &Zone, pauses: &[Pause]) {
        let Some(frontier) = self.frontier else { return };
        if self.unsettled >= (frontier - keep).0 && self.settled <= 64 {
            return;
        }
        let cut = (frontier - keep).0;
        let mut old = self.settled;
        while old < self.len() && self.at(old) < cut {
            old += 1;
        }
        let surplus = old.min(self.len().saturating_sub(32));
        for place in self.settled..surplus {
            let kept = self.get(place);
            if counts(&kept, pauses) {
                self.panes.settle(zone, kept.at, kept.value);
            }
        }
        self.settled = self.settled.max(surplus);
        if surplus > 64 {
            let odd = (0..surplus).map(|place| self.get(place)).filter(|kept| kept.voided || kept.test || kept.beyond).count();
            self.odd -= odd as u32;
            let old = (0..surplus).rev().map(|place| self.get(place));
            let anchor = old.take_while(|kept| kept.at >= frontier - keep - MAX_AGE).find(|kept| counts(kept, pauses));
            let dropped = surplus - usize::from(anchor.is_some());
            self.samples.drop_first(dropped);
            self.settled -= dropped;
            if let Some(anchor) = anchor {
                self.samples.set(0, &Self::row(&anchor));
            }
            self.forget_sources();
        }
        self.look_at_settled();
    }

    /// Once most of them are of samples that were dropped.
    fn forget_sources(&mut self) {
        if self.sources.len() < 8 || self.sources.len() < self.len() / 4 {
            return;
        }
        let mut new: Vec<Option<u32>> = vec![None; self.sources.len()];
        let mut kept = Vec::new();
        let rows: Vec<[i64; 6]> = (0..self.len()).map(|place| self.samples.row(place)).collect();
        self.samples.clear();
        for mut row in rows {
            let source = row[SOURCE] as usize;
            let number = *new[source].get_or_insert_with(|| {
                kept.push(self.sources[source].clone());
                kept.len() as u32 - 1
            });
            row[SOURCE] = i64::from(number);
            self.samples.push(&row);
        }
        self.whole = kept.iter().filter(|source| matches!(source.name, Name::Whole(..))).count() as u32;
        self.sources = kept;
    }
}

/// How a reading is named.
#[derive(Clone, Copy)]
pub(crate) struct Named(Name);

impl Kept {
    pub fn of(reading: &Reading, arrived: Arrived) -> Self {
        Self {
            at: reading.at,
            value: reading.value,
            received_at: reading.received_at,
            arrived,
            clock: reading.clock,
            typed: reading.typed,
            test: reading.test,
            ..Self::default()
        }
    }
}

/// `function` over `n` values in the order of their times.
fn over<I: DoubleEndedIterator<Item = f64>>(function: Function, n: usize, needs: u32, values: impl Fn() -> I) -> (Option<f64>, u32) {
    let count = u32::try_from(n).unwrap_or(u32::MAX);
    if function == Function::Samples {
        return (Some(n as f64), count);
    }
    if n == 0 || count < needs {
        return (None, count);
    }
    let lowest = || values().reduce(f64::min);
    let highest = || values().reduce(f64::max);
    let value = match function {
        Function::Last => values().next_back(),
        Function::Mean => Some(values().sum::<f64>() / n as f64),
        Function::Lowest => lowest(),
        Function::Highest => highest(),
        Function::Spread => highest().zip(lowest()).map(|(high, low)| high - low),
        Function::Slope | Function::Baseline | Function::Samples => None,
    };
    (value, count)
}

/// What a function looks at: nothing that was voided, came beyond the horizon, is of a device under test, or was measured in a pause.
fn counts(kept: &Kept, pauses: &[Pause]) -> bool {
    !kept.voided && !kept.beyond && !kept.test && !pauses.iter().any(|pause| pause.covers(kept.at))
}

/// Per hour; needs two times.
fn slope(samples: &[Kept]) -> Option<f64> {
    let first = samples.first()?.at;
    least_squares(&samples.iter().map(|s| ((s.at - first).0 as f64 / 3.6e9, s.value)).collect::<Vec<_>>())
}

/// The slope of the line through `points`; `None` if they stand at one place.
pub(crate) fn least_squares(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let mx = points.iter().map(|p| p.0).sum::<f64>() / n;
    let my = points.iter().map(|p| p.1).sum::<f64>() / n;
    let xx = points.iter().map(|p| (p.0 - mx) * (p.0 - mx)).sum::<f64>();
    if xx <= 0.0 {
        return None;
    }
    Some(points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum::<f64>() / xx)
}
