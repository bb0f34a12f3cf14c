//! Who may speak for which device, and whose device it was when.

use std::collections::HashMap;

use schemas::{DeviceId, EventTime, PatientId};

/// A device as intake needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub device: DeviceId,
    pub test: bool,
    /// The hub that may speak for it.
    pub hub: Option<DeviceId>,
    pub revoked: bool,
    /// No reading of it can be older.
    pub min_time: EventTime,
}

/// The device is the patient's in `[from, until)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    pub device: DeviceId,
    pub patient: PatientId,
    pub from: EventTime,
    pub until: Option<EventTime>,
}

/// Two patients claim the device at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two patients claim the device at that time")]
pub struct Ambiguous;

/// The registry at one moment.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    devices: HashMap<DeviceId, Known>,
    assignments: HashMap<DeviceId, Vec<Assigned>>,
}

impl Registry {
    pub fn new(devices: impl IntoIterator<Item = Known>, assignments: impl IntoIterator<Item = Assigned>) -> Self {
        let devices = devices.into_iter().map(|known| (known.device.clone(), known)).collect();
        let mut by_device: HashMap<DeviceId, Vec<Assigned>> = HashMap::new();
        for assigned in assignments {
            by_device.entry(assigned.device.clone()).or_default().push(assigned);
        }
        Self { devices, assignments: by_device }
    }

    pub fn device(&self, id: &DeviceId) -> Option<&Known> {
        self.devices.get(id)
    }

    /// Itself, or a device registered behind it.
    pub fn may_speak_for(&self, connection: &DeviceId, device: &Known) -> bool {
        device.device == *connection || device.hub.as_ref() == Some(connection)
    }

    /// Whose it was.
    pub fn patient_of(&self, device: &DeviceId, at: EventTime) -> Result<Option<&PatientId>, Ambiguous> {
        let mut wearing = self.assignments.get(device).into_iter().flatten().filter(|a| a.from <= at && a.until.is_none_or(|until| at < until));
        match (wearing.next(), wearing.next()) {
            (Some(_), Some(_)) => Err(Ambiguous),
            (wearer, _) => Ok(wearer.map(|assigned| &assigned.patient)),
        }
    }
}
