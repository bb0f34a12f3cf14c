//! Binding, accepting, and the orderly end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use intake::Mappings;
use journal::Journal;
use metrics::counter;
use rumqttc::MqttOptions;
use socket2::{SockRef, TcpKeepalive};
use store::{Store, StoreError};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bridge::{self, Bridge};
use crate::budget::Budget;
use crate::clocks::Clocks;
use crate::connections::{Connections, Notice};
use crate::handshake;
use crate::moves;
use crate::onlooker::Onlooker;
use crate::telemetry::{ACCEPTS_FAILED, Meters, Seldom};
use crate::tls;
use crate::turns::Turns;
use crate::view::{self, View};

/// For the acks of what was read; with the last words of each connection it is 10 s at most.
const DRAIN: Duration = Duration::from_secs(8);
const BACKLOG: u32 = 4096;
/// After an accept that failed.
const BREATH: Duration = Duration::from_millis(50);
/// MQTT's own limit.
const LARGEST_PACKET: usize = 268_435_460;

#[derive(Clone, Debug)]
pub struct Config {
    /// Plain TCP.
    pub listen: Option<SocketAddr>,
    pub tls: Option<Tls>,
    /// The largest packet that is read, headers included.
    pub max_packet: usize,
    /// Bytes of messages between socket and receipt, of all connections together.
    pub budget: usize,
    /// How the JSON of others is read.
    pub mappings: Mappings,
    /// Brokers whose messages are read as well.
    pub bridges: Vec<Bridge>,
    /// Is told what every connection does, and says whom the gateway knows.
    pub onlooker: Option<Arc<dyn Onlooker>>,
}

/// TLS 1.3; both files in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Of the authority that device certificates are from; without it a device has a password only.
    pub ca: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("cannot listen on {address}: {source}; set {key} to a free address of this machine")]
    Bind { key: &'static str, address: SocketAddr, source: io::Error },
    #[error("{name} = {path}: {reason}; name a PEM file", path = path.display())]
    Pem { name: &'static str, path: PathBuf, reason: String },
    #[error("ingest.max_packet = {0} B: between 1 KiB and 256 MiB are possible")]
    MaxPacket(usize),
    #[error("the registry cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error("a task of the gateway ended by itself: {0}")]
    Task(#[source] tokio::task::JoinError),
}

/// What all connections use.
pub(crate) struct Shared {
    pub journal: Arc<dyn Journal>,
    pub partitions: u32,
    pub view: watch::Receiver<Arc<View>>,
    pub connections: Arc<Connections>,
    pub clocks: Clocks,
    pub budget: Arc<Budget>,
    pub turns: Turns,
    /// For packets that are only half here.
    pub halves: Budget,
    pub meters: Meters,
    pub max_packet: usize,
    /// For the log line of a failed receipt.
    pub unwritten: Seldom,
    pub mappings: Mappings,
    pub onlooker: Option<Arc<dyn Onlooker>>,
}

impl Shared {
    /// Messages that are here already have to wait for room.
    pub fn is_full(&self) -> bool {
        self.budget.is_full() || self.journal.ready().now_or_never().is_none()
    }
}

/// Bound, not yet serving.
pub struct Gateway {
    shared: Arc<Shared>,
    store: Store,
    views: watch::Sender<Arc<View>>,
    plain: Option<TcpListener>,
    secure: Option<(TcpListener, TlsAcceptor)>,
    bridges: Vec<(Bridge, MqttOptions)>,
}

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, GatewayError> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| GatewayError::Bind { key, address, source })
}

impl Gateway {
    /// Reads the registry once, so that the first device is known, and takes the addresses.
    pub async fn bind(config: Config, journal: Arc<dyn Journal>, store: Store) -> Result<Self, GatewayError> {
        if !(1 << 10..=LARGEST_PACKET).contains(&config.max_packet) {
            return Err(GatewayError::MaxPacket(config.max_packet));
        }
        let bridges = config.bridges.into_iter().map(|bridge| Ok((bridge.options(config.max_packet)?, bridge)));
        let bridges = bridges.map(|made| made.map(|(options, bridge)| (bridge, options))).collect::<Result<_, GatewayError>>()?;
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let (views, view) = watch::channel(Arc::new(View::load(&store, config.onlooker.as_deref()).await?));
        let plain = config.listen.map(|address| listen("ingest.listen", address)).transpose()?;
        let secure = config.tls.as_ref().map(|tls| listen("ingest.listen_tls", tls.listen)).transpose()?;
        let shared = Shared {
            partitions: journal.partitions(),
            journal,
            view,
            connections: Arc::default(),
            clocks: Clocks::new(),
            budget: Arc::new(Budget::new(config.budget)),
            turns: Turns::new(),
            halves: Budget::of_halves(config.budget),
            meters: Meters::new(),
            max_packet: config.max_packet,
            mappings: config.mappings,
            unwritten: Seldom::default(),
            onlooker: config.onlooker,
        };
        Ok(Self { shared: Arc::new(shared), store, views, plain, secure: secure.zip(acceptor), bridges })
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.plain.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.secure.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Serves until `stop`. Then no new packet is read, what was read gets its ack, and connections end (MQTT 5: server shutting down),
    /// within 10 s. Dropped before that, it leaves bridges without a word, and devices for the runtime to end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), GatewayError> {
        let Self { shared, store, views, plain, secure, bridges: wanted } = self;
        let connections = shared.connections.clone();
        let tracker = TaskTracker::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(view::follow(store.clone(), views, connections.clone(), shared.onlooker.clone()));
        if shared.onlooker.is_none() {
            // who looks on keeps a journal for the while, and what is to be moved is not in it
            tasks.spawn(moves::follow(store, shared.clone()));
        }
        let listeners = plain.map(|listener| (listener, None)).into_iter().chain(secure.map(|(listener, acceptor)| (listener, Some(acceptor))));
        for (listener, acceptor) in listeners {
            let (shared, tracker) = (shared.clone(), tracker.clone());
            tasks.spawn(accept(listener, acceptor, shared, tracker));
        }
        let ending = CancellationToken::new();
        let mut bridges = JoinSet::new();
        for (bridge, options) in wanted {
            bridges.spawn(bridge::run(bridge, options, shared.clone(), ending.clone()));
        }
        let mut outcome = Ok(());
        tokio::select! {
            () = stop.cancelled() => {}
            Some(Err(error)) = tasks.join_next() => outcome = Err(GatewayError::Task(error)),
            Some(Err(error)) = bridges.join_next() => outcome = Err(GatewayError::Task(error)),
        }
        tasks.shutdown().await;
        connections.end_all(Notice::Stop);
        ending.cancel();
        tracker.close();
        if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
            tracing::warn!(connections = connections.open(), "connections still wait for receipts and are dropped; their devices will send again");
            connections.end_all(Notice::Kill);
            tracker.wait().await;
        }
        // they began to end with the connections, and have as long
        while bridges.join_next().await.is_some() {}
        outcome
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>, tracker: TaskTracker) {
    let failures = Seldom::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                prepare(&stream);
                tracker.spawn(handshake::serve(stream, acceptor.clone(), shared.connections.enter(), shared.clone()));
            }
            Err(error) => {
                counter!(ACCEPTS_FAILED).increment(1);
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
                    shared.connections.evict_oldest();
                }
                if failures.now() {
                    tracing::warn!(%error, open = shared.connections.open(), "a connection could not be accepted");
                }
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Acks leave at once, and a peer that vanished without keep alive is noticed by TCP.
fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));
    let prepared = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = prepared {
        tracing::debug!(%error, "a socket option could not be set");
    }
}
