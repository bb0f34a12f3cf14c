//! The registry as the gateway knows it, renewed each second when it moved.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use intake::{Assigned, Known, Registry};
use metrics::counter;
use schemas::DeviceId;
use store::registry::{CredentialKind, RegistryView};
use store::{Store, StoreError};
use tokio::sync::watch;

use crate::connections::Connections;
use crate::onlooker::Onlooker;
use crate::telemetry::REGISTRY_FAILURES;

const EVERY: Duration = Duration::from_secs(1);
/// While the store is away, this often is enough for the log.
const REMIND: Duration = Duration::from_secs(60);

pub(crate) struct View {
    pub version: u64,
    pub registry: Registry,
    access: HashMap<DeviceId, Access>,
    /// By fingerprint: whose it is, and under which id it is registered.
    certificates: HashMap<String, (DeviceId, String)>,
}

/// How a device gets in.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub revoked: bool,
    pub passwords: Vec<Password>,
    /// The ids of those that are registered.
    pub certificates: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Password {
    pub credential: String,
    pub hash: String,
}

impl View {
    pub fn new(view: RegistryView) -> Self {
        let mut access: HashMap<DeviceId, Access> = HashMap::with_capacity(view.devices.len());
        for device in &view.devices {
            access.insert(device.id.clone(), Access { revoked: device.revoked_at.is_some(), ..Access::default() });
        }
        let mut certificates = HashMap::new();
        for credential in view.credentials {
            match (credential.kind, access.get_mut(&credential.device)) {
                (CredentialKind::Password, Some(access)) => access.passwords.push(Password { credential: credential.id, hash: credential.value }),
                (CredentialKind::Certificate, Some(access)) => {
                    access.certificates.push(credential.id.clone());
                    certificates.insert(credential.value, (credential.device, credential.id));
                }
                (_, None) => {}
            }
        }
        let known = view.devices.into_iter().map(|device| Known {
            revoked: device.revoked_at.is_some(),
            device: device.id,
            test: device.test,
            hub: device.hub,
            min_time: device.min_time,
        });
        let assigned = view.assignments.into_iter().map(|a| Assigned { device: a.device, patient: a.patient, from: a.from, until: a.until });
        Self { version: view.version, registry: Registry::new(known, assigned), access, certificates }
    }

    pub async fn load(store: &Store, onlooker: Option<&dyn Onlooker>) -> Result<Self, StoreError> {
        let whole = store.registry_view().await?;
        Ok(Self::new(match onlooker {
            Some(onlooker) => onlooker.registry(whole),
            None => whole,
        }))
    }

    pub fn access(&self, device: &DeviceId) -> Option<&Access> {
        self.access.get(device)
    }

    /// Whose certificate it is, and its credential.
    pub fn certified(&self, fingerprint: &str) -> Option<&(DeviceId, String)> {
        self.certificates.get(fingerprint)
    }

    /// Whether a connection that came in with this credential may go on.
    pub fn admits(&self, device: &DeviceId, credential: &str) -> bool {
        let known =
            |access: &Access| access.certificates.iter().chain(access.passwords.iter().map(|password| &password.credential)).any(|known| known == credential);
        self.access(device).is_some_and(|access| !access.revoked && known(access))
    }
}

/// Runs until it is dropped. While the store is away the last view stays in force.
pub(crate) async fn follow(store: Store, view: watch::Sender<Arc<View>>, connections: Arc<Connections>, onlooker: Option<Arc<dyn Onlooker>>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut away: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let before = view.borrow().version;
        match renewed(&store, before, onlooker.as_deref()).await {
            Ok(new) => {
                if away.take().is_some() {
                    tracing::info!("the registry can be read again");
                }
                if let Some(new) = new {
                    let new = Arc::new(new);
                    tracing::debug!(version = new.version, "registry renewed");
                    view.send_replace(new.clone());
                    connections.sweep(&new);
                }
            }
            Err(error) => {
                counter!(REGISTRY_FAILURES).increment(1);
                if away.is_none_or(|said| said.elapsed() >= REMIND) {
                    tracing::warn!(%error, version = before, "the registry cannot be read; the last one known stays in force");
                    away = Some(Instant::now());
                }
            }
        }
    }
}

async fn renewed(store: &Store, version: u64, onlooker: Option<&dyn Onlooker>) -> Result<Option<View>, StoreError> {
    if store.registry_version().await? == version { Ok(None) } else { View::load(store, onlooker).await.map(Some) }
}
