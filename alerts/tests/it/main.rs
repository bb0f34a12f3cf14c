//! The whole role against real stores (SQLite, and PostgreSQL where `VIGIL_TEST_POSTGRES` names a server), a real HTTP receiver and a
//! real SMTP conversation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod a1;
mod canary;
mod channels;
mod mail;
mod model;
mod oncall;
mod pages;
mod receiver;
mod relay;
mod spy;
mod step;
mod trouble;
mod webhook;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alerts::{Alerts, Config, Webhook};
use journal::memory::MemoryJournal;
use journal::{Appender, Journal, Topic};
use schemas::{
    AlertId, Arrived, Cause, EventTime, Evidence, LatePolicy, Micros, Offset, Partition, PatientId, Priority, Private, RuleId, Transition, TransitionKind,
};
use store::Store;
use store::notifications::Notification;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PARTITIONS: u32 = 2;
pub const P0: Partition = Partition(0);

pub fn now() -> EventTime {
    EventTime(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap())
}

/// Waits for what must come; longer than 20 s is a failure, never a pass.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}: not within 20 s"))
}

pub struct Fresh {
    pub store: Store,
    pub url: String,
    _folder: Option<tempfile::TempDir>,
}

pub async fn sqlite() -> Option<Fresh> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("vigil.db").display());
    let store = Store::open(&url).await.unwrap();
    ward(&store).await;
    Some(Fresh { store, url, _folder: Some(folder) })
}

pub async fn postgres() -> Option<Fresh> {
    let Ok(server) = std::env::var("VIGIL_TEST_POSTGRES") else {
        println!("skipped: VIGIL_TEST_POSTGRES is not set; `dev/test-all` starts a PostgreSQL and sets it");
        return None;
    };
    sqlx::any::install_default_drivers();
    let schema = format!("t{}", store::secrets::random_id().replace('-', ""));
    let pool = sqlx::AnyPool::connect(&server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&pool).await.unwrap();
    pool.close().await;
    let url = format!("{server}?options=-c%20search_path%3D{schema}");
    let store = Store::open(&url).await.unwrap();
    ward(&store).await;
    Some(Fresh { store, url, _folder: None })
}

/// Each test on both databases.
#[macro_export]
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_sqlite { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { let Some(fresh) = $crate::sqlite().await else { return }; super::$name(fresh).await; })* }
        mod on_postgres { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { let Some(fresh) = $crate::postgres().await else { return }; super::$name(fresh).await; })* }
    };
}

/// Of the patient, what must never stand in a page.
pub const SECRETS: [&str; 6] = ["okafor", "Zelda", "1945-07-14", "987-65-4321", "SpO₂ 84", "84.25"];

pub fn patient() -> PatientId {
    PatientId::parse("patient-okafor").unwrap()
}

async fn ward(store: &Store) {
    let text = |text: &str| Private::new(text.to_owned());
    store.put_ward(&store::wards::Ward { id: "w7".to_owned(), name: "Ward Seven".to_owned(), timezone: "Europe/Lisbon".to_owned() }).await.unwrap();
    let patient = store::registry::Patient {
        id: patient(),
        name: text("OKAFOR, Zelda"),
        born: text("1945-07-14"),
        sex: store::registry::Sex::Female,
        identifier: text("987-65-4321"),
        ward: "w7".to_owned(),
        created_at: now(),
        monitored: true,
    };
    store.add_patient(&patient).await.unwrap();
}

/// A raising of alert `n` by the input at offset `n`; the other kinds are made from it.
pub fn raised(n: i64) -> Transition {
    let rule = RuleId::parse("spo2-low").unwrap();
    Transition {
        cause: Cause { offset: Offset(n), ordinal: 0 },
        kind: TransitionKind::Raised,
        alert: AlertId::by_offset(&patient(), &rule, Offset(n)),
        patient: patient(),
        rule,
        rule_name: "Low oxygen saturation".to_owned(),
        rule_version: 1,
        priority: Priority::High,
        at: now() - Micros::seconds(5),
        since: now() - Micros::seconds(65),
        heard_at: Arrived(now().0),
        late: false,
        late_policy: LatePolicy::Inbox,
        pages: true,
        readings: 3,
        evidence: vec![Evidence { column: "spo2_mean_300s".to_owned(), text: "mean(spo2, '5 min')".to_owned(), value: Some(84.25) }],
        summary: "SpO₂ 84 %, limit 90, of Zelda".to_owned(),
        reason: String::new(),
        holds: true,
        technical: false,
        settings_version: 1,
        shadow: false,
    }
}

/// What the engine says next of the same alert, by the input at offset `n`.
pub fn then(of: &Transition, kind: TransitionKind, n: i64) -> Transition {
    Transition {
        cause: Cause { offset: Offset(n), ordinal: 0 },
        kind,
        at: of.at + Micros::seconds(n),
        heard_at: of.heard_at + Micros::seconds(n),
        ..of.clone()
    }
}

pub async fn say(journal: &dyn Appender, partition: Partition, transitions: &[Transition]) {
    for t in transitions {
        journal.append(Topic::Alerts, partition, t.patient.as_bytes(), t.encode()).unwrap().await.unwrap();
    }
}

pub fn config(repage_after: Duration) -> Config {
    // the second and later installs find the first
    drop(rustls::crypto::ring::default_provider().install_default());
    Config { repage_after, one_by_one: 1000, dashboard_url: "https://vigil.example".to_owned(), partitions: PARTITIONS, ..Config::default() }
}

pub const LONG: Duration = Duration::from_secs(3600);

pub fn paging(repage_after: Duration, url: &str) -> Config {
    Config { webhooks: vec![Webhook::new("pager", url.parse().unwrap(), None).unwrap()], ..config(repage_after) }
}

/// A running role.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), alerts::AlertsError>>,
}

impl Running {
    pub fn start(config: &Config, journal: Arc<dyn Journal>, store: &Store) -> Self {
        let stop = CancellationToken::new();
        let alerts = Alerts::new(config.clone(), journal, store.clone()).unwrap();
        Self { task: tokio::spawn(alerts.run(stop.clone())), stop }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("the role ends").unwrap().unwrap();
    }

    /// As a crash: nothing is finished.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

pub fn memory() -> MemoryJournal {
    MemoryJournal::new(PARTITIONS)
}

pub fn arc(journal: &MemoryJournal) -> Arc<dyn Journal> {
    Arc::new(journal.clone())
}

/// Those of one kind.
pub async fn told(store: &Store, alert: AlertId, kind: &str) -> Vec<Notification> {
    store.notifications(alert).await.unwrap().into_iter().filter(|n| n.kind == kind).collect()
}

/// Waits until the role has read everything.
pub async fn read_all(store: &Store, journal: &MemoryJournal) {
    for partition in (0..PARTITIONS).map(Partition) {
        let end = Offset(journal.records(Topic::Alerts, partition).len() as i64);
        eventually("the end of the alerts", || async { (store.position(alerts::READER, Topic::Alerts.name(), partition).await.unwrap() == end).then_some(()) })
            .await;
    }
}
