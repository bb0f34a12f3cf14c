//! For how long patients were watched: what a burden is a burden per.

use std::collections::{BTreeMap, HashMap};

use engine::Arrival;
use schemas::{Arrived, Input, Metric, PatientId};

const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;

/// Days and hours, in UTC, in which something was measured. What a device under test sends, and the canary, is no patient's.
#[derive(Debug, Default)]
pub struct Exposure {
    pub readings: u64,
    /// By patient and day: the hours, as bits.
    watched: HashMap<(usize, i64), u32>,
    places: HashMap<usize, usize>,
    patients: Vec<PatientId>,
    last: Option<(usize, i64)>,
}

impl Exposure {
    pub fn see(&mut self, arrivals: &[Arrival], from: Arrived) {
        for arrival in arrivals {
            let Input::Reading(reading) = &arrival.input else { continue };
            if arrival.arrived_at < from || reading.test || reading.metric == Metric::Canary {
                continue;
            }
            self.readings += 1;
            // the decoder gives one patient one text
            let text = reading.patient.as_str().as_ptr() as usize;
            let hour = reading.at.0.div_euclid(HOUR);
            if self.last == Some((text, hour)) {
                continue;
            }
            self.last = Some((text, hour));
            let place = *self.places.entry(text).or_insert_with(|| {
                self.patients.push(reading.patient.clone());
                self.patients.len() - 1
            });
            *self.watched.entry((place, reading.at.0.div_euclid(DAY))).or_default() |= 1 << hour.rem_euclid(24);
        }
    }

    /// Per patient: days and hours.
    pub fn per_patient(&self) -> BTreeMap<PatientId, (u64, u64)> {
        let mut watched: BTreeMap<PatientId, (u64, u64)> = BTreeMap::new();
        for ((place, _), hours) in &self.watched {
            let Some(patient) = self.patients.get(*place) else { continue };
            let known = watched.entry(patient.clone()).or_default();
            known.0 += 1;
            known.1 += u64::from(hours.count_ones());
        }
        watched
    }
}
