//! Something for each of a few metrics, found by the metric's number.

use schemas::Metric;

/// Metric numbers are small and for ever.
const NUMBERS: usize = 32;
const NONE: u8 = u8::MAX;

#[derive(Clone, Debug)]
pub(crate) struct ByMetric<T> {
    places: [u8; NUMBERS],
    items: Vec<(Metric, T)>,
}

impl<T> Default for ByMetric<T> {
    fn default() -> Self {
        Self { places: [NONE; NUMBERS], items: Vec::new() }
    }
}

impl<T> ByMetric<T> {
    fn place(&self, metric: Metric) -> Option<usize> {
        self.places.get(metric.number() as usize).filter(|place| **place != NONE).map(|place| usize::from(*place))
    }

    pub fn get(&self, metric: &Metric) -> Option<&T> {
        self.items.get(self.place(*metric)?).map(|(_, item)| item)
    }

    pub fn get_mut(&mut self, metric: &Metric) -> Option<&mut T> {
        let place = self.place(*metric)?;
        self.items.get_mut(place).map(|(_, item)| item)
    }

    pub fn or_insert_with(&mut self, metric: Metric, new: impl FnOnce() -> T) -> &mut T {
        let place = self.place(metric).unwrap_or_else(|| {
            self.items.reserve_exact(1);
            self.items.push((metric, new()));
            self.places[metric.number() as usize] = (self.items.len() - 1) as u8;
            self.items.len() - 1
        });
        &mut self.items[place].1
    }

    /// In the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, &T)> {
        self.places.iter().filter(|place| **place != NONE).map(|place| &self.items[usize::from(*place)]).map(|(metric, item)| (*metric, item))
    }
}
