//! A ward of simulated patients: vitals that wander as a resting adult's do, and a few patients who deteriorate.
//!
//! It is a load and a demonstration, not physiology. The same seed gives the same ward.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What one monitor measures at once, in the metrics' own units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vitals {
    pub heart_rate: f64,
    pub spo2: f64,
    pub respiratory_rate: f64,
    pub temperature: f64,
}

/// One patient: a resting level, noise around it, and perhaps a time from which things get worse.
#[derive(Debug)]
pub struct Patient {
    rest: Vitals,
    now: Vitals,
    /// Seconds after the start; from there on for [`DECLINE_S`] to the worst.
    worsens_at: Option<f64>,
    random: StdRng,
}

/// How long it takes from the first change to the worst: SpO₂ falls by 14 points, heart rate rises by 45, respiratory rate by 14.
const DECLINE_S: f64 = 600.0;

impl Patient {
    /// Patient `index` of a ward; the first `deteriorating` of them worsen, a minute apart.
    pub fn new(seed: u64, index: usize, deteriorating: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index as u64);
        let rest = Vitals {
            heart_rate: random.random_range(58.0..84.0),
            spo2: random.random_range(95.0..98.5),
            respiratory_rate: random.random_range(12.5..17.5),
            temperature: random.random_range(36.3..37.1),
        };
        let worsens_at = (index < deteriorating).then_some(10.0 + 60.0 * index as f64);
        Self { rest, now: rest, worsens_at, random }
    }

    /// The vitals `at` seconds after the start; call it with rising times.
    pub fn measure(&mut self, at: f64) -> Vitals {
        let ill = self.worsens_at.map_or(0.0, |from| ((at - from) / DECLINE_S).clamp(0.0, 1.0));
        let (rest, random) = (self.rest, &mut self.random);
        let mut wander = |now: f64, towards: f64, step: f64| now + (towards - now) * 0.3 + random.random_range(-step..=step);
        self.now = Vitals {
            heart_rate: wander(self.now.heart_rate, rest.heart_rate + 45.0 * ill, 1.5),
            spo2: wander(self.now.spo2, rest.spo2 - 14.0 * ill, 0.4).min(100.0),
            respiratory_rate: wander(self.now.respiratory_rate, rest.respiratory_rate + 14.0 * ill, 0.5),
            temperature: wander(self.now.temperature, rest.temperature + 0.6 * ill, 0.03),
        };
        let round = |value: f64| value.round();
        Vitals {
            heart_rate: round(self.now.heart_rate),
            spo2: round(self.now.spo2),
            respiratory_rate: round(self.now.respiratory_rate),
            temperature: (self.now.temperature * 10.0).round() / 10.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(patient: &mut Patient) -> (f64, f64) {
        (0..200)
            .map(|step| patient.measure(f64::from(step) * 10.0))
            .fold((100.0, 0.0), |(spo2, rate), vitals| (vitals.spo2.min(spo2), vitals.heart_rate.max(rate)))
    }

    #[test]
    fn only_the_chosen_deteriorate_and_the_same_seed_is_the_same_ward() {
        for index in 0..50 {
            let (spo2, rate) = worst(&mut Patient::new(7, index, 3));
            let ill = spo2 < 90.0 && rate > 95.0;
            assert_eq!(ill, index < 3, "patient {index}: SpO2 {spo2}, heart rate {rate}");
        }
        assert_eq!(worst(&mut Patient::new(7, 1, 3)), worst(&mut Patient::new(7, 1, 3)));
    }
}
