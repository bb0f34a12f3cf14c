//! `vigil device import FILE`: everyone in a recording, registered behind one hub, so that `vigil replay` can play it.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{DeviceId, EventTime, Micros, PatientId, Private};
use serde_json::json;
use store::registry::{Assignment, Device, Patient, Sex};

use super::device::Import;
use super::patient;
use crate::config::Config;
use crate::installation::{self, now};
use crate::output;
use crate::recording;

/// A recording may be played to an earlier end than now.
const EARLIER: Micros = Micros::hours(24 * 365);

pub async fn run(args: Import) -> anyhow::Result<()> {
    let mut rows = recording::read(&args.file)?;
    recording::shift_to(&mut rows, now());
    let earliest = rows.iter().map(|row| row.measured_at).min().unwrap_or_else(now) - EARLIER;
    let worn: BTreeMap<&str, &str> = rows.iter().map(|row| (row.device.as_str(), row.patient.as_str())).collect();
    let patients: BTreeSet<&str> = worn.values().copied().collect();

    let store = installation::open_store(&Config::load(&args.config)?).await?;
    let wards: Vec<String> = store.wards().await?.into_iter().map(|ward| ward.id).collect();
    let ward = match (args.ward, wards.as_slice()) {
        (Some(ward), _) => ward,
        (None, [only]) => only.clone(),
        (None, _) => return Err(crate::exit::Usage(format!("--ward is missing: one of {}", wards.join(", "))).into()),
    };
    let hub = DeviceId::parse(&args.hub)?;
    store.add_device(&device(&hub, args.test, None, earliest)).await?;
    for id in &patients {
        let patient = Patient {
            id: PatientId::parse(id)?,
            // a recording carries no names
            name: Private::new((*id).to_owned()),
            born: Private::new("1900-01-01".to_owned()),
            sex: Sex::Unknown,
            identifier: Private::new(String::new()),
            ward: ward.clone(),
            created_at: earliest,
            monitored: true,
        };
        patient::enrol(&store, &patient, BTreeMap::new()).await?;
    }
    for (id, wearer) in &worn {
        let id = DeviceId::parse(id)?;
        store.add_device(&device(&id, args.test, Some(&hub), earliest)).await?;
        store.assign(&Assignment { device: id, patient: PatientId::parse(wearer)?, from: earliest, until: None }).await?;
    }
    let password = store.new_device_password(&hub, now()).await?;
    store.close().await;
    let row = json!({"device": hub, "password": password.as_str(), "patients": patients.len(), "devices": worn.len(), "values": rows.len()});
    Ok(output::print_one(&row)?)
}

fn device(id: &DeviceId, test: bool, hub: Option<&DeviceId>, since: EventTime) -> Device {
    Device { id: id.clone(), model: "recording".to_owned(), test, hub: hub.cloned(), created_at: now(), revoked_at: None, min_time: since }
}
