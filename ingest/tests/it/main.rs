//! The gateway as devices see it: real sockets, a real store, a journal whose receipts can be held back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod access;
mod bridge;
mod broker;
mod client;
mod clients;
mod conformance;
mod durable;
mod hostile;
mod identity;
mod malformed;
mod moves;
mod onlooker;
mod poison;
mod protocol;
mod receipts;
mod tls;
mod turns;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ingest::{Config, Gateway, GatewayError};
use journal::memory::MemoryJournal;
use journal::{Journal, Topic};
use schemas::{DeadLetter, DeviceId, EventTime, Input, Micros, Partition, PatientId, Private};
use store::Store;
use store::registry::{Assignment, Device, Patient, Sex};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use client::{Raw, connect};

pub const PARTITIONS: u32 = 3;
pub const GOOD: &str = r#"{"metric":"spo2","value":97}"#;
pub const BAD: &str = r#"{"metric":"spo","value":97}"#;
pub const VITALS: &str = "v1/devices/ox/vitals";

/// Everything here is an event that must come: waiting longer than this is a failure, never a pass.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap_or_else(|_| panic!("{what} did not come within 30 s"))
}

pub fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

pub fn now() -> EventTime {
    EventTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64)
}

/// A store with patients ada (wears `ox`; `cuff` behind `hub`) and uwe (wears `strap`); `spare` is nobody's.
pub struct Registered {
    pub store: Store,
    pub passwords: HashMap<&'static str, String>,
    _folder: tempfile::TempDir,
}

pub async fn registered() -> Registered {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite://{}", folder.path().join("vigil.db").display())).await.unwrap();
    let from = now() - Micros::days(1);
    store.put_ward(&store::wards::Ward { id: "w".to_owned(), name: "W".to_owned(), timezone: "Europe/Lisbon".to_owned() }).await.unwrap();
    let text = |text: &str| Private::new(text.to_owned());
    for id in ["ada", "uwe"] {
        let (name, born, identifier) = (text("N"), text("1945-07-14"), text("1"));
        let id = PatientId::parse(id).unwrap();
        store.add_patient(&Patient { id, name, born, sex: Sex::Unknown, identifier, ward: "w".to_owned(), created_at: from, monitored: true }).await.unwrap();
    }
    let mut passwords = HashMap::new();
    for (id, hub) in [("hub", None), ("ox", None), ("cuff", Some("hub")), ("strap", None), ("spare", None)] {
        let hub = hub.map(device);
        let added = Device { id: device(id), model: "m".to_owned(), test: false, hub, created_at: from, revoked_at: None, min_time: from };
        store.add_device(&added).await.unwrap();
        passwords.insert(id, store.new_device_password(&device(id), from).await.unwrap().to_string());
    }
    for (id, patient) in [("ox", "ada"), ("cuff", "ada"), ("strap", "uwe")] {
        store.assign(&Assignment { device: device(id), patient: PatientId::parse(patient).unwrap(), from, until: None }).await.unwrap();
    }
    Registered { store, passwords, _folder: folder }
}

/// A gateway that serves.
pub struct Served {
    pub registered: Registered,
    pub address: SocketAddr,
    pub tls: Option<SocketAddr>,
    pub stop: CancellationToken,
    pub running: JoinHandle<Result<(), GatewayError>>,
}

pub fn config() -> Config {
    Config {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tls: None,
        max_packet: 256 << 10,
        budget: 16 << 20,
        mappings: intake::Mappings::shipped().unwrap(),
        bridges: Vec::new(),
        onlooker: None,
    }
}

pub async fn serve(config: Config, journal: Arc<dyn Journal>) -> Served {
    let registered = registered().await;
    let gateway = Gateway::bind(config, journal, registered.store.clone()).await.unwrap();
    let (address, tls) = (gateway.address().unwrap(), gateway.tls_address());
    let stop = CancellationToken::new();
    let running = tokio::spawn(gateway.run(stop.clone()));
    Served { registered, address, tls, stop, running }
}

/// With a journal in memory, whose handle is here as well.
pub async fn served() -> (Served, MemoryJournal) {
    let journal = MemoryJournal::new(PARTITIONS);
    (serve(config(), Arc::new(journal.clone())).await, journal)
}

impl Served {
    pub fn password(&self, device: &str) -> &str {
        &self.registered.passwords[device]
    }

    /// An open connection of `device` in MQTT `level` (4 or 5).
    pub async fn open(&self, level: u8, device: &str) -> Raw {
        let mut raw = Raw::dial(self.address, level).await;
        raw.send(&connect(level, "c", Some(device), Some(self.password(device)), 60)).await;
        let (kind, body) = raw.packet().await.expect("a connack");
        assert_eq!((kind, body[0], body[1]), (0x20, 0, 0), "{body:?}");
        raw
    }

    pub async fn stopped(self) {
        self.stop.cancel();
        soon("the end", self.running).await.unwrap().unwrap();
    }
}

/// The readings that are durable, in the order of each partition.
pub fn inputs(journal: &MemoryJournal) -> Vec<schemas::Reading> {
    let records = (0..PARTITIONS).flat_map(|p| journal.records(Topic::Inputs, Partition(p)));
    records
        .map(|record| match Input::decode(&record.value).unwrap() {
            Input::Reading(reading) => {
                assert_eq!(record.key, reading.patient.as_bytes(), "keyed by patient");
                reading
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

pub fn dead_letters(journal: &MemoryJournal) -> Vec<DeadLetter> {
    let records = (0..PARTITIONS).flat_map(|p| journal.records(Topic::DeadLetters, Partition(p)));
    records
        .map(|record| {
            let dead = DeadLetter::decode(&record.value).unwrap();
            assert_eq!(record.key, dead.device.as_bytes(), "keyed by device");
            dead
        })
        .collect()
}
