//! Patients by number: what is kept of each stands in arrays, and is found without comparing names.

use std::collections::{BTreeMap, HashMap};

use schemas::PatientId;

/// Numbers count up in the order in which patients were first heard of.
#[derive(Clone, Debug, Default)]
pub(crate) struct People {
    numbers: HashMap<PatientId, u32>,
    names: Vec<PatientId>,
    /// Also in the order of their names.
    ordered: BTreeMap<PatientId, u32>,
    /// The one asked for last: a message has several readings of one patient.
    last: u32,
}

impl People {
    pub fn number(&mut self, patient: &PatientId) -> u32 {
        if self.names.get(self.last as usize) != Some(patient) {
            self.last = match self.numbers.get(patient) {
                Some(number) => *number,
                None => self.add(patient),
            };
        }
        self.last
    }

    fn add(&mut self, patient: &PatientId) -> u32 {
        let number = self.names.len() as u32;
        self.names.push(patient.clone());
        self.numbers.insert(patient.clone(), number);
        self.ordered.insert(patient.clone(), number);
        number
    }

    pub fn find(&self, patient: &PatientId) -> Option<u32> {
        self.numbers.get(patient).copied()
    }

    /// # Panics
    /// For a number that was not given.
    pub fn name(&self, number: u32) -> &PatientId {
        &self.names[number as usize]
    }

    /// In the order of their names.
    pub fn ordered(&self) -> impl Iterator<Item = (&PatientId, u32)> {
        self.ordered.iter().map(|(name, number)| (name, *number))
    }
}
