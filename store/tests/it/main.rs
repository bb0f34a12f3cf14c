//! The same tests on SQLite and, where `VIGIL_TEST_POSTGRES` names a server (`dev/postgres up`), on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod at_once;
mod registry;
mod rule_changes;
mod state;
mod watch;

use schemas::{DeviceId, EventTime, Micros, PatientId, Private};
use store::Store;
use store::registry::{Device, Patient, Sex};

pub const NOW: EventTime = EventTime(1_795_168_800_000_000);

pub fn at(seconds: i64) -> EventTime {
    NOW + Micros::seconds(seconds)
}

/// A fresh store, gone with its folder or left in a schema of its own.
pub struct Fresh {
    pub store: Store,
    pub url: String,
    _folder: Option<tempfile::TempDir>,
}

pub async fn sqlite() -> Option<Fresh> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("vigil.db").display());
    Some(Fresh { store: Store::open(&url).await.unwrap(), url, _folder: Some(folder) })
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
    Some(Fresh { store: Store::open(&url).await.unwrap(), url, _folder: None })
}

/// Each test on both engines.
#[macro_export]
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_sqlite { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { let Some(fresh) = $crate::sqlite().await else { return }; super::$name(fresh).await; })* }
        mod on_postgres { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { let Some(fresh) = $crate::postgres().await else { return }; super::$name(fresh).await; })* }
    };
}

pub fn ada() -> PatientId {
    PatientId::parse("ada").unwrap()
}

pub fn oximeter() -> DeviceId {
    DeviceId::parse("oximeter-1").unwrap()
}

/// A ward with Ada in it and one oximeter.
pub async fn ward(store: &Store) {
    store.put_ward(&store::wards::Ward { id: "w7".to_owned(), name: "Ward 7".to_owned(), timezone: "Europe/Lisbon".to_owned() }).await.unwrap();
    for id in ["ada", "uwe"] {
        let text = |text: &str| Private::new(text.to_owned());
        let id = PatientId::parse(id).unwrap();
        let (name, born, identifier) = (text("OKAFOR, Ada"), text("1945-07-14"), text("123"));
        store.add_patient(&Patient { id, name, born, sex: Sex::Female, identifier, ward: "w7".to_owned(), created_at: NOW, monitored: true }).await.unwrap();
    }
    store
        .add_device(&Device { id: oximeter(), model: "Nonin".to_owned(), test: false, hub: None, created_at: NOW, revoked_at: None, min_time: at(-86_400) })
        .await
        .unwrap();
}
