//! The roles of one process: built, started, and drained in order.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use dashboard_api::{Dashboard, Operations, Readiness};
use ingest::{Gateway, TopicFilter};
use journal::Journal;
use metrics_exporter_prometheus::PrometheusHandle;
use processor::Processor;
use processor::archive::{Archive, ArchiveConfig};
use processor::objects::{LocalObjects, Objects};
use schemas::{DeviceId, Private};
use store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, JournalKind};
use crate::installation::{self, micros};

/// All the draining there is: what has not ended by then is named and left.
const DRAIN: Duration = Duration::from_secs(25);
/// Of it, for one role, so that those behind it have their turn, and for journal and store.
const DRAIN_OF_ONE: Duration = Duration::from_secs(12);
const CLOSE: Duration = Duration::from_secs(5);
/// A role that failed is started again after this, and after twice as long each time, up to [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    Ingest,
    Processor,
    Alerts,
    DashboardApi,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Processor, Self::Alerts, Self::DashboardApi];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Processor => "processor",
            Self::Alerts => "alerts",
            Self::DashboardApi => "dashboard-api",
        }
    }
}

/// Where the process listens.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    pub mqtt: Option<SocketAddr>,
    pub mqtt_tls: Option<SocketAddr>,
    pub dashboard: Option<SocketAddr>,
    pub operations: Option<SocketAddr>,
}

/// A role under way: what it is called, how it is told to end, and its end.
struct Running {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Every role that was asked for, running.
pub struct Roles {
    /// In the order in which they end.
    running: Vec<Running>,
    pub bound: Bound,
    readiness: Vec<Readiness>,
    journal: Arc<dyn Journal>,
    store: Store,
}

impl Roles {
    /// Opens the store, the journal and the lake, binds every port, and starts.
    pub async fn start(config: &Config, roles: &[Role], operations: Option<SocketAddr>, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        if config.journal.kind == JournalKind::Embedded && roles.len() < Role::ALL.len() {
            let remedy = "it is one process with every role in it: run `vigil serve`, or set journal.kind = \"kafka\"";
            return Err(ConfigError::Value { key: "journal.kind", value: "\"embedded\"".to_owned(), remedy: remedy.to_owned() }.into());
        }
        let wanted = |role| roles.contains(&role);
        // an embedded journal's lock first: a process that may not run must not touch the store
        let journal = installation::open_journal(config).await?;
        let store = installation::open_store(config).await?;
        let lake = config.path(&config.lake.path);
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(&lake).with_context(|| format!("the lake {}", lake.display()))?);
        let engine = engine::Config { horizon: micros(config.engine.horizon.0), window: micros(config.engine.window.0), ..engine::Config::default() };

        // ports first: one that is taken ends the process before anything runs
        let gateway = match wanted(Role::Ingest) {
            true => Some(gateway(config, &journal, &store).await?),
            false => None,
        };
        let operations = match operations {
            Some(address) => Some(Operations::bind(address, journal.clone(), store.clone(), metrics.clone()).await?),
            None => None,
        };
        let dashboard = match wanted(Role::DashboardApi) {
            true => Some(dashboard(config, engine, &journal, &store, &objects, metrics).await?),
            false => None,
        };
        let bound = Bound {
            mqtt: gateway.as_ref().and_then(Gateway::address),
            mqtt_tls: gateway.as_ref().and_then(Gateway::tls_address),
            dashboard: dashboard.as_ref().map(Dashboard::address),
            operations: operations.as_ref().map(Operations::address),
        };
        let readiness = dashboard.iter().map(Dashboard::readiness).chain(operations.iter().map(Operations::readiness)).collect();

        // in the order in which they end: no new reading, then what is under way, then those who watch it
        let mut running = Vec::new();
        if let Some(gateway) = gateway {
            running.push(once("ingest", |stop| async move { Ok(gateway.run(stop).await?) }));
        }
        if wanted(Role::Processor) {
            let wanted = processor::Config { engine, snapshot_every: config.processor.snapshot_every, snapshot_after: config.processor.snapshot_after.0 };
            let (from, to) = (journal.clone(), objects.clone());
            running.push(again("processor", move |stop| {
                let processor = Processor::new(wanted.clone(), from.clone(), to.clone());
                async move { Ok(processor.run(stop).await?) }
            }));
            let wanted = ArchiveConfig { roll_after: config.lake.roll_after.0, roll_rows: config.lake.roll_rows };
            let (from, to) = (journal.clone(), objects.clone());
            running.push(again("archive", move |stop| {
                let archive = Archive::new(wanted.clone(), from.clone(), to.clone());
                async move { Ok(archive.run(stop).await?) }
            }));
        }
        if wanted(Role::Alerts) {
            let wanted = alerts(config, bound.dashboard)?;
            let (from, to) = (journal.clone(), store.clone());
            running.push(again("alerts", move |stop| {
                let alerts = alerts::Alerts::new(wanted.clone(), from.clone(), to.clone());
                async move { Ok(alerts?.run(stop).await?) }
            }));
        }
        if let Some(dashboard) = dashboard {
            running.push(once("dashboard-api", |stop| async move { Ok(dashboard.run(stop).await?) }));
        }
        if let Some(operations) = operations {
            running.push(once("operations", |stop| async move { Ok(operations.run(stop).await?) }));
        }
        Ok(Self { running, bound, readiness, journal, store })
    }

    /// Until `stop`, or until a role ends that should not; then drains: an error of a role is the answer.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            name = ended(&mut self.running) => Some(name),
        };
        self.readiness.iter().for_each(Readiness::set_draining);
        tracing::info!("draining");
        let deadline = tokio::time::Instant::now() + DRAIN;
        let mut outcome = Ok(());
        for mut role in self.running {
            role.stop.cancel();
            let until = (deadline - CLOSE).min(tokio::time::Instant::now() + DRAIN_OF_ONE);
            match tokio::time::timeout_at(until, &mut role.task).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => {
                    tracing::error!(role = role.name, error = format!("{error:#}"), "a role failed");
                    outcome = outcome.and(Err(error.context(role.name)));
                }
                Ok(Err(error)) => outcome = outcome.and(Err(anyhow::Error::new(error).context(format!("{} ended badly", role.name)))),
                Err(_) => {
                    role.task.abort();
                    outcome = outcome.and(Err(anyhow::anyhow!("{} had not ended in time: what it had acknowledged is in the journal", role.name)));
                }
            }
        }
        let close = async {
            self.journal.close().await;
            self.store.close().await;
        };
        if tokio::time::timeout_at(deadline, close).await.is_err() {
            outcome = outcome.and(Err(anyhow::anyhow!("journal or store had not closed in time: what was acknowledged is durable, the rest is sent again")));
        }
        match (outcome, failed) {
            (Ok(()), Some(name)) => Err(anyhow::anyhow!("{name} ended by itself")),
            (outcome, _) => outcome,
        }
    }
}

/// Resolves when one of them has ended.
async fn ended(running: &mut [Running]) -> &'static str {
    loop {
        if let Some(role) = running.iter().find(|role| role.task.is_finished()) {
            return role.name;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn once<F: Future<Output = anyhow::Result<()>> + Send + 'static>(name: &'static str, run: impl FnOnce(CancellationToken) -> F) -> Running {
    let stop = CancellationToken::new();
    Running { name, task: tokio::spawn(run(stop.clone())), stop }
}

/// A role that goes on from what is durable: after a failure it is started again.
fn again<F: Future<Output = anyhow::Result<()>> + Send + 'static>(name: &'static str, run: impl Fn(CancellationToken) -> F + Send + 'static) -> Running {
    let stop = CancellationToken::new();
    let token = stop.clone();
    let task = tokio::spawn(async move {
        let mut pause = AGAIN;
        loop {
            let began = tokio::time::Instant::now();
            match run(token.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if token.is_cancelled() => return Err(error),
                Err(error) => tracing::error!(role = name, error = format!("{error:#}"), again_in = ?pause, "a role failed and is started again"),
            }
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = if began.elapsed() > 2 * LONGEST { AGAIN } else { (pause * 2).min(LONGEST) };
        }
    });
    Running { name, stop, task }
}

/// What the gateway is told.
pub fn ingest(config: &Config) -> anyhow::Result<ingest::Config> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let tls = config.ingest.listen_tls.0.map(|listen| ingest::Tls {
        listen,
        certificate: config.path(&config.ingest.certificate),
        key: config.path(&config.ingest.key),
        ca: (!config.ingest.device_ca.as_os_str().is_empty()).then(|| config.path(&config.ingest.device_ca)),
    });
    Ok(ingest::Config {
        listen: config.ingest.listen.0,
        tls,
        max_packet: size(config.ingest.max_packet.0),
        budget: size(config.ingest.budget.0),
        mappings: installation::mappings(config)?,
        bridges: bridges(config)?,
        onlooker: None,
    })
}

async fn gateway(config: &Config, journal: &Arc<dyn Journal>, store: &Store) -> anyhow::Result<Gateway> {
    Gateway::bind(ingest(config)?, journal.clone(), store.clone()).await.context("the gateway (ingest.listen, ingest.listen_tls)")
}

/// As [`Config::load`] checked them.
fn bridges(config: &Config) -> anyhow::Result<Vec<ingest::Bridge>> {
    let mut bridges = Vec::new();
    for wanted in &config.ingest.bridge {
        let (host, port) = wanted.host_and_port().context("ingest.bridge.address")?;
        bridges.push(ingest::Bridge {
            name: wanted.name.clone(),
            host: host.to_owned(),
            port,
            ca: (!wanted.ca.as_os_str().is_empty()).then(|| config.path(&wanted.ca)),
            user: wanted.user.clone(),
            password: installation::secret(config, "ingest.bridge.password_file", &wanted.password_file)?.map(Private::new),
            client_id: wanted.client_id(&config.installation),
            topics: wanted.topics.iter().map(|topic| TopicFilter::parse(topic)).collect::<Result<_, _>>().context("ingest.bridge.topics")?,
            hub: DeviceId::parse(&wanted.hub).context("ingest.bridge.hub")?,
            session: wanted.session.0,
            keep_alive: wanted.keep_alive.0,
        });
    }
    Ok(bridges)
}

async fn dashboard(
    config: &Config,
    engine: engine::Config,
    journal: &Arc<dyn Journal>,
    store: &Store,
    objects: &Arc<dyn Objects>,
    metrics: PrometheusHandle,
) -> anyhow::Result<Dashboard> {
    let none = || ConfigError::Value {
        key: "dashboard.listen",
        value: "\"\"".to_owned(),
        remedy: "the dashboard needs an address such as \"127.0.0.1:8080\"".to_owned(),
    };
    let listen = config.dashboard.listen.0.ok_or_else(none)?;
    let certificate = &config.dashboard.certificate;
    let tls = (!certificate.as_os_str().is_empty()).then(|| (config.path(certificate), config.path(&config.dashboard.key)));
    let wanted = dashboard_api::Config {
        listen,
        tls,
        session: config.dashboard.session.0,
        engine,
        partitions: config.journal.partitions,
        repage_after: config.alerts.repage_after.0,
        acknowledged_for: config.alerts.acknowledged_for.0,
        audit_spool: config.path(&config.dashboard.audit_spool),
        jobs: dashboard_api::Jobs {
            program: std::env::current_exe().context("where this program lies")?,
            config: config.file.clone(),
            folder: config.path(&config.dashboard.jobs),
            kept: config.dashboard.jobs_kept.0,
            leave: config.dashboard.jobs_leave.0,
        },
        build: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Dashboard::bind(wanted, journal.clone(), store.clone(), objects.clone(), Some(metrics)).await.context("the dashboard (dashboard.listen)")
}

/// The folders that this installation writes to.
fn disks(config: &Config) -> Vec<std::path::PathBuf> {
    let mut folders = vec![config.path(&config.lake.path)];
    if config.journal.kind == JournalKind::Embedded {
        folders.push(config.path(&config.journal.path));
    }
    folders.extend(config.store_url().strip_prefix("sqlite:").map(std::path::PathBuf::from));
    let mut there: Vec<std::path::PathBuf> = Vec::new();
    for folder in folders {
        // a file that is not made yet lies where its folder does
        let found = folder.ancestors().find(|folder| folder.is_dir()).map(Path::to_path_buf);
        let device = |folder: &Path| rustix::fs::stat(folder).map(|stat| stat.st_dev).ok();
        // one disk is told of once
        if let Some(found) = found.filter(|found| !there.iter().any(|other| device(other) == device(found))) {
            there.push(found);
        }
    }
    there
}

pub fn alerts(config: &Config, dashboard: Option<SocketAddr>) -> anyhow::Result<alerts::Config> {
    let mut webhooks = Vec::new();
    for webhook in &config.alerts.webhook {
        let secret = installation::secret(config, "alerts.webhook.secret_file", &webhook.secret_file)?;
        webhooks.push(alerts::Webhook::new(&webhook.name, webhook.url.parse().context("alerts.webhook.url")?, secret.as_ref().map(|s| s.as_str()))?);
    }
    let smtp = &config.alerts.smtp;
    let password = installation::secret(config, "alerts.smtp.password_file", Path::new(&smtp.password_file))?;
    let smtp = (!smtp.host.is_empty()).then(|| alerts::Smtp {
        host: smtp.host.clone(),
        port: smtp.port,
        starttls: smtp.starttls,
        from: smtp.from.clone(),
        to: smtp.to.clone(),
        user: smtp.user.clone(),
        password,
    });
    let mut sms = Vec::new();
    for one in &config.alerts.sms {
        sms.push(alerts::Sms {
            name: one.name.clone(),
            url: one.url.parse().context("alerts.sms.url")?,
            to: one.to.clone(),
            form: one.form.clone(),
            user: one.user.clone(),
            password: installation::secret(config, "alerts.sms.password_file", &one.password_file)?,
            receipt: one.receipt.clone(),
            per_minute: one.per_minute,
        });
    }
    let mut pagerduty = Vec::new();
    for one in &config.alerts.pagerduty {
        let routing_key = installation::secret(config, "alerts.pagerduty.routing_key_file", &one.routing_key_file)?.unwrap_or_default();
        pagerduty.push(alerts::PagerDuty { name: one.name.clone(), url: one.url.parse().context("alerts.pagerduty.url")?, routing_key });
    }
    let mut alertmanagers = Vec::new();
    for one in &config.alerts.alertmanager {
        let password = installation::secret(config, "alerts.alertmanager.password_file", &one.password_file)?;
        let url = one.url.parse().context("alerts.alertmanager.url")?;
        alertmanagers.push(alerts::Alertmanager { name: one.name.clone(), url, user: one.user.clone(), password });
    }
    Ok(alerts::Config {
        repage_after: config.alerts.repage_after.0,
        one_by_one: config.alerts.one_by_one,
        webhooks,
        smtp,
        sms,
        pagerduty,
        alertmanagers,
        watch: alerts::Watch {
            again_after: micros(config.alerts.technical_again_after.0),
            channels: config.alerts.technical.clone(),
            disks: disks(config),
            heartbeat: Some(&config.alerts.heartbeat_url).filter(|url| !url.is_empty()).map(|url| url.parse().context("alerts.heartbeat_url")).transpose()?,
            ..alerts::Watch::default()
        },
        dashboard_url: config.dashboard_url(dashboard),
        partitions: config.journal.partitions,
    })
}
