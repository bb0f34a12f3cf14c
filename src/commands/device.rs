//! `vigil device add`: a device, its password, and whose it is from now on.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use schemas::{DeviceId, EventTime, Micros, PatientId};
use serde_json::{Value, json};
use store::audit::AuditEntry;
use store::registry::{Assignment, Device};
use store::{StoreError, Tx};

use crate::config::Config;
use crate::exit::usage;
use crate::installation::{self, now};
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Registers a device, makes its password, and assigns it
    Add(Add),
    /// Registers many devices at once, as the lines of a recording or a list name them
    Import(Import),
    /// Ends the device's assignment and, when named, begins the next
    Assign(Assign),
    /// Puts another device in its place: it ends the one's assignment and begins the other's, for the same patient
    Swap {
        id: String,
        /// The device that is worn from now on; registered already
        new: String,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Puts the device under test, or takes it out: a device under test shows its verdicts and its readings, and pages nobody
    Test {
        id: String,
        mode: Mode,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Shows what becomes of the device's messages as they come: accepted, or refused and why
    Watch(super::watch::Watch),
    /// Makes a new password; the one before is refused from now on
    Password {
        id: String,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Makes a key and a certificate for the device, from this installation's own authority; ingest.device_ca lets it in
    Certificate {
        id: String,
        /// Where ID.pem and ID.key are written
        #[arg(long, default_value = ".")]
        out: PathBuf,
        #[arg(long, default_value_t = 730, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Refuses every certificate and password that it had
        #[arg(long)]
        replace: bool,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Writes the list of revoked certificates, signed by this installation's own authority
    Crl(super::crl::Crl),
    /// Refuses the device's credentials from now on
    Revoke {
        id: String,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    On,
    Off,
}

#[derive(Debug, Args)]
pub struct Add {
    /// The id in topics: letters, digits, `-`, `_`, `.`
    pub id: String,
    #[arg(long, default_value = "")]
    pub model: String,
    /// Whose it is; without one its readings are dead letters until it is assigned
    #[arg(long)]
    pub patient: Option<String>,
    /// Since when (RFC 3339); from now on, when left out
    #[arg(long, requires = "patient")]
    pub from: Option<String>,
    /// The hub that may speak for it; then it has no password of its own
    #[arg(long)]
    pub hub: Option<String>,
    /// Under test: its readings never page anyone
    #[arg(long)]
    pub test: bool,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Import {
    /// A recording, as `vigil replay` reads it: its patients and devices are registered behind one hub
    pub file: PathBuf,
    /// The hub's id
    #[arg(long, default_value = "replay-hub")]
    pub hub: String,
    /// The ward the patients are put into; when there is only one, that
    #[arg(long)]
    pub ward: Option<String>,
    /// Under test, all of them: their readings never page anyone
    #[arg(long)]
    pub test: bool,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Assign {
    pub id: String,
    /// Whose it is from then on; nobody's, when left out
    #[arg(long)]
    pub patient: Option<String>,
    /// Since when (RFC 3339); from now on, when left out. What was measured since then and comes later goes to this patient; what came
    /// already stays where it is
    #[arg(long)]
    pub from: Option<String>,
    /// Takes back the assignments of this device that began since `--from`
    #[arg(long, requires = "from")]
    pub correct: bool,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn run(command: DeviceCommand) -> anyhow::Result<()> {
    match command {
        DeviceCommand::Add(args) => add(args).await,
        DeviceCommand::Import(args) => super::import::run(args).await,
        DeviceCommand::Assign(args) => assign(args).await,
        DeviceCommand::Swap { id, new, config } => swap(&id, &new, &config).await,
        DeviceCommand::Test { id, mode, config } => test(&id, mode == Mode::On, &config).await,
        DeviceCommand::Watch(args) => super::watch::run(args).await,
        DeviceCommand::Password { id, config } => {
            let config = Config::load(&config)?;
            let store = installation::open_store(&config).await?;
            let id = DeviceId::parse(&id)?;
            store.device(&id).await?;
            let password = store.new_device_password(&id, now()).await?;
            store.close().await;
            show(&config, &id, Some(password.as_str()), None)
        }
        DeviceCommand::Certificate { id, out, days, replace, config } => {
            let config = Config::load(&config)?;
            let store = installation::open_store(&config).await?;
            let id = DeviceId::parse(&id)?;
            store.device(&id).await?;
            let made = installation::certify(&config, &id, &out, days)?;
            if let Err(error) = store.new_device_certificate(&id, &made.fingerprint, Some(&made.serial), replace, now()).await {
                made.discard();
                return Err(error.into());
            }
            store.close().await;
            let show = |path: &Path| path.display().to_string();
            let (certificate, key, authority) = (show(&made.certificate), show(&made.key), show(&made.authority));
            let row =
                json!({"device": id, "certificate": certificate, "key": key, "authority": authority, "fingerprint": made.fingerprint, "ends_at": made.ends_at});
            let words = format!("certificate  {certificate}, until {}\nkey          {key}\nauthority    {authority}: set ingest.device_ca to it", made.ends_at);
            Ok(output::tell(&row, words)?)
        }
        DeviceCommand::Crl(args) => super::crl::run(args).await,
        DeviceCommand::Revoke { id, config } => {
            let store = installation::open_store(&Config::load(&config)?).await?;
            store.revoke_device(&DeviceId::parse(&id)?, now()).await?;
            store.close().await;
            Ok(output::tell(&json!({"device": id, "revoked": true}), format_args!("{id} is refused from now on"))?)
        }
    }
}

async fn add(args: Add) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let store = installation::open_store(&config).await?;
    let id = DeviceId::parse(&args.id)?;
    let hub = args.hub.as_deref().map(DeviceId::parse).transpose()?;
    let patient = args.patient.as_deref().map(PatientId::parse).transpose()?;
    let from = args.from.as_deref().map(EventTime::parse).transpose().context("--from")?.unwrap_or_else(now);
    let device = Device { id: id.clone(), model: args.model, test: args.test, hub: hub.clone(), created_at: now(), revoked_at: None, min_time: from };
    let (added, assignment) = (&device, patient.map(|patient| Assignment { device: id.clone(), patient, from, until: None }));
    let assigned = assignment.as_ref();
    store
        .transaction(|tx| {
            Box::pin(async move {
                tx.add_device(added).await?;
                match assigned {
                    Some(assignment) => tx.assign(assignment).await,
                    None => Ok(()),
                }
            })
        })
        .await?;
    let password = match hub {
        None => Some(store.new_device_password(&id, now()).await?),
        Some(_) => None,
    };
    store.close().await;
    show(&config, &id, password.as_deref().map(String::as_str), assignment.map(|assignment| assignment.patient))
}

fn show(config: &Config, id: &DeviceId, password: Option<&str>, patient: Option<PatientId>) -> anyhow::Result<()> {
    let row = json!({"device": id, "password": password.map(Value::from).unwrap_or_default(), "patient": patient.map(|p| Value::from(p.to_string())).unwrap_or_default()});
    output::print_one(&row)?;
    if let (Format::Table, Some(password), Some(listen)) = (output::format(), password, config.ingest.listen.0) {
        let mut out = std::io::stdout();
        writeln!(out, "\nThe password is shown this once; `vigil device password {id}` makes another. To publish a reading:\n")?;
        writeln!(out, "  {}", mosquitto_pub(id, password, listen))?;
    }
    Ok(())
}

/// A line that publishes one reading as this device, at QoS 1.
pub fn mosquitto_pub(id: &DeviceId, password: &str, listen: std::net::SocketAddr) -> String {
    let host = if listen.ip().is_unspecified() { "127.0.0.1".to_owned() } else { listen.ip().to_string() };
    let message = r#"{"metric":"spo2","value":96,"unit":"%"}"#;
    format!("mosquitto_pub -V 5 -h {host} -p {} -q 1 -i {id} -u {id} -P {password} -t v1/devices/{id}/vitals -m '{message}'", listen.port())
}

async fn assign(args: Assign) -> anyhow::Result<()> {
    let store = installation::open_store(&Config::load(&args.config)?).await?;
    let device = DeviceId::parse(&args.id)?;
    let patient = args.patient.as_deref().map(PatientId::parse).transpose()?;
    let at = args.from.as_deref().map(EventTime::parse).transpose().context("--from")?.unwrap_or_else(now);
    usage(at <= now(), || format!("--from {at}: an assignment begins now or in the past"))?;
    let (device, patient, correct) = (&device, patient.as_ref(), args.correct);
    let handed = store
        .transaction(|tx| {
            Box::pin(async move {
                let begun = tx.assignments_of_device(device).await?.into_iter().filter(|period| period.from > at).collect::<Vec<_>>();
                if begun.is_empty() || correct {
                    hand_over(tx, device, device, patient, at).await?;
                }
                Ok(begun)
            })
        })
        .await?;
    store.close().await;
    let periods = handed.iter().map(|period| format!("{}'s from {}", period.patient, period.from)).collect::<Vec<_>>().join(", ");
    usage(handed.is_empty() || correct, || format!("--from {at}: since then {device} was {periods}; --correct takes that back"))?;
    let mut words = patient.map_or_else(|| format!("{device} is nobody's from {at} on"), |patient| format!("{device} is {patient}'s from {at} on"));
    if !handed.is_empty() {
        words += &format!("; taken back: {periods}");
    }
    let taken_back: Vec<Value> = handed.iter().map(|period| json!({"patient": period.patient, "from": period.from, "until": period.until})).collect();
    Ok(output::tell(&json!({"device": device, "patient": patient, "from": at, "taken_back": taken_back}), words)?)
}

/// The mode and its entry in the audit, or neither: who wears the device is watched by it or is not.
async fn test(id: &str, on: bool, config: &Path) -> anyhow::Result<()> {
    let (id, at, person) = (DeviceId::parse(id)?, now(), installation::console());
    let store = installation::open_store(&Config::load(config)?).await?;
    let (device, person) = (&id, &person);
    let (was, patient) = store
        .transaction(|tx| {
            Box::pin(async move {
                let (before, patient) = (tx.device(device).await?, tx.patient_of(device, at).await?);
                tx.update_device(&Device { test: on, ..before.clone() }).await?;
                let detail = format!("{device} {}", if on { "on" } else { "off" });
                tx.audit_all(&[AuditEntry { at, person: person.clone(), action: "device.test".to_owned(), patient: patient.clone(), detail }]).await?;
                Ok((before.test, patient))
            })
        })
        .await?;
    store.close().await;
    let mut words = match (on, was) {
        (true, false) => format!("{id} is under test from now on: its readings and verdicts are shown, and page nobody"),
        (false, true) => format!("{id} is no longer under test: what it sends from now on may page; what it sent before stays out of every rule"),
        _ => format!("{id} was {}under test already", if on { "" } else { "not " }),
    };
    if let (true, Some(patient)) = (on, &patient) {
        words += &format!("; {patient}, who wears it, is not watched by it");
    }
    Ok(output::tell(&json!({"device": id, "test": on, "patient": patient}), words)?)
}

async fn swap(id: &str, new: &str, config: &Path) -> anyhow::Result<()> {
    let (old, new, at) = (DeviceId::parse(id)?, DeviceId::parse(new)?, now());
    usage(old != new, || format!("{old} is named twice: name the device that is worn, and the one that is worn instead"))?;
    let store = installation::open_store(&Config::load(config)?).await?;
    let (from, to) = (&old, &new);
    let (patient, wearer, device) = store
        .transaction(|tx| {
            Box::pin(async move {
                let (patient, wearer, device) = (tx.patient_of(from, at).await?, tx.patient_of(to, at).await?, tx.device(to).await?);
                if let (Some(patient), None, None, false) = (&patient, &wearer, device.revoked_at, device.test) {
                    hand_over(tx, from, to, Some(patient), at).await?;
                }
                Ok((patient, wearer, device))
            })
        })
        .await?;
    store.close().await;
    let patient =
        patient.with_context(|| format!("device {old} is nobody's now: there is nothing to take over; `vigil device assign {new} --patient ID` begins"))?;
    if let Some(wearer) = wearer {
        anyhow::bail!("device {new} is worn by {wearer}, who would be watched by nothing; if it is not, `vigil device assign {new}` ends that first");
    }
    anyhow::ensure!(device.revoked_at.is_none(), "device {new} is revoked: {patient} would be watched by nothing");
    anyhow::ensure!(!device.test, "device {new} is under test and raises no alert: {patient} would be watched by nothing");
    Ok(output::tell(
        &json!({"device": new, "instead_of": old, "patient": patient, "from": at}),
        format_args!("{new} is {patient}'s from {at} on, {old} nobody's"),
    )?)
}

/// Ends at `at` whatever assignment of either goes on then, takes back those that began later, and makes `to` the patient's from then on.
async fn hand_over(tx: &mut Tx<'_>, from: &DeviceId, to: &DeviceId, patient: Option<&PatientId>, at: EventTime) -> Result<(), StoreError> {
    for device in [from, to] {
        for assignment in tx.assignments_of_device(device).await? {
            if assignment.until.is_none_or(|until| until > at) {
                tx.end_assignment(device, at.max(assignment.from)).await?;
            }
        }
    }
    let device = tx.device(to).await?;
    // else its stamps since then would be taken for those of a wrong clock
    if device.min_time > at {
        tx.update_device(&Device { min_time: at, ..device }).await?;
    }
    if let Some(patient) = patient {
        tx.assign(&Assignment { device: to.clone(), patient: patient.clone(), from: at, until: None }).await?;
    }
    // when every gateway knows of it
    let due_at = now() + Micros::seconds(3);
    tx.ask_move(from, at, due_at).await?;
    tx.ask_move(to, at, due_at).await
}
