//! What a supervisor and a monitor ask of a process that runs no dashboard: `/livez`, `/readyz`, `/metrics`. None of it names a patient.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use journal::Journal;
use metrics_exporter_prometheus::PrometheusHandle;
use store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::may_read_metrics;
use crate::problem::Problem;
use crate::routes::health::{Checks, exposition, livez};
use crate::{DashboardError, Readiness};

/// The three answers, bound to their address.
pub struct Operations {
    tcp: TcpListener,
    address: SocketAddr,
    asked: Arc<Asked>,
}

struct Asked {
    store: Store,
    journal: Arc<dyn Journal>,
    metrics: PrometheusHandle,
    readiness: Readiness,
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Operations {
    pub async fn bind(address: SocketAddr, journal: Arc<dyn Journal>, store: Store, metrics: PrometheusHandle) -> Result<Self, DashboardError> {
        let failed = |source| DashboardError::Listen { key: "--operations", address, source };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        Ok(Self { tcp, address, asked: Arc::new(Asked { store, journal, metrics, readiness: Readiness::default() }) })
    }

    /// Where it listens: with port 0, the one that was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn readiness(&self) -> Readiness {
        self.asked.readiness.clone()
    }

    pub async fn run(self, stop: CancellationToken) -> Result<(), DashboardError> {
        let router = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics)).with_state(self.asked);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        // nothing of it is worth waiting for
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = axum::serve(self.tcp, service) => Ok(ended?),
        }
    }
}

async fn readyz(State(asked): State<Arc<Asked>>) -> Response {
    Checks::of(&asked.store, &*asked.journal, &asked.readiness).await.answer()
}

async fn metrics(State(asked): State<Arc<Asked>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap) -> Result<Response, Problem> {
    may_read_metrics(&asked.store, &headers, peer).await?;
    Ok(exposition(&asked.metrics))
}
