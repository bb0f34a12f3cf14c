//! Who is watched, as the store has it: names beside what the log knows by ids only.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::{EventTime, Input, PatientId, Pause, Private};
use store::registry::Sex;
use store::{Store, StoreError};

#[derive(Clone, PartialEq)]
pub(crate) struct Person {
    pub id: PatientId,
    pub name: Private<String>,
    pub born: Private<String>,
    pub sex: Sex,
    pub identifier: Private<String>,
    pub ward: Arc<str>,
    pub created_at: EventTime,
    pub monitored: bool,
    pub pauses: Vec<Pause>,
}

impl Person {
    pub fn paused(&self, now: EventTime) -> bool {
        self.pauses.iter().any(|pause| pause.covers(now))
    }

    /// Whether only what a delta carries differs.
    pub fn same_but_for_settings(&self, other: &Self) -> bool {
        let mut twin = other.clone();
        twin.monitored = self.monitored;
        twin.pauses.clone_from(&self.pauses);
        *self == twin
    }
}

pub(crate) type People = BTreeMap<PatientId, Arc<Person>>;

pub(crate) async fn load(store: &Store) -> Result<People, StoreError> {
    let patients = store.patients(None).await?;
    let mut pauses: BTreeMap<PatientId, Vec<Pause>> = BTreeMap::new();
    for (patient, input) in store.all_current().await? {
        if let (Some(patient), Ok(Input::Settings(settings))) = (patient, Input::decode(&input)) {
            pauses.insert(patient, settings.pauses);
        }
    }
    let mut wards: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let people = patients.into_iter().map(|patient| {
        let ward = wards.entry(patient.ward.clone()).or_insert_with(|| patient.ward.as_str().into()).clone();
        let person = Person {
            id: patient.id.clone(),
            name: patient.name,
            born: patient.born,
            sex: patient.sex,
            identifier: patient.identifier,
            ward,
            created_at: patient.created_at,
            monitored: patient.monitored,
            pauses: pauses.remove(&patient.id).unwrap_or_default(),
        };
        (patient.id, Arc::new(person))
    });
    Ok(people.collect())
}
