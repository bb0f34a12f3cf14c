//! `vigil patient`: the registry entry and the first settings, from which on the patient is monitored.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use schemas::{EventTime, Metric, PatientId, Private, Settings};
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
    /// Gives a patient a limit of their own, or the rule's default again when no value is said
    Limit(Limit),
    /// Lists the registered patients
    List {
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Limit {
    pub patient: String,
    /// As the rules name it: spo2.low
    pub name: String,
    pub value: Option<f64>,
    /// The limit ends by itself: 2026-12-01T08:00:00Z
    #[arg(long, requires = "value")]
    pub until: Option<String>,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
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
        PatientCommand::Limit(args) => limit(args).await,
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

async fn limit(args: Limit) -> anyhow::Result<()> {
    let patient = PatientId::parse(&args.patient)?;
    let until = args.until.as_deref().map(EventTime::parse).transpose()?;
    usage(until.is_none_or(|until| until > now()), || "--until: it lies in the past".to_owned())?;
    if let (Some(value), Some(metric)) = (args.value, args.name.split('.').next().and_then(|word| word.parse::<Metric>().ok())) {
        metric.convert(value, None)?;
    }
    let store = installation::open_store(&Config::load(&args.config)?).await?;
    let rules = store.rules().await?.map(|rules| engine::compile(&rules.toml)).transpose()?.unwrap_or_default();
    let known = rules.limits();
    usage(args.value.is_none() || known.contains_key(&args.name), || {
        format!("no rule asks for a limit `{}`; the rules in force have {}", args.name, known.keys().cloned().collect::<Vec<_>>().join(", "))
    })?;
    let before = store.settings(&patient).await?.with_context(|| format!("no patient {patient} is registered"))?;
    let mut new = Settings { author: console(), ..before.clone() };
    new.limits.remove(&args.name);
    new.limits_until.remove(&args.name);
    new.limits.extend(args.value.map(|value| (args.name.clone(), value)));
    new.limits_until.extend(until.map(|until| (args.name.clone(), until)));
    let detail = format!("limit {} from version {}", args.name, before.version);
    store.audit(&AuditEntry { at: now(), person: console(), action: "settings.change".to_owned(), patient: Some(patient.clone()), detail }).await?;
    let stored = store.put_settings(&new, before.version, now()).await?;
    store.close().await;
    let (name, value) = (&args.name, args.value.or_else(|| known.get(&args.name).copied()));
    let row = json!({"patient": patient, "limit": name, "value": value, "until": until, "version": stored.version});
    Ok(output::print_one(&row)?)
}

/// The patient and their first settings, or neither.
pub async fn enrol(store: &Store, patient: &Patient, expected_interval: BTreeMap<schemas::Metric, schemas::Micros>) -> Result<(), store::StoreError> {
    let settings = Settings {
        patient: patient.id.clone(),
        version: 0,
        monitored: true,
        limits: BTreeMap::new(),
        limits_until: BTreeMap::new(),
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
