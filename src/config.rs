//! The configuration file, parsed into types before any port or client is opened. `vigil.toml` at the root holds every key and default;
//! a test holds the two together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingest::TopicFilter;
use schemas::DeviceId;
use serde::{Deserialize, Deserializer};

/// A message must fit into a record of any journal, with what stands around it.
const MAX_PACKET: u64 = 512 << 10;

/// A bad configuration, as one sentence that names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}; `vigil init DIR` writes one")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}, line {line}: {message}")]
    Parse { path: PathBuf, line: usize, message: String },
    #[error("{key} = {value}: {remedy}")]
    Value { key: &'static str, value: String, remedy: String },
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub installation: String,
    pub journal: Journal,
    pub store: Store,
    pub lake: Lake,
    pub ingest: Ingest,
    pub engine: Engine,
    pub rules: Rules,
    pub processor: Processor,
    pub alerts: Alerts,
    pub dashboard: Dashboard,
    pub log: Log,
    /// The folder of the file: relative paths start here.
    #[serde(skip)]
    pub base: PathBuf,
    #[serde(skip)]
    pub file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalKind {
    #[default]
    Embedded,
    Kafka,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    pub kind: JournalKind,
    pub partitions: u32,
    pub path: PathBuf,
    pub retention: Span,
    pub retention_bytes: Bytes,
    pub budget: Bytes,
    pub bootstrap: String,
    pub development: bool,
    pub prefix: String,
    /// Handed to librdkafka as they are.
    pub properties: BTreeMap<String, String>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            kind: JournalKind::Embedded,
            partitions: 4,
            path: "data/journal.db".into(),
            retention: Span::days(30),
            retention_bytes: Bytes(20 << 30),
            budget: Bytes(64 << 20),
            bootstrap: String::new(),
            development: false,
            prefix: String::new(),
            properties: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    pub url: String,
}

impl Default for Store {
    fn default() -> Self {
        Self { url: "sqlite:data/vigil.db".to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lake {
    pub path: PathBuf,
    pub roll_after: Span,
    pub roll_rows: u64,
}

impl Default for Lake {
    fn default() -> Self {
        Self { path: "data/lake".into(), roll_after: Span::minutes(5), roll_rows: 200_000 }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    pub listen: Listen,
    pub listen_tls: Listen,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub device_ca: PathBuf,
    pub mappings: Vec<PathBuf>,
    pub max_packet: Bytes,
    pub budget: Bytes,
    pub bridge: Vec<Bridge>,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            listen: Listen(Some(SocketAddr::from(([127, 0, 0, 1], 1883)))),
            listen_tls: Listen(None),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            device_ca: PathBuf::new(),
            mappings: Vec::new(),
            max_packet: Bytes(256 << 10),
            budget: Bytes(64 << 20),
            bridge: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    #[serde(default = "yes")]
    pub enabled: bool,
    pub name: String,
    pub address: String,
    pub hub: String,
    #[serde(default = "vitals")]
    pub topics: Vec<String>,
    #[serde(default)]
    pub ca: PathBuf,
    #[serde(default)]
    pub plaintext: bool,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub password_file: PathBuf,
    #[serde(default)]
    pub client_id: String,
    #[serde(default = "week")]
    pub session: Span,
    #[serde(default = "half_a_minute")]
    pub keep_alive: Span,
}

fn vitals() -> Vec<String> {
    vec!["v1/devices/+/vitals/#".to_owned()]
}

const fn week() -> Span {
    Span::days(7)
}

const fn half_a_minute() -> Span {
    Span(Duration::from_secs(30))
}

impl Bridge {
    /// Host and port of the broker.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.rsplit_once(':')?;
        (!host.is_empty()).then_some(())?;
        Some((host, port.parse().ok()?))
    }

    /// Under which the broker keeps its session: its own, or one that no other installation has.
    pub fn client_id(&self, installation: &str) -> String {
        if self.client_id.is_empty() { format!("vigil-bridge-{installation}-{}", self.name) } else { self.client_id.clone() }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// What one person proposes another puts into force.
    pub second_person: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    pub horizon: Span,
    pub window: Span,
}

impl Default for Engine {
    fn default() -> Self {
        Self { horizon: Span::minutes(120), window: Span::minutes(5) }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Processor {
    pub snapshot_every: u64,
    pub snapshot_after: Span,
}

impl Default for Processor {
    fn default() -> Self {
        Self { snapshot_every: 200_000, snapshot_after: Span::minutes(5) }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    pub repage_after: Span,
    pub one_by_one: u32,
    pub acknowledged_for: Span,
    pub technical: Vec<String>,
    pub technical_again_after: Span,
    pub heartbeat_url: String,
    pub webhook: Vec<Webhook>,
    pub smtp: Smtp,
    pub sms: Vec<Sms>,
    pub pagerduty: Vec<PagerDuty>,
    pub alertmanager: Vec<Alertmanager>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            repage_after: Span::minutes(5),
            one_by_one: 10,
            acknowledged_for: Span::minutes(60),
            technical: Vec::new(),
            technical_again_after: Span::minutes(15),
            heartbeat_url: String::new(),
            webhook: Vec::new(),
            smtp: Smtp::default(),
            sms: Vec::new(),
            pagerduty: Vec::new(),
            alertmanager: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    #[serde(default = "yes")]
    pub enabled: bool,
    pub name: String,
    pub url: String,
    #[serde(default)]
    pub secret_file: PathBuf,
}

/// A service that sends short messages.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sms {
    #[serde(default = "yes")]
    pub enabled: bool,
    pub name: String,
    pub url: String,
    pub to: Vec<String>,
    pub form: BTreeMap<String, String>,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub password_file: PathBuf,
    #[serde(default)]
    pub receipt: String,
    pub per_minute: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    #[serde(default = "yes")]
    pub enabled: bool,
    pub name: String,
    #[serde(default = "pagerduty")]
    pub url: String,
    pub routing_key_file: PathBuf,
}

fn pagerduty() -> String {
    "https://events.pagerduty.com/v2/enqueue".to_owned()
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    #[serde(default = "yes")]
    pub enabled: bool,
    pub name: String,
    pub url: String,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub password_file: PathBuf,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Smtp {
    pub host: String,
    pub port: u16,
    pub starttls: bool,
    pub from: String,
    pub to: Vec<String>,
    pub user: String,
    pub password_file: PathBuf,
}

impl Default for Smtp {
    fn default() -> Self {
        Self { host: String::new(), port: 587, starttls: true, from: String::new(), to: Vec::new(), user: String::new(), password_file: PathBuf::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dashboard {
    pub listen: Listen,
    pub url: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub session: Span,
    pub audit_spool: PathBuf,
    pub jobs: PathBuf,
    pub jobs_kept: Span,
    pub jobs_leave: Bytes,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self {
            listen: Listen(Some(SocketAddr::from(([127, 0, 0, 1], 8080)))),
            url: String::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            session: Span::minutes(720),
            audit_spool: "data/audit-spool".into(),
            jobs: "data/jobs".into(),
            jobs_kept: Span::days(7),
            jobs_leave: Bytes(2 << 30),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// `"127.0.0.1:1883"`, or `""` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listen(pub Option<SocketAddr>);

/// `"5 min"`: a number and one of ms, s, min, h, days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span(pub Duration);

/// `"64 MiB"`: a number and one of B, KiB, MiB, GiB, TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes(pub u64);

impl Span {
    const fn minutes(n: u64) -> Self {
        Self(Duration::from_secs(60 * n))
    }
    const fn days(n: u64) -> Self {
        Self::minutes(1440 * n)
    }
    /// Reads `"5 min"`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let number: u64 = number.parse().map_err(|_| expected_span(text))?;
        let (scale, per) = match unit {
            "ms" => (1, 1),
            "s" => (1000, 1),
            "min" => (60_000, 1),
            "h" => (3_600_000, 1),
            "day" | "days" => (86_400_000, 1),
            _ => return Err(expected_span(text)),
        };
        number.checked_mul(scale / per).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| expected_span(text))
    }
}

fn expected_span(text: &str) -> String {
    format!("`{text}` is not a duration: write a whole number and one of ms, s, min, h, days, such as \"5 min\"")
}

impl Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let error = || format!("`{text}` is not a size: write a whole number and one of B, KiB, MiB, GiB, TiB, such as \"64 MiB\"");
        let number: u64 = number.parse().map_err(|_| error())?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(error()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..at], text[at..].trim_start())
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse()
            .map(|address| Self(Some(address)))
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not an address: write one such as \"127.0.0.1:1883\", or \"\" for none")))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::read(&text, path)
    }

    /// The text of a file that stands, or is to stand, at `path`.
    pub fn read(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config = Self::parse(text, path)?;
        config.base = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        config.file = path.to_owned();
        Ok(config)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        // not the error's own text: it shows the line, and a password may stand in it
        let parse = |error: toml::de::Error| {
            let line = error.span().map(|span| text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1);
            ConfigError::Parse { path: path.to_owned(), line: line.unwrap_or(1), message: error.message().to_owned() }
        };
        let mut config: Self = toml::from_str(text).map_err(parse)?;
        config.alerts.webhook.retain(|webhook| webhook.enabled);
        config.alerts.sms.retain(|sms| sms.enabled);
        config.alerts.pagerduty.retain(|pager| pager.enabled);
        config.alerts.alertmanager.retain(|one| one.enabled);
        config.ingest.bridge.retain(|bridge| bridge.enabled);
        config.check()?;
        Ok(config)
    }

    /// What no single key can say.
    fn check(&self) -> Result<(), ConfigError> {
        let value = |key, value: &dyn fmt::Display, remedy: &str| Err(ConfigError::Value { key, value: value.to_string(), remedy: remedy.to_owned() });
        if !(1..=1024).contains(&self.journal.partitions) {
            return value("journal.partitions", &self.journal.partitions, "between 1 and 1024 are possible");
        }
        for (key, bytes) in [("journal.budget", self.journal.budget), ("ingest.budget", self.ingest.budget)] {
            if bytes.0 < 1 << 20 {
                return value(key, &format!("{} B", bytes.0), "at least \"1 MiB\": nothing could be acknowledged with less");
            }
        }
        if !(1 << 10..=MAX_PACKET).contains(&self.ingest.max_packet.0) {
            return value(
                "ingest.max_packet",
                &format!("{} B", self.ingest.max_packet.0),
                "between \"1 KiB\" and \"512 KiB\": a message must fit into a record of the journal",
            );
        }
        if tracing_subscriber::EnvFilter::try_new(&self.log.filter).is_err() {
            return value("log.filter", &self.log.filter, "write a level (info) or targets with levels (ingest=debug,info)");
        }
        if self.journal.kind == JournalKind::Kafka && self.journal.bootstrap.is_empty() {
            return value("journal.bootstrap", &"\"\"", "journal.kind = \"kafka\" needs host:port of a broker");
        }
        if self.ingest.listen_tls.0.is_some() && (self.ingest.certificate.as_os_str().is_empty() || self.ingest.key.as_os_str().is_empty()) {
            return value("ingest.listen_tls", &self.ingest.listen_tls, "TLS needs ingest.certificate and ingest.key, PEM files");
        }
        self.check_bridges()?;
        if self.dashboard.certificate.as_os_str().is_empty() != self.dashboard.key.as_os_str().is_empty() {
            return value("dashboard.certificate", &self.dashboard.certificate.display(), "dashboard.certificate and dashboard.key go together");
        }
        if !(self.store.url.starts_with("sqlite:") || self.store.url.starts_with("postgres:") || self.store.url.starts_with("postgresql:")) {
            return value("store.url", &"…", "it starts with sqlite: or postgres://");
        }
        if !self.dashboard.url.is_empty() && url::Url::parse(&self.dashboard.url).is_err() {
            return value("dashboard.url", &self.dashboard.url, "it is an address such as https://vigil.example");
        }
        let alerts = &self.alerts;
        let webhooks = alerts.webhook.iter().map(|one| ("alerts.webhook.url", &one.url));
        let sms = alerts.sms.iter().map(|one| ("alerts.sms.url", &one.url));
        let pagerduty = alerts.pagerduty.iter().map(|one| ("alerts.pagerduty.url", &one.url));
        let alertmanagers = alerts.alertmanager.iter().map(|one| ("alerts.alertmanager.url", &one.url));
        let heartbeat = Some(("alerts.heartbeat_url", &alerts.heartbeat_url)).filter(|(_, url)| !url.is_empty());
        for (key, url) in webhooks.chain(sms).chain(pagerduty).chain(alertmanagers).chain(heartbeat) {
            if !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                return value(key, url, "it is an address such as https://pager.example/hooks/vigil");
            }
        }
        if !self.alerts.smtp.host.is_empty() && (self.alerts.smtp.from.is_empty() || self.alerts.smtp.to.is_empty()) {
            return value("alerts.smtp.host", &self.alerts.smtp.host, "mail needs alerts.smtp.from and alerts.smtp.to as well");
        }
        if self.engine.window.0.is_zero() || self.engine.horizon.0 < self.engine.window.0 {
            return value("engine.horizon", &format!("{:?}", self.engine.horizon.0), "the horizon is at least one engine.window");
        }
        Ok(())
    }

    fn check_bridges(&self) -> Result<(), ConfigError> {
        let value = |key, value: &str, remedy: String| Err(ConfigError::Value { key, value: value.to_owned(), remedy });
        let (mut names, mut clients) = (BTreeSet::new(), BTreeSet::new());
        for bridge in &self.ingest.bridge {
            if bridge.name.is_empty() || !names.insert(&bridge.name) {
                return value("ingest.bridge.name", &bridge.name, "each bridge has a name of its own".to_owned());
            }
            if bridge.host_and_port().is_none() {
                return value("ingest.bridge.address", &bridge.address, "it is host:port of the broker, such as \"broker.example:1883\"".to_owned());
            }
            let here = bridge.host_and_port().is_some_and(|(host, _)| host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()));
            if bridge.ca.as_os_str().is_empty() && !bridge.plaintext && !here {
                let remedy = "without ca the password and every reading go over the network in clear: name the broker's authority, or set plaintext = true";
                return value("ingest.bridge.ca", "", remedy.to_owned());
            }
            if !clients.insert((&bridge.address, bridge.client_id(&self.installation))) {
                return value("ingest.bridge.client_id", &bridge.client_id, "two bridges of one client id take the session from each other".to_owned());
            }
            if DeviceId::parse(&bridge.hub).is_err() {
                return value("ingest.bridge.hub", &bridge.hub, "it is the id of the device behind which the broker's devices are registered".to_owned());
            }
            if bridge.topics.is_empty() {
                return value("ingest.bridge.topics", "[]", "name at least one topic filter".to_owned());
            }
            for topic in &bridge.topics {
                if let Err(bad) = TopicFilter::parse(topic) {
                    return value("ingest.bridge.topics", topic, bad.to_string());
                }
            }
            if !(60..u64::from(u32::MAX)).contains(&bridge.session.0.as_secs()) {
                return value(
                    "ingest.bridge.session",
                    &format!("{:?}", bridge.session.0),
                    "at least \"1 min\": for so long the broker keeps messages".to_owned(),
                );
            }
            if !(1..=u64::from(u16::MAX)).contains(&bridge.keep_alive.0.as_secs()) {
                return value("ingest.bridge.keep_alive", &format!("{:?}", bridge.keep_alive.0), "between \"1 s\" and \"18 h\"".to_owned());
            }
        }
        Ok(())
    }

    /// A path of the file, from where the process stands.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The store's address, with the file of SQLite from where the process stands.
    pub fn store_url(&self) -> String {
        match self.store.url.strip_prefix("sqlite:") {
            Some(file) => format!("sqlite:{}", self.path(Path::new(file.trim_start_matches("//"))).display()),
            None => self.store.url.clone(),
        }
    }

    /// Where people reach the dashboard.
    pub fn dashboard_url(&self, bound: Option<SocketAddr>) -> String {
        if !self.dashboard.url.is_empty() {
            return self.dashboard.url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.dashboard.certificate.as_os_str().is_empty() { "http" } else { "https" };
        match bound.or(self.dashboard.listen.0) {
            Some(address) if address.ip().is_unspecified() => format!("{scheme}://localhost:{}", address.port()),
            Some(address) => format!("{scheme}://{address}"),
            None => String::new(),
        }
    }

    /// The store as it may be shown: its file from where the process stands, or the server without the password.
    pub fn store_shown(&self) -> String {
        if let Some(file) = self.store.url.strip_prefix("sqlite:") {
            return format!("sqlite    {}", self.path(Path::new(file.trim_start_matches("//"))).display());
        }
        match url::Url::parse(&self.store.url) {
            Ok(url) => format!("postgres  {}{}", url.host_str().unwrap_or("localhost"), url.path()),
            Err(_) => "postgres".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("vigil.toml"))
    }

    /// Every key of the checked-in file is known, and its value is the default.
    #[test]
    fn the_checked_in_file_is_the_default() {
        let default = Config::default();
        assert_eq!(parse(include_str!("../vigil.toml")).unwrap(), default);
        assert_eq!(parse("").unwrap(), default);
    }

    #[test]
    fn a_bridge_needs_a_name_an_address_and_a_hub() {
        let bridge = |more: &str| format!("[[ingest.bridge]]\nplaintext = true\nname = \"b\"\naddress = \"broker:1883\"\nhub = \"gate\"\n{more}\n");
        let read = parse(&bridge("")).unwrap().ingest.bridge;
        assert_eq!((read[0].host_and_port(), read[0].client_id("i")), (Some(("broker", 1883)), "vigil-bridge-i-b".to_owned()));
        let long = "[[ingest.bridge]]\nname = \"b\"\naddress = \"broker:1883\"";
        for (text, says) in [
            (bridge("topics = [\"$share/g/#\"]"), "ingest.bridge.topics = $share/g/#: a broker may lose"),
            (bridge("topics = []"), "ingest.bridge.topics = []: name at least one"),
            (bridge("session = \"0 s\""), "ingest.bridge.session"),
            (bridge("keep_alive = \"20 h\""), "ingest.bridge.keep_alive"),
            (bridge("") + &bridge("client_id = \"other\""), "ingest.bridge.name = b: each bridge"),
            (bridge("client_id = \"c\"") + &bridge("client_id = \"c\"").replace("\"b\"", "\"d\""), "ingest.bridge.client_id = c: two bridges"),
            (bridge("").replace(":1883", ""), "ingest.bridge.address = broker: it is host:port"),
            (bridge("").replace("gate", "../gate"), "ingest.bridge.hub"),
            (bridge("").replace("plaintext = true\n", ""), "ingest.bridge.ca = : without ca"),
            (long.to_owned(), "missing field `hub`"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_bad_value_names_the_key_and_the_remedy() {
        for (text, says) in [
            ("[journal]\npartitions = 0", "journal.partitions = 0: between 1 and 1024 are possible"),
            ("[journal]\nkind = \"kafka\"", "journal.bootstrap"),
            ("[journal]\nbudget = \"0 B\"", "journal.budget = 0 B: at least"),
            ("[ingest]\nmax_packet = \"2 MiB\"", "ingest.max_packet = 2097152 B: between"),
            ("[log]\nfilter = \"no=such=level\"", "log.filter = no=such=level"),
            ("[journal]\nretention = \"5 weeks\"", "`5 weeks` is not a duration"),
            ("[ingest]\nlisten = \"here\"", "`here` is not an address"),
            ("[ingest]\nlisten_tls = \"127.0.0.1:8883\"", "ingest.certificate"),
            ("[dashboard]\nkey = \"k.pem\"", "go together"),
            ("[ingest]\nport = 1", "unknown field `port`"),
            ("[store]\nurl = \"mysql://x\"", "store.url"),
            ("[log]\n\n[store]\nurl = \"postgres://u:geheim@h/db", "line 4"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("geheim"), "a password is shown: {error}");
        }
    }
}
