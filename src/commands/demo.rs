//! `vigil demo`: every role in one process, and a ward of simulated patients whose devices publish over real MQTT.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use schemas::{DeviceId, Metric, Micros, PatientId, Private};
use store::Store;
use store::registry::{Assignment, Device, Patient, Sex};
use store::wards::Ward;

use super::{patient, serve, simulate};
use crate::config::{Config, Log};
use crate::device::Account;
use crate::exit::usage;
use crate::installation::{self, Plan, now};
use crate::roles::{Role, Roles};
use crate::telemetry;

/// What the monitors had measured before the gateway was there, and upload first: so there is something to see at once.
const BEFORE_S: f64 = 600.0;
const DETERIORATING: usize = 5;

#[derive(Debug, Args)]
pub struct Demo {
    #[arg(long, default_value_t = 100)]
    pub patients: usize,
    /// How many times faster than life patients change and monitors measure
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Keeps everything here; without it, in a folder that is removed at the end
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Where the dashboard listens; a free port when it is taken
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where devices connect; a free port when it is taken
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub mqtt: SocketAddr,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

pub async fn run(args: Demo) -> anyhow::Result<()> {
    usage((1..=10_000).contains(&args.patients), || format!("--patients {}: it is between 1 and 10000", args.patients))?;
    usage(args.speed > 0.0 && args.speed <= 1000.0, || format!("--speed {}: it is a number above 0 and up to 1000", args.speed))?;
    telemetry::log(&Log { filter: std::env::var("VIGIL_LOG").unwrap_or_else(|_| "warn".to_owned()), ..Log::default() })?;
    telemetry::cryptography();
    let stop = serve::on_signal()?;
    let temporary = match args.data {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("vigil-demo-").tempdir().context("cannot make a temporary folder")?),
    };
    let folder = args.data.clone().or_else(|| temporary.as_ref().map(|made| made.path().to_owned())).context("no folder")?;

    let mut config = installation(&folder).await?;
    config.ingest.listen.0 = Some(free(args.mqtt)?);
    config.dashboard.listen.0 = Some(free(args.listen)?);
    let store = installation::open_store(&config).await?;
    let accounts = ward(&store, args.patients).await?;
    let link = store.new_one_time_link("admin", now() + Micros::hours(24)).await?;
    store.close().await;

    let roles = Roles::start(&config, &Role::ALL, None, telemetry::metrics()?).await?;
    let gateway = roles.bound.mqtt.context("the gateway has no address")?;
    let mut out = std::io::stdout();
    writeln!(out, "Vigil demo: {} simulated patients, {} of whom deteriorate. Not for real patients.\n", args.patients, DETERIORATING.min(args.patients))?;
    writeln!(out, "  sign in    {}/sign-in#token={}", config.dashboard_url(roles.bound.dashboard), link.as_str())?;
    writeln!(out, "             once; `vigil user link admin --config {}` makes another", folder.join("vigil.toml").display())?;
    writeln!(out, "  devices    mqtt://{gateway}")?;
    writeln!(out, "  data       {}{}", folder.display(), if temporary.is_some() { ", removed at the end" } else { "" })?;
    writeln!(out, "\nThe first alerts come within a minute. Ctrl-C ends it.")?;
    out.flush()?;

    let account = |(device, password): (DeviceId, String)| Account { host: gateway.ip().to_string(), port: gateway.port(), user: device.to_string(), password };
    let fleet = simulate::Fleet {
        accounts: accounts.into_iter().map(account).collect(),
        deteriorating: DETERIORATING,
        speed: args.speed,
        seed: args.seed,
        before_s: BEFORE_S,
    };
    // the devices end first, so that what they published gets its PUBACK
    let devices_stop = stop.child_token();
    let devices = tokio::spawn(simulate::play(fleet, devices_stop.clone()));
    let drained = tokio_util::sync::CancellationToken::new();
    let roles_stop = drained.clone();
    let serving = tokio::spawn(roles.run(roles_stop));
    let ended_early = tokio::select! {
        () = stop.cancelled() => false,
        () = finished(&serving) => true,
    };
    devices_stop.cancel();
    let tally = devices.await.context("the simulated devices ended badly")?;
    drained.cancel();
    serving.await.context("the roles ended badly")??;
    let tally = tally?;
    writeln!(out, "{} messages acknowledged, {} of them refused", tally.accepted + tally.refused, tally.refused)?;
    anyhow::ensure!(!ended_early, "a role ended by itself");
    Ok(())
}

async fn finished<T>(task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The installation in this folder; made if there is none.
async fn installation(folder: &Path) -> anyhow::Result<Config> {
    let path = folder.join("vigil.toml");
    if !path.exists() {
        let ward = Ward { id: "home".to_owned(), name: "Home ward".to_owned(), timezone: local_zone() };
        installation::make(folder, &Plan { admin: "admin", ward, partitions: 4, keys: &[] }).await?;
    }
    Ok(Config::load(&path)?)
}

fn local_zone() -> String {
    jiff::tz::TimeZone::system().iana_name().unwrap_or("UTC").to_owned()
}

/// The address, or one with a free port when it is taken.
fn free(wanted: SocketAddr) -> anyhow::Result<SocketAddr> {
    let taken = match TcpListener::bind(wanted) {
        Ok(listener) => return Ok(listener.local_addr()?),
        Err(error) => error,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).with_context(|| format!("{wanted} is taken ({taken}), and no port is free"))?;
    Ok(listener.local_addr()?)
}

const FIRST: [&str; 20] = [
    "Ada", "Bram", "Chika", "Dilan", "Elif", "Farid", "Greta", "Hana", "Ivo", "Jun", "Kaya", "Lior", "Mina", "Noor", "Olaf", "Pia", "Quang", "Rosa", "Sven",
    "Tala",
];
const LAST: [&str; 20] = [
    "OKAFOR",
    "BRANDT",
    "CASTRO",
    "DEMIR",
    "ERIKSEN",
    "FISCHER",
    "GARCIA",
    "HOLM",
    "IVANOV",
    "JANSEN",
    "KOWALSKI",
    "LINDQVIST",
    "MORETTI",
    "NAKAMURA",
    "OLIVEIRA",
    "PETROV",
    "QUIROGA",
    "ROSSI",
    "SILVA",
    "TANAKA",
];

/// Registers what is not there yet; every device gets a new password.
async fn ward(store: &Store, patients: usize) -> anyhow::Result<Vec<(DeviceId, String)>> {
    let since = now() - Micros::hours(24);
    let known: std::collections::BTreeSet<PatientId> = store.patients(None).await?.into_iter().map(|patient| patient.id).collect();
    let mut accounts = Vec::with_capacity(patients);
    for index in 0..patients {
        let id = PatientId::parse(&format!("p{:04}", index + 1))?;
        let device = DeviceId::parse(&format!("monitor-{:04}", index + 1))?;
        if !known.contains(&id) {
            let (first, last) = (FIRST[index % 20], LAST[(index / 20 + index * 7) % 20]);
            let patient = Patient {
                id: id.clone(),
                name: Private::new(format!("{last}, {first}")),
                born: Private::new(format!("{}-{:02}-{:02}", 1932 + index % 48, 1 + index % 12, 1 + index % 28)),
                sex: if index % 2 == 0 { Sex::Female } else { Sex::Male },
                identifier: Private::new(format!("{:03} {:03} {:04}", 100 + index % 900, (index * 37) % 1000, (index * 7919) % 10_000)),
                ward: "home".to_owned(),
                created_at: since,
                monitored: true,
            };
            let often = [Metric::HeartRate, Metric::Spo2, Metric::RespiratoryRate, Metric::Temperature];
            patient::enrol(store, &patient, often.into_iter().map(|metric| (metric, Micros::minutes(1))).collect::<BTreeMap<_, _>>()).await?;
            let made = Device {
                id: device.clone(),
                model: "simulated monitor".to_owned(),
                test: false,
                hub: None,
                created_at: since,
                revoked_at: None,
                min_time: since,
            };
            store.add_device(&made).await?;
            store.assign(&Assignment { device: device.clone(), patient: id, from: since, until: None }).await?;
        }
        let password = store.new_device_password(&device, now()).await?;
        accounts.push((device, password.as_str().to_owned()));
    }
    Ok(accounts)
}
