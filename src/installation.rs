//! An installation: the folder that `vigil init` makes, and what a process opens of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use intake::{Mapping, Mappings};
use journal::Journal;
use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::kafka::{KafkaConfig, KafkaJournal};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber};
use schemas::{DeviceId, EventTime, Micros};
use store::users::{Role, User};
use store::wards::Ward;
use store::{Store, StoreError};
use zeroize::Zeroizing;

use crate::config::{Config, ConfigError, JournalKind};
use crate::exit::Unreachable;

/// How long the first administrator's link is good.
const LINK: Micros = Micros::hours(24);

pub fn now() -> EventTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

static PERSON: OnceLock<String> = OnceLock::new();

/// From now on this process acts for somebody who is known by name.
pub fn act_for(person: String) {
    PERSON.get_or_init(|| person);
}

/// Who sits at this machine, as the audit and the authors of changes name them; or for whom it acts.
pub fn console() -> String {
    if let Some(person) = PERSON.get() {
        return person.clone();
    }
    format!("console:{}", std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned()))
}

pub struct Made {
    pub config: PathBuf,
    /// Signs the first administrator in, once.
    pub link: Zeroizing<String>,
}

/// What `vigil init` is asked for.
pub struct Plan<'a> {
    pub admin: &'a str,
    pub ward: Ward,
    pub partitions: u32,
    /// Keys of `vigil.toml` that are not the defaults, as `(table, key, value in TOML)`.
    pub keys: &'a [(&'a str, &'a str, String)],
}

/// Makes the folder: `vigil.toml`, the gateway's key and certificate, the store with its first administrator and the rules.
pub async fn make(folder: &Path, plan: &Plan<'_>) -> anyhow::Result<Made> {
    let path = folder.join("vigil.toml");
    if path.exists() {
        bail!("{} exists already: this folder holds an installation; choose another, or remove it", path.display());
    }
    fs::create_dir_all(folder.join("data")).with_context(|| format!("cannot make {}", folder.join("data").display()))?;
    keys(&folder.join("keys"))?;
    let text = with_keys(include_str!("../vigil.toml"), plan);
    // the store makes the installation's id, and the file is written last: what is half made is made again
    let draft = Config::read(&text, &path)?;
    let store = store(&draft).await?;
    let installation = store.installation().await?.id;
    store.fix_partitions(plan.partitions).await?;
    store.put_ward(&plan.ward).await?;
    if store.rules().await?.is_none() {
        store.put_rules(engine::DEFAULT_RULES, plan.admin, 0, now()).await?;
    }
    let admin = User { name: plan.admin.to_owned(), role: Role::Admin, created_at: now(), disabled_at: None };
    match store.add_user(&admin).await {
        Ok(()) | Err(StoreError::Exists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let link = store.new_one_time_link(plan.admin, now() + LINK).await?;
    store.close().await;
    write(&path, text.replace("installation = \"\"", &format!("installation = \"{installation}\"")).as_bytes(), 0o600)?;
    Ok(Made { config: path, link })
}

/// The checked-in file with other values for some keys.
fn with_keys(file: &str, plan: &Plan<'_>) -> String {
    let mut keys = vec![
        ("journal", "partitions", plan.partitions.to_string()),
        ("ingest", "certificate", "\"keys/gateway.pem\"".to_owned()),
        ("ingest", "key", "\"keys/gateway.key\"".to_owned()),
    ];
    keys.extend(plan.keys.iter().cloned());
    let mut table = String::new();
    let mut text = String::with_capacity(file.len());
    for line in file.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_start_matches('[').split(']').next().unwrap_or_default().to_owned();
        }
        let key = line.split_once(" = ").map(|(key, _)| key);
        let comment = line.split_once(" # ").map(|(_, comment)| format!(" # {}", comment.trim())).unwrap_or_default();
        match keys.iter().find(|(of, name, _)| *of == table && Some(*name) == key) {
            Some((_, name, value)) => text += &format!("{name} = {value}{comment}\n"),
            None => text += &format!("{line}\n"),
        }
    }
    text
}

/// A certificate of its own for MQTT over TLS: it is there to begin with, and is replaced by one that devices can trust.
fn keys(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if folder.join("gateway.key").exists() {
        return Ok(());
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).context("cannot make a certificate")?;
    write(&folder.join("gateway.pem"), made.cert.pem().as_bytes(), 0o644)?;
    write(&folder.join("gateway.key"), made.signing_key.serialize_pem().as_bytes(), 0o600)
}

/// A device's certificate and key, from this installation's own authority, which is made when it is not there yet.
pub struct DeviceCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
    pub fingerprint: String,
    /// In hexadecimal digits: the credential's id, so that the revocation list can name it.
    pub serial: String,
    pub ends_at: EventTime,
}

const AUTHORITY: &str = "keys/device-ca.pem";
const AUTHORITY_KEY: &str = "keys/device-ca.key";

/// Whoever signs for this installation; `None` until the first certificate is made.
pub fn authority(config: &Config) -> anyhow::Result<Option<Issuer<'static, KeyPair>>> {
    let secret = config.path(Path::new(AUTHORITY_KEY));
    match fs::read_to_string(&secret) {
        Ok(pem) => {
            let signer = KeyPair::from_pem(&pem).with_context(|| format!("{} is no key", secret.display()))?;
            Ok(Some(Issuer::new(authority_parameters(config)?, signer)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", secret.display())),
    }
}

fn new_authority(config: &Config) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let (parameters, secret) = (authority_parameters(config)?, config.path(Path::new(AUTHORITY_KEY)));
    let signer = KeyPair::generate().context("cannot make a key")?;
    let certificate = parameters.self_signed(&signer).context("cannot make a certificate")?;
    if let Some(folder) = secret.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    write(&config.path(Path::new(AUTHORITY)), certificate.pem().as_bytes(), 0o644)?;
    write(&secret, signer.serialize_pem().as_bytes(), 0o600)?;
    Ok(Issuer::new(parameters, signer))
}

fn authority_parameters(config: &Config) -> anyhow::Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::new()).context("cannot make a certificate")?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.distinguished_name.push(DnType::CommonName, format!("Vigil devices {}", config.installation));
    Ok(parameters)
}

/// A serial number of its hexadecimal digits.
pub fn serial(digits: &str) -> Option<SerialNumber> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    bytes.map(SerialNumber::from)
}

/// Writes `{device}.pem` and `{device}.key` into `folder`.
pub fn certify(config: &Config, device: &DeviceId, folder: &Path, days: u32) -> anyhow::Result<DeviceCertificate> {
    let issuer = match authority(config)? {
        Some(issuer) => issuer,
        None => new_authority(config)?,
    };
    let serial = store::secrets::random_id();
    let mut wanted = CertificateParams::new(vec![device.to_string()]).context("cannot make a certificate")?;
    wanted.distinguished_name.push(DnType::CommonName, device.as_str());
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    wanted.use_authority_key_identifier_extension = true;
    wanted.serial_number = self::serial(&serial);
    let begins = SystemTime::now();
    let ends = begins + Duration::from_secs(u64::from(days) * 86_400);
    // a device's clock may be behind ours
    wanted.not_before = (begins - Duration::from_secs(86_400)).into();
    wanted.not_after = ends.into();
    let key = KeyPair::generate().context("cannot make a key")?;
    let certificate = wanted.signed_by(&key, &issuer).context("cannot make a certificate")?;
    let made = DeviceCertificate {
        certificate: folder.join(format!("{device}.pem")),
        key: folder.join(format!("{device}.key")),
        authority: config.path(Path::new(AUTHORITY)),
        serial,
        fingerprint: store::secrets::fingerprint(certificate.der()),
        ends_at: now() + Micros::days(i64::from(days)),
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for path in [&made.certificate, &made.key] {
        anyhow::ensure!(!path.exists(), "{} is there already: name another folder with --out, or move it away", path.display());
    }
    write(&made.certificate, certificate.pem().as_bytes(), 0o600)?;
    write(&made.key, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(made)
}

impl DeviceCertificate {
    /// It was not registered.
    pub fn discard(&self) {
        for path in [&self.certificate, &self.key] {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "it is of no use and could not be removed");
            }
        }
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// The store of a configuration; whose it is, is not looked at yet.
async fn store(config: &Config) -> anyhow::Result<Store> {
    match Store::open(&config.store_url()).await {
        Ok(store) => Ok(store),
        Err(error @ StoreError::Unavailable(_)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Err(Unreachable(format!("cannot reach the store ({}): {cause}", config.store_shown())).into())
        }
        Err(error) => {
            let remedy = error.remedy();
            Err(anyhow::Error::new(error).context(format!("the store ({}) cannot be opened; {remedy}", config.store_shown())))
        }
    }
}

fn named(config: &Config) -> Result<(), ConfigError> {
    if !config.installation.is_empty() {
        return Ok(());
    }
    let remedy = "`vigil init DIR` makes an installation, with its id in the file it writes".to_owned();
    Err(ConfigError::Value { key: "installation", value: "\"\"".to_owned(), remedy })
}

/// The store of this installation.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    named(config)?;
    let store = store(config).await?;
    store.expect_installation(&config.installation).await?;
    store.fix_partitions(config.journal.partitions).await?;
    Ok(store)
}

/// The journal of this installation; a second process on an embedded one is refused.
pub async fn open_journal(config: &Config) -> anyhow::Result<Arc<dyn Journal>> {
    named(config)?;
    let budget = usize::try_from(config.journal.budget.0).unwrap_or(usize::MAX);
    let opened = match config.journal.kind {
        JournalKind::Embedded => {
            let embedded = EmbeddedConfig {
                budget,
                retention: config.journal.retention.0,
                retention_bytes: config.journal.retention_bytes.0,
                ..EmbeddedConfig::new(config.path(&config.journal.path), &config.installation, config.journal.partitions)
            };
            tokio::task::spawn_blocking(move || EmbeddedJournal::open(&embedded).map(|journal| Arc::new(journal) as Arc<dyn Journal>)).await?
        }
        JournalKind::Kafka => {
            let kafka = KafkaConfig {
                budget,
                development: config.journal.development,
                retention: config.journal.retention.0,
                properties: config.journal.properties.clone().into_iter().collect(),
                prefix: config.journal.prefix.clone(),
                ..KafkaConfig::new(&config.journal.bootstrap, &config.installation, config.journal.partitions)
            };
            tokio::task::spawn_blocking(move || KafkaJournal::open(&kafka).map(|journal| Arc::new(journal) as Arc<dyn Journal>)).await?
        }
    };
    opened.map_err(|error| match error {
        journal::OpenError::Unreachable { .. } => Unreachable(error.to_string()).into(),
        error => error.into(),
    })
}

/// The mappings that come with Vigil, and those that the configuration names.
pub fn mappings(config: &Config) -> anyhow::Result<Mappings> {
    let mut mappings = Mappings::shipped()?;
    for file in &config.ingest.mappings {
        let path = config.path(file);
        let refused = |remedy: String| ConfigError::Value { key: "ingest.mappings", value: path.display().to_string(), remedy };
        let text = fs::read_to_string(&path).map_err(|error| refused(format!("the file cannot be read: {error}")))?;
        mappings.add(Mapping::parse(&text).map_err(|error| refused(error.to_string()))?);
    }
    Ok(mappings)
}

/// A secret that the configuration names by its file.
pub fn secret(config: &Config, key: &'static str, file: &Path) -> anyhow::Result<Option<Zeroizing<String>>> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let path = config.path(file);
    let text = fs::read_to_string(&path).map_err(|error| ConfigError::Value {
        key,
        value: path.display().to_string(),
        remedy: format!("the file cannot be read: {error}"),
    })?;
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

/// A duration as the engine counts it.
pub fn micros(duration: Duration) -> Micros {
    Micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}
