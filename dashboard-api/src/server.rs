//! The role: what it is given, how it starts, serves and ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use journal::Journal;
use metrics_exporter_prometheus::PrometheusHandle;
use processor::objects::Objects;
use schemas::PatientId;
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::audit::{Auditor, Spool};
use crate::dead::DeadLetters;
use crate::follower::Follower;
use crate::hub::Hub;
use crate::jobs::{Jobs, Queue};
use crate::limits::SignInLimits;
use crate::listen::{Listener, Peer, TlsError, acceptor};
use crate::messages::Messages;
use crate::people::Person;
use crate::problem::Problem;
use crate::pulse::Pulse;
use crate::watch::Watcher;
use crate::{deltas, routes};

/// From the call to stop until requests that are still open are dropped; the rest of the drain fits behind it.
const DRAIN: Duration = Duration::from_secs(8);
/// Passwords that are checked at once.
const SIGN_INS: usize = 4;
/// Explanations that are made at once.
const EXPLANATIONS: usize = 2;
const CLEAN: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Certificate and key, PEM: then cookies are Secure and named `__Host-`.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How long a session lasts after its last request.
    pub session: Duration,
    /// As the processor has it: snapshots of another cut cannot be read.
    pub engine: engine::Config,
    pub partitions: u32,
    /// After an acknowledgement was taken back.
    pub repage_after: Duration,
    /// An acknowledgement, unless who gives it says otherwise.
    pub acknowledged_for: Duration,
    /// Audit entries stand here while the store does not take them.
    pub audit_spool: PathBuf,
    pub jobs: Jobs,
    /// Told to pages, so that they notice a new version.
    pub build: String,
}

/// Why the role cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    #[error("{key} = {address}: {source}; choose a free address")]
    Listen { key: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("dashboard.certificate and dashboard.key: {0}")]
    Tls(#[from] TlsError),
    #[error("the audit spool {path}: {source}; the dashboard writes there when the store does not answer, so it must be writable")]
    Spool { path: PathBuf, source: std::io::Error },
    #[error("the folder of jobs {path} (dashboard.jobs): {source}")]
    Jobs { path: PathBuf, source: std::io::Error },
    #[error("the journal has {found} partitions, the configuration says {expected}: set journal.partitions = {found}")]
    Partitions { expected: u32, found: u32 },
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    Store(#[from] StoreError),
    #[error("the journal cannot be followed: {0}")]
    Follow(String),
    #[error("the server failed: {0}")]
    Serve(#[from] std::io::Error),
    #[error("a part of the dashboard ended early: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

/// Handed to who drains the process.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on `/readyz` is 503, and requests are still answered.
    pub fn set_draining(&self) {
        self.0.store(true, Ordering::Release);
    }
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What every handler has.
pub(crate) struct App {
    pub store: Store,
    pub journal: Arc<dyn Journal>,
    /// The lake, and the processor's snapshots.
    pub objects: Arc<dyn Objects>,
    pub jobs: Arc<Queue>,
    pub explanations: Semaphore,
    pub hub: Arc<Hub>,
    pub pulse: Arc<Pulse>,
    pub follower: Arc<Follower>,
    pub dead: Arc<DeadLetters>,
    pub messages: Arc<Messages>,
    pub auditor: Auditor,
    pub limits: SignInLimits,
    pub sign_ins: Semaphore,
    pub readiness: Readiness,
    pub metrics: Option<PrometheusHandle>,
    pub installation: String,
    pub build: String,
    pub tls: bool,
    pub session: Duration,
    pub repage_after: Duration,
    pub acknowledged_for: Duration,
    pub engine: engine::Config,
    /// Ends every stream.
    pub streams: CancellationToken,
}

impl App {
    pub fn known_patient(&self, patient: &PatientId) -> Result<Arc<Person>, Problem> {
        self.hub.person(patient).ok_or_else(|| Problem::not_found("patient", patient.as_str()))
    }

    pub fn known_ward(&self, ward: &str) -> Result<(), Problem> {
        let known = self.hub.ward_views().iter().any(|known| known.id == ward);
        if known { Ok(()) } else { Err(Problem::not_found("ward", ward)) }
    }
}

/// The dashboard-api role, bound to its address.
pub struct Dashboard {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
    app: Arc<App>,
    auditing: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    stop_auditing: CancellationToken,
    watcher: Watcher,
}

impl std::fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dashboard").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Dashboard {
    /// Opens the address and the spool, and reads the store once; nothing is answered before [`Dashboard::run`].
    pub async fn bind(
        config: Config,
        journal: Arc<dyn Journal>,
        store: Store,
        objects: Arc<dyn Objects>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, DashboardError> {
        if journal.partitions() != config.partitions {
            return Err(DashboardError::Partitions { expected: config.partitions, found: journal.partitions() });
        }
        let tls = config.tls.as_ref().map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
        let spool = Spool::open(&config.audit_spool).map_err(|source| DashboardError::Spool { path: config.audit_spool.clone(), source })?;
        let jobs = Queue::open(config.jobs.clone()).map_err(|source| DashboardError::Jobs { path: config.jobs.folder.clone(), source })?;
        let listen = |source| DashboardError::Listen { key: "dashboard.listen", address: config.listen, source };
        let tcp = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = tcp.local_addr().map_err(listen)?;
        let installation = store.installation().await?.id;

        let (hub, pulse) = (Arc::new(Hub::new()), Arc::new(Pulse::new()));
        let mut watcher = Watcher::new(store.clone(), config.partitions);
        watcher.look(&hub, &pulse).await?;
        let stop_auditing = CancellationToken::new();
        let (auditor, auditing) = Auditor::new(store.clone(), spool, stop_auditing.clone());
        let messages = Arc::new(Messages::default());
        let app = Arc::new(App {
            follower: Arc::new(Follower::new(config.engine, journal.clone(), objects.clone(), hub.clone(), messages.clone(), pulse.clone())),
            dead: Arc::new(DeadLetters::new(journal.clone(), messages.clone())),
            messages,
            store,
            journal,
            objects,
            jobs: Arc::new(jobs),
            explanations: Semaphore::new(EXPLANATIONS),
            hub,
            pulse,
            auditor,
            limits: SignInLimits::new(),
            sign_ins: Semaphore::new(SIGN_INS),
            readiness: Readiness::default(),
            metrics,
            installation,
            build: config.build,
            tls: tls.is_some(),
            session: config.session,
            repage_after: config.repage_after,
            acknowledged_for: config.acknowledged_for,
            engine: config.engine,
            streams: CancellationToken::new(),
        });
        Ok(Self { tcp, tls, address, app, auditing: Box::pin(auditing), stop_auditing, watcher })
    }

    /// Where it listens: with port 0, the one that was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn readiness(&self) -> Readiness {
        self.app.readiness.clone()
    }

    /// Until `stop`, or until it cannot go on. Then streams end, requests are finished, the audit is written: 10 s at most.
    pub async fn run(self, stop: CancellationToken) -> Result<(), DashboardError> {
        let Self { tcp, tls, app, auditing, stop_auditing, watcher, .. } = self;
        let background = CancellationToken::new();
        let auditing = tokio::spawn(auditing);
        let publisher = {
            let hub = app.hub.clone();
            std::thread::Builder::new().name("vigil-deltas".to_owned()).spawn(move || deltas::publish(&hub))?
        };
        let mut tasks = background_tasks(&app, watcher, &background);
        let closing = CancellationToken::new();
        let listener = Listener::new(tcp, tls, closing.clone())?;
        let service = routes::router(app.clone()).into_make_service_with_connect_info::<Peer>();
        let mut serving = tokio::spawn(axum::serve(listener, service).with_graceful_shutdown(closing.clone().cancelled_owned()).into_future());

        let mut served = false;
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = tasks.join_next() => match ended {
                Some(Ok(ended)) => ended,
                Some(Err(error)) => Err(error.into()),
                None => Ok(()),
            },
            ended = &mut serving => {
                served = true;
                match ended {
                    Ok(ended) => ended.map_err(Into::into),
                    Err(error) => Err(error.into()),
                }
            }
        };

        app.readiness.set_draining();
        app.streams.cancel();
        closing.cancel();
        if !served && tokio::time::timeout(DRAIN, &mut serving).await.is_err() {
            tracing::warn!("requests were still open after 8 s and are dropped");
            serving.abort();
        }
        background.cancel();
        app.hub.close();
        stop_auditing.cancel();
        let rest = async {
            while tasks.join_next().await.is_some() {}
            auditing.await
        };
        match tokio::time::timeout(Duration::from_secs(2), rest).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the audit ended early"),
            Err(_) => tracing::warn!("the dashboard's tasks did not end in time"),
        }
        // it was woken by `close` and is gone within a frame
        if publisher.is_finished() && publisher.join().is_err() {
            tracing::error!("the thread that makes deltas panicked");
        }
        ended
    }
}

fn background_tasks(app: &Arc<App>, watcher: Watcher, stop: &CancellationToken) -> JoinSet<Result<(), DashboardError>> {
    let mut tasks = JoinSet::new();
    let (here, until) = (app.clone(), stop.clone());
    tasks.spawn(async move { here.follower.run(&until).await.map_err(|error| DashboardError::Follow(error.to_string())) });
    let (here, until) = (app.clone(), stop.clone());
    tasks.spawn(async move { here.dead.run(&until).await.map_err(|error| DashboardError::Follow(error.to_string())) });
    let (here, until) = (app.clone(), stop.clone());
    tasks.spawn(async move {
        here.follower.measure(&until).await;
        Ok(())
    });
    let (here, until) = (app.clone(), stop.clone());
    tasks.spawn(async move {
        watcher.run(&here.hub, &here.pulse, &until).await;
        Ok(())
    });
    let (here, until) = (app.clone(), stop.clone());
    tasks.spawn(async move {
        here.jobs.clone().run(&until).await;
        Ok(())
    });
    let (here, until) = (app.clone(), stop.clone());
    tasks.spawn(async move {
        clean(&here.store, &until).await;
        Ok(())
    });
    tasks
}

/// Sessions and links that are over leave the store.
async fn clean(store: &Store, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CLEAN) => {}
        }
        if let Err(error) = store.remove_expired(crate::now()).await {
            tracing::warn!(%error, "sessions that are over were not removed");
        }
    }
}
