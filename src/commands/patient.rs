//! `vigil patient`: the registry entry and the first settings, from which on the patient is monitored.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use schemas::{PatientId, Private, Settings};
use serde_json::json;
use store::Store;
use store::audit::AuditEntry;
use store::registry::{Patient, Sex};

use crate::config::Config;
use crate::exit::{Usage, usage};
use crate::installation::{self, console, now};
use crate::output;

#[derive(Debug, Subcommand)]
pub enum PatientCommand {
    /// Registers a patient, who is monitored from now on
    Add(Add),
    /// Enters what a person saw or was told, such as consciousness or a blood pressure by telephone
    Observe(super::observe::Observe),
    /// Takes a reading back as entered in error
    Void(super::observe::Unsee),
    /// Says the early warning score, part by part, and what is missing for it
    News2(super::observe::Score),
    /// Lists the registered patients
    List {
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Add {
    /// The id in the journal and in addresses: letters, digits, `-`, `_`, `.`; never a name
    pub id: String,
    #[arg(long)]
    pub name: String,
    /// 1945-07-14
    #[arg(long)]
    pub born: String,
    /// female, male, other or unknown
    #[arg(long, default_value = "unknown")]
    pub sex: Sex,
    /// The number the ward knows the patient by
    #[arg(long, default_value = "")]
    pub identifier: String,
    /// The patient's ward; when there is only one, that
    #[arg(long)]
    pub ward: Option<String>,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn run(command: PatientCommand) -> anyhow::Result<()> {
    match command {
        PatientCommand::Add(args) => add(args).await,
        PatientCommand::Observe(args) => super::observe::observe(args).await,
        PatientCommand::Void(args) => super::observe::unsee(args).await,
        PatientCommand::News2(args) => super::observe::score(args).await,
        PatientCommand::List { config } => {
            let store = installation::open_store(&Config::load(&config)?).await?;
            let patients = store.patients(None).await?;
            let person = console();
            let detail = format!("{} patients listed", patients.len());
            store.audit(&AuditEntry { at: now(), person, action: "read.patients".to_owned(), patient: None, detail }).await?;
            store.close().await;
            let rows: Vec<_> = patients
                .iter()
                .filter_map(|p| json!({"patient": p.id, "ward": p.ward, "monitored": p.monitored, "name": p.name.reveal()}).as_object().cloned())
                .collect();
            Ok(output::print(&rows)?)
        }
    }
}

async fn add(args: Add) -> anyhow::Result<()> {
    usage(args.born.parse::<jiff::civil::Date>().is_ok(), || "--born: it is a date such as 1945-07-14".to_owned())?;
    let id = PatientId::parse(&args.id)?;
    let store = installation::open_store(&Config::load(&args.config)?).await?;
    let wards: Vec<String> = store.wards().await?.into_iter().map(|ward| ward.id).collect();
    let ward = match (args.ward, wards.as_slice()) {
        (Some(ward), _) => ward,
        (None, [only]) => only.clone(),
        (None, _) => return Err(Usage(format!("--ward is missing: one of {}", wards.join(", "))).into()),
    };
    let patient = Patient {
        id: id.clone(),
        name: Private::new(args.name),
        born: Private::new(args.born),
        sex: args.sex,
        identifier: Private::new(args.identifier),
        ward: ward.clone(),
        created_at: now(),
        monitored: true,
    };
    enrol(&store, &patient, BTreeMap::new()).await?;
    store.close().await;
    let row = json!({"patient": id, "ward": ward});
    Ok(output::print_one(&row)?)
}

/// The patient and their first settings, or neither.
pub async fn enrol(store: &Store, patient: &Patient, expected_interval: BTreeMap<schemas::Metric, schemas::Micros>) -> Result<(), store::StoreError> {
    let settings = Settings {
        patient: patient.id.clone(),
        version: 0,
        monitored: true,
        limits: BTreeMap::new(),
        oxygen_l_min: None,
        news2_scale: 1,
        pauses: Vec::new(),
        expected_interval,
        enrolled_at: patient.created_at,
        author: "vigil".to_owned(),
    };
    let settings = &settings;
    store
        .transaction(|tx| {
            Box::pin(async move {
                tx.add_patient(patient).await?;
                tx.put_settings(settings, 0, patient.created_at).await?;
                Ok(())
            })
        })
        .await
}
