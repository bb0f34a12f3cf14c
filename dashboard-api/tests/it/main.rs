//! A real server on port 0, a real store on SQLite, the journal in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod access;
mod actions;
mod alerts;
mod audit;
mod follower;
mod jobs;
mod observations;
mod openapi;
mod operations;
mod page;
mod reads;
mod settings;
mod shift;
mod stream;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use dashboard_api::{Config, Dashboard, DashboardError, Jobs, Readiness};
use journal::memory::MemoryJournal;
use journal::{Appender, Topic};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use processor::objects::LocalObjects;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use schemas::{
    AlertId, Arrived, Cause, ClockState, DeviceId, EventTime, Evidence, Input, Metric, Micros, Offset, Partition, PatientId, Priority, Private, Reading,
    ReadingId, RuleId, RuleSet, partition_of,
};
use serde_json::Value;
use store::Store;
use store::episodes::{Care, Episode, State};
use store::registry::{Device, Patient, Sex};
use store::users::{Role, User};
use store::wards::Ward;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PARTITIONS: u32 = 2;
pub const PASSWORD: &str = "correct horse battery";

/// Everything here is an event that must come: waiting longer than this is a failure, never a pass.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap_or_else(|_| panic!("{what} did not come within 30 s"))
}

/// Asks until the answer is there.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

pub fn now() -> EventTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    EventTime(i64::try_from(since.as_micros()).unwrap())
}

pub fn patient(id: &str) -> PatientId {
    PatientId::parse(id).unwrap()
}

pub fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

/// What a site is made of, before it runs.
pub struct Plan {
    pub store: Store,
    pub journal: MemoryJournal,
    pub config: Config,
    pub folder: TempDir,
}

pub struct Site {
    pub store: Store,
    pub journal: MemoryJournal,
    pub address: SocketAddr,
    pub readiness: Readiness,
    pub stop: CancellationToken,
    pub running: JoinHandle<Result<(), DashboardError>>,
    pub folder: TempDir,
    /// A clinician's, for all that a clinician may.
    pub token: String,
    client: Client,
}

impl Plan {
    /// Two wards, three patients, four devices, one user of each role.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}", folder.path().join("vigil.db").display())).await.unwrap();
        Self::on(store, folder).await
    }

    /// The same on PostgreSQL, where `VIGIL_TEST_POSTGRES` names a server.
    pub async fn on_postgres() -> Option<Self> {
        let Ok(server) = std::env::var("VIGIL_TEST_POSTGRES") else {
            println!("skipped: VIGIL_TEST_POSTGRES is not set; `dev/test-all` starts a PostgreSQL and sets it");
            return None;
        };
        sqlx::any::install_default_drivers();
        let schema = format!("t{}", store::secrets::random_id().replace('-', ""));
        let pool = sqlx::AnyPool::connect(&server).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&pool).await.unwrap();
        pool.close().await;
        let store = Store::open(&format!("{server}?options=-c%20search_path%3D{schema}")).await.unwrap();
        Some(Self::on(store, tempfile::tempdir().unwrap()).await)
    }

    async fn on(store: Store, folder: TempDir) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
        recorder();
        for (id, name) in [("w7", "Ward 7"), ("w8", "Ward 8")] {
            store.put_ward(&Ward { id: id.to_owned(), name: name.to_owned(), timezone: "Europe/Lisbon".to_owned() }).await.unwrap();
        }
        for (id, name, ward) in [("ada", "OKAFOR, Ada", "w7"), ("uwe", "BRANDT, Uwe", "w7"), ("eva", "LIND, Eva", "w8")] {
            add_patient(&store, id, name, ward).await;
        }
        for (id, test) in [("ox-ada", false), ("ox-uwe", false), ("ox-eva", false), ("ox-test", true)] {
            let created_at = now() - Micros::days(30);
            let model = "Nonin 3150".to_owned();
            store.add_device(&Device { id: device(id), model, test, hub: None, created_at, revoked_at: None, min_time: created_at }).await.unwrap();
        }
        for (name, role) in [("ana", Role::Admin), ("ito", Role::Clinician), ("lu", Role::Analyst)] {
            store.add_user(&User { name: name.to_owned(), role, created_at: now(), disabled_at: None }).await.unwrap();
        }
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            session: Duration::from_secs(3600),
            engine: engine::Config::default(),
            partitions: PARTITIONS,
            repage_after: Duration::from_secs(300),
            acknowledged_for: Duration::from_secs(3600),
            audit_spool: folder.path().join("audit.spool"),
            jobs: Jobs {
                program: "/bin/false".into(),
                config: folder.path().to_owned(),
                folder: folder.path().join("jobs"),
                kept: Duration::from_secs(3600),
                leave: 0,
            },
            build: "test".to_owned(),
        };
        Self { store, journal: MemoryJournal::new(PARTITIONS), config, folder }
    }

    pub fn objects(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    pub async fn start(self) -> Site {
        let objects = Arc::new(LocalObjects::open(self.objects()).unwrap());
        let (_, token) = self.store.new_api_token("ito", "tests", &["write"], now(), None).await.unwrap();
        let bound = Dashboard::bind(self.config, Arc::new(self.journal.clone()), self.store.clone(), objects, Some(recorder())).await.unwrap();
        let (address, readiness, stop) = (bound.address(), bound.readiness(), CancellationToken::new());
        let running = tokio::spawn(bound.run(stop.clone()));
        let site = Site {
            store: self.store,
            journal: self.journal,
            address,
            readiness,
            stop,
            running,
            folder: self.folder,
            token: token.to_string(),
            client: Client::new(),
        };
        until("readiness", async || (site.ask(Method::GET, "/readyz").send().await.ok()?.status() == StatusCode::OK).then_some(())).await;
        site
    }
}

/// One for the process: metrics are global.
fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap()).clone()
}

pub async fn add_patient(store: &Store, id: &str, name: &str, ward: &str) {
    let text = |text: &str| Private::new(text.to_owned());
    let (born, identifier, created_at) = (text("1945-07-14"), text("123 456 7890"), now() - Micros::days(30));
    let (id, name, ward) = (patient(id), text(name), ward.to_owned());
    store.add_patient(&Patient { id, name, born, sex: Sex::Female, identifier, ward, created_at, monitored: true }).await.unwrap();
}

impl Site {
    pub async fn start() -> Self {
        Plan::new().await.start().await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// As nobody.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).bearer_auth(&self.token).send().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    pub async fn token_of(&self, user: &str, scopes: &[&str]) -> String {
        self.store.new_api_token(user, "tests", scopes, now(), None).await.unwrap().1.to_string()
    }

    /// The value of a session's cookie.
    pub async fn session_of(&self, user: &str) -> String {
        self.store.new_session(user, now(), now() + Micros::hours(1)).await.unwrap().to_string()
    }

    pub async fn input(&self, patient: &PatientId, input: Input) {
        input_to(&self.journal, patient, input).await;
    }

    pub async fn rules(&self, toml: &str) {
        let set = RuleSet { version: 1, toml: toml.to_owned(), activated_at: now() - Micros::days(1), author: "ana".to_owned() };
        for partition in 0..PARTITIONS {
            self.journal.append(Topic::Inputs, Partition(partition), b"", Input::RuleSet(set.clone()).encode()).unwrap().await.unwrap();
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        soon("the end", self.running).await.unwrap().unwrap();
    }
}

pub async fn input_to(journal: &MemoryJournal, patient: &PatientId, input: Input) {
    let partition = partition_of(patient.as_bytes(), PARTITIONS);
    journal.append(Topic::Inputs, partition, patient.as_bytes(), input.encode()).unwrap().await.unwrap();
}

pub fn reading(of: &str, metric: Metric, value: f64, at: EventTime) -> Input {
    let device = device(&format!("ox-{of}"));
    Input::Reading(Reading {
        id: ReadingId::new(&device, metric, at, None),
        patient: patient(of),
        device,
        metric,
        value,
        at,
        stamped_at: at,
        received_at: now(),
        clock: ClockState::AsSent,
        boot: None,
        seq: None,
        typed: false,
        test: false,
        value_as_sent: value,
        unit_as_sent: String::new(),
        author: String::new(),
        format: None,
    })
}

/// An open alert of high priority, heard now.
pub fn episode(of: &str, offset: i64) -> Episode {
    let rule = RuleId::parse("spo2-low").unwrap();
    let patient = patient(of);
    Episode {
        alert: AlertId::by_offset(&patient, &rule, Offset(offset)),
        partition: partition_of(patient.as_bytes(), PARTITIONS),
        patient,
        rule,
        rule_name: "Low oxygen saturation".to_owned(),
        priority: Priority::High,
        state: State::Open,
        raised_at: now(),
        heard_at: Arrived(now().0),
        since: now() - Micros::minutes(4),
        cleared_at: None,
        summary: "SpO₂ 84 %, limit 90, for 4 min".to_owned(),
        evidence: vec![Evidence { column: "spo2_mean_300s".to_owned(), text: "mean(spo2, '5 min')".to_owned(), value: Some(84.0) }],
        late: false,
        brief: false,
        technical: false,
        test: false,
        acknowledged: None,
        care: Care::default(),
        version: 0,
        cause: Cause { offset: Offset(offset), ordinal: 0 },
    }
}

/// Checks the shape that every refusal has.
pub async fn problem(response: Response, status: StatusCode) -> Value {
    let path = response.url().path().to_owned();
    assert_eq!(response.status(), status, "{path}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    for member in ["type", "title", "detail", "remedy"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{path}: {member} in {body}");
    }
    assert_eq!(body["status"], status.as_u16(), "{path}");
    assert_eq!(body["request_id"], id.as_str(), "{path}");
    body
}
