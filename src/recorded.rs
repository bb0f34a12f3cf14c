//! A recording as the log that it would have left: each value arrives when it was stored, by the way that a device's message takes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use intake::{Assigned, Decided, DeviceClock, Known, Mappings, Message, Registry};
use processor::backtest::write_inputs;
use processor::objects::{LocalObjects, Objects};
use schemas::{Arrived, DeviceId, EventTime, Input, PatientId, Settings};
use serde_json::json;

use crate::recording::{self, Recorded};

/// As many as an installation has unless it is told otherwise.
const PARTITIONS: u32 = 4;

/// What became of the recording's values.
#[derive(Debug)]
pub struct Kept {
    pub values: u64,
    /// No metric of ours, no number, implausible: what the gateway would have refused.
    pub refused: u64,
    pub patients: u64,
}

/// Writes the recording as a lake into an empty folder.
pub fn keep(file: &Path, folder: &Path) -> anyhow::Result<(Arc<dyn Objects>, Kept)> {
    let rows = recording::read(file)?;
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder).with_context(|| format!("cannot make a lake in {}", folder.display()))?);
    let (log, kept) = log(&rows).with_context(|| format!("{} cannot be played", file.display()))?;
    write_inputs(&objects, PARTITIONS, log)?;
    Ok((objects, kept))
}

type Log = Vec<(Arrived, PatientId, Input)>;

/// Nobody's clock goes back: values stand in the order in which they were stored.
fn log(rows: &[Recorded]) -> anyhow::Result<(Log, Kept)> {
    let (registry, mappings) = (registry(rows)?, Mappings::shipped()?);
    let (mut clocks, mut enrolled): (HashMap<&str, DeviceClock>, BTreeSet<&str>) = Default::default();
    let mut log = Vec::with_capacity(rows.len());
    let mut kept = Kept { values: 0, refused: 0, patients: 0 };
    for row in rows {
        let arrived = Arrived(row.stored_at.0);
        if enrolled.insert(&row.patient) {
            let patient = PatientId::parse(&row.patient)?;
            log.push((arrived, patient.clone(), Input::Settings(enrolment(patient, row.stored_at))));
        }
        let reading = json!({"metric": row.metric, "value": row.value, "unit": row.unit, "measured_at": row.measured_at});
        let payload = Bytes::from(json!({"sent_at": row.stored_at, "readings": [reading]}).to_string());
        let topic = format!("v1/devices/{}/vitals", row.device);
        let connection = DeviceId::parse(&row.device)?;
        let message = Message { connection: &connection, topic: &topic, payload: &payload, content_type: "", dup: false, received_at: row.stored_at };
        for decided in intake::decode(&message, &registry, &mappings, clocks.entry(&row.device).or_default()) {
            match decided {
                Decided::Input(patient, input) => {
                    kept.values += 1;
                    log.push((arrived, patient, input));
                }
                Decided::Dead(_) => kept.refused += 1,
            }
        }
    }
    kept.patients = enrolled.len() as u64;
    Ok((log, kept))
}

/// Each device is the patient's for good.
fn registry(rows: &[Recorded]) -> anyhow::Result<Registry> {
    let worn: BTreeMap<&str, &str> = rows.iter().map(|row| (row.device.as_str(), row.patient.as_str())).collect();
    let (mut devices, mut assigned) = (Vec::new(), Vec::new());
    for (device, patient) in worn {
        let device = DeviceId::parse(device)?;
        devices.push(Known { device: device.clone(), test: false, hub: None, revoked: false, min_time: EventTime::MIN });
        assigned.push(Assigned { device, patient: PatientId::parse(patient)?, from: EventTime::MIN, until: None });
    }
    Ok(Registry::new(devices, assigned))
}

fn enrolment(patient: PatientId, at: EventTime) -> Settings {
    Settings {
        patient,
        version: 1,
        monitored: true,
        limits: BTreeMap::new(),
        limits_until: BTreeMap::new(),
        oxygen_l_min: None,
        news2_scale: 1,
        pauses: Vec::new(),
        expected_interval: BTreeMap::new(),
        enrolled_at: at,
        author: "recording".to_owned(),
    }
}
