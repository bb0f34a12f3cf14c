//! The two databases behind one connection type: opening, transactions, and the few types that cross the border.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use schemas::{AlertId, Arrived, EventTime, Micros, Offset};
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyPool, AssertSqlSafe, Executor, Row as _, Transaction};
use tokio::sync::watch;

use crate::StoreError;
use crate::error::is_conflict;

pub type BoxFuture<'t, T> = Pin<Box<dyn Future<Output = T> + Send + 't>>;

/// Attempts at one transaction before [`StoreError::Busy`].
const ATTEMPTS: u32 = 20;
const READERS: u32 = 4;

/// Which database stands behind the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// The relational state of an installation. Cheap to clone; all clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    write: AnyPool,
    read: AnyPool,
    engine: Engine,
    /// Entries of the audit chain are written one after the other; see [`crate::audit`].
    pub(crate) audit_turn: Arc<tokio::sync::Mutex<()>>,
    /// Counts the transactions that this process committed.
    changed: watch::Sender<u64>,
}

impl Store {
    /// Opens `sqlite:///path/vigil.db` (made if absent; its folder must exist) or `postgres://…`, and brings the schema up to date.
    /// On PostgreSQL, `?options=-c%20search_path%3Dname` keeps it in a schema of its own.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let store = if url.starts_with("sqlite:") {
            Self::open_sqlite(url).await?
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let pool = AnyPoolOptions::new().max_connections(10).acquire_timeout(Duration::from_secs(10)).connect(url).await?;
            Self { write: pool.clone(), read: pool, engine: Engine::Postgres, audit_turn: Arc::default(), changed: watch::Sender::default() }
        } else {
            return Err(StoreError::Address("it starts neither with sqlite: nor with postgres:".into()));
        };
        crate::migrate::run(&store).await?;
        store.ensure_installation().await?;
        Ok(store)
    }

    async fn open_sqlite(url: &str) -> Result<Self, StoreError> {
        if url.contains(":memory:") {
            return Err(StoreError::Address("a store in memory would be lost; name a file".into()));
        }
        let url = match (url.contains("mode="), url.contains('?')) {
            (true, _) => url.to_owned(),
            (false, true) => format!("{url}&mode=rwc"),
            (false, false) => format!("{url}?mode=rwc"),
        };
        let options = || AnyPoolOptions::new().acquire_timeout(Duration::from_secs(10)).idle_timeout(None).max_lifetime(None);
        let write = options()
            .max_connections(1)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("PRAGMA busy_timeout = 5000").await?;
                    connection.execute("PRAGMA journal_mode = WAL").await?;
                    connection.execute("PRAGMA synchronous = FULL").await?;
                    connection.execute("PRAGMA foreign_keys = ON").await?;
                    Ok(())
                })
            })
            .connect(&url)
            .await?;
        let read = options()
            .max_connections(READERS)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("PRAGMA busy_timeout = 5000").await?;
                    connection.execute("PRAGMA query_only = ON").await?;
                    Ok(())
                })
            })
            .connect_lazy(&url)?;
        Ok(Self { write, read, engine: Engine::Sqlite, audit_turn: Arc::default(), changed: watch::Sender::default() })
    }

    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Changes with every transaction that this process commits, so that who waits for a change need not poll. What another process
    /// commits is not in it: who must see that as well polls besides.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits for the connections in use, and closes all.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// Whether the database answers: for readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut tx = self.begin_read().await?;
        tx.rows("SELECT 1 + 0", &[]).await?;
        Ok(())
    }

    /// Runs `work` in one serializable transaction: all of it is stored, or nothing. An `Err` rolls back. When another transaction was
    /// in the way, `work` runs again from the start, so it must not do anything that cannot be repeated.
    ///
    /// `work` may borrow from its surroundings: `store.transaction(|tx| Box::pin(async move { tx.put_ward(ward).await }))`.
    pub async fn transaction<'a, T, F>(&self, mut work: F) -> Result<T, StoreError>
    where
        F: for<'t> FnMut(&'t mut Tx<'a>) -> BoxFuture<'t, Result<T, StoreError>>,
    {
        let begin = match self.engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        };
        for attempt in 1..=ATTEMPTS {
            let mut tx = match open(&self.write, begin).await {
                Ok(inner) => Tx { inner, failed: None, engine: self.engine, scope: PhantomData },
                Err(error) if is_conflict(&error) => {
                    pause(attempt).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let outcome = work(&mut tx).await;
            let Tx { inner, failed, .. } = tx;
            match (outcome, failed) {
                (Ok(value), None) => match inner.commit().await {
                    Ok(()) => {
                        self.changed.send_modify(|count| *count = count.wrapping_add(1));
                        return Ok(value);
                    }
                    Err(error) if is_conflict(&error) => {}
                    Err(error) => return Err(error.into()),
                },
                (outcome, failed) => {
                    // a rollback that fails leaves the connection to be closed, which rolls back as well
                    if let Err(error) = inner.rollback().await {
                        tracing::debug!(%error, "rollback failed");
                    }
                    match (outcome, failed) {
                        (_, Some(Failed::Conflict)) => {}
                        (Err(error), _) => return Err(error),
                        // PostgreSQL would turn this commit into a silent rollback
                        (Ok(_), _) => return Err(StoreError::Conflict("a statement of the transaction failed, so nothing of it was stored")),
                    }
                }
            }
            pause(attempt).await;
        }
        Err(StoreError::Busy { attempts: ATTEMPTS })
    }

    /// One consistent view for several reads; it stores nothing and is dropped when done.
    pub(crate) async fn begin_read(&self) -> Result<Tx<'static>, StoreError> {
        let begin = match self.engine {
            Engine::Sqlite => "BEGIN",
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(Tx { inner: open(&self.read, begin).await?, failed: None, engine: self.engine, scope: PhantomData })
    }

    /// For migrations: PostgreSQL's plain isolation, under a lock.
    pub(crate) async fn begin_migration(&self) -> Result<Tx<'static>, StoreError> {
        let begin = match self.engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        Ok(Tx { inner: open(&self.write, begin).await?, failed: None, engine: self.engine, scope: PhantomData })
    }
}

/// In a task of its own, so that a caller who goes away does not cancel it: sqlx gives a PostgreSQL connection whose BEGIN was cancelled
/// back to the pool with the transaction open, and the next one writes into a transaction that is read-only.
async fn open(pool: &AnyPool, begin: &'static str) -> Result<Transaction<'static, Any>, sqlx::Error> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.begin_with(begin).await }).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Grows from about 1 ms to 100 ms, with chance in it, so that two who met do not meet again.
async fn pause(attempt: u32) {
    let most = 2_000_u64 << attempt.min(6);
    tokio::time::sleep(Duration::from_micros(most / 2 + rand::random::<u64>() % (most / 2))).await;
}

#[derive(Debug, Clone, Copy)]
enum Failed {
    Conflict,
    Other,
}

/// An open transaction. All reads and writes of the store are methods of it; see [`Store::transaction`].
pub struct Tx<'a> {
    inner: Transaction<'static, Any>,
    failed: Option<Failed>,
    pub(crate) engine: Engine,
    scope: PhantomData<&'a ()>,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("engine", &self.engine).field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Tx<'_> {
    /// Runs a statement; how many rows it touched. The SQL is always this crate's own text, never a caller's.
    pub(crate) async fn execute(&mut self, sql: &str, args: &[Arg]) -> Result<u64, StoreError> {
        let outcome = bind(sql, args).execute(&mut *self.inner).await;
        match outcome {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.fail(error)),
        }
    }

    pub(crate) async fn rows(&mut self, sql: &str, args: &[Arg]) -> Result<Vec<Row>, StoreError> {
        let outcome = bind(sql, args).fetch_all(&mut *self.inner).await;
        match outcome {
            Ok(rows) => Ok(rows.into_iter().map(Row).collect()),
            Err(error) => Err(self.fail(error)),
        }
    }

    pub(crate) async fn row(&mut self, sql: &str, args: &[Arg]) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// For statements that a migration runs as they stand.
    pub(crate) async fn raw(&mut self, sql: &str) -> Result<(), StoreError> {
        let outcome = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *self.inner).await;
        outcome.map(drop).map_err(|error| self.fail(error))
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.inner.commit().await?)
    }

    fn fail(&mut self, error: sqlx::Error) -> StoreError {
        self.failed = Some(if is_conflict(&error) { Failed::Conflict } else { Failed::Other });
        error.into()
    }
}

fn bind<'q>(sql: &str, args: &[Arg]) -> sqlx::query::Query<'q, Any, sqlx::any::AnyArguments> {
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for arg in args {
        query = match arg {
            Arg::Text(value) => query.bind(value.clone()),
            Arg::Int(value) => query.bind(*value),
            Arg::Float(value) => query.bind(*value),
            Arg::Bytes(value) => query.bind(value.clone()),
        };
    }
    query
}

/// A value on its way into a statement. A missing one still knows its type, as PostgreSQL wants.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    Text(Option<String>),
    Int(Option<i64>),
    #[allow(dead_code, reason = "the SQL subset has it; no column needs it yet")]
    Float(Option<f64>),
    Bytes(Option<Vec<u8>>),
}

macro_rules! arg {
    ($($ty:ty => $variant:ident, |$value:ident| $how:expr;)*) => {$(
        impl From<$ty> for Arg {
            fn from($value: $ty) -> Self {
                Self::$variant(Some($how))
            }
        }
        impl From<Option<$ty>> for Arg {
            fn from(value: Option<$ty>) -> Self {
                Self::$variant(value.map(|$value| $how))
            }
        }
    )*};
}

arg! {
    &str => Text, |v| v.to_owned();
    String => Text, |v| v;
    &String => Text, |v| v.clone();
    &schemas::PatientId => Text, |v| v.to_string();
    &schemas::DeviceId => Text, |v| v.to_string();
    &schemas::RuleId => Text, |v| v.to_string();
    AlertId => Text, |v| v.to_string();
    &schemas::Private<String> => Text, |v| v.reveal().clone();
    i64 => Int, |v| v;
    bool => Int, |v| i64::from(v);
    u32 => Int, |v| i64::from(v);
    u64 => Int, |v| i64::try_from(v).unwrap_or(i64::MAX);
    EventTime => Int, |v| v.0;
    Arrived => Int, |v| v.0;
    Offset => Int, |v| v.0;
    Micros => Int, |v| v.0;
    &[u8] => Bytes, |v| v.to_vec();
    Vec<u8> => Bytes, |v| v;
    &[u8; 32] => Bytes, |v| v.to_vec();
}

macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::db::Arg::from($value)),*] };
}
pub(crate) use args;

/// A row of an answer; columns by position.
pub(crate) struct Row(AnyRow);

impl Row {
    pub fn text(&self, i: usize) -> Result<String, StoreError> {
        Ok(self.0.try_get(i)?)
    }
    pub fn opt_text(&self, i: usize) -> Result<Option<String>, StoreError> {
        Ok(self.0.try_get(i)?)
    }
    pub fn int(&self, i: usize) -> Result<i64, StoreError> {
        Ok(self.0.try_get(i)?)
    }
    pub fn opt_int(&self, i: usize) -> Result<Option<i64>, StoreError> {
        Ok(self.0.try_get(i)?)
    }
    pub fn bytes(&self, i: usize) -> Result<Vec<u8>, StoreError> {
        Ok(self.0.try_get(i)?)
    }
    pub fn time(&self, i: usize) -> Result<EventTime, StoreError> {
        self.int(i).map(EventTime)
    }
    pub fn opt_time(&self, i: usize) -> Result<Option<EventTime>, StoreError> {
        Ok(self.opt_int(i)?.map(EventTime))
    }
    pub fn flag(&self, i: usize) -> Result<bool, StoreError> {
        Ok(self.int(i)? != 0)
    }
    pub fn count(&self, i: usize, what: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.int(i)?).map_err(|_| StoreError::Corrupt { what })
    }
    pub fn small(&self, i: usize, what: &'static str) -> Result<u32, StoreError> {
        u32::try_from(self.int(i)?).map_err(|_| StoreError::Corrupt { what })
    }
    pub fn parse<T: std::str::FromStr>(&self, i: usize, what: &'static str) -> Result<T, StoreError> {
        self.text(i)?.parse().map_err(|_| StoreError::Corrupt { what })
    }
    pub fn opt_parse<T: std::str::FromStr>(&self, i: usize, what: &'static str) -> Result<Option<T>, StoreError> {
        self.opt_text(i)?.map(|text| text.parse().map_err(|_| StoreError::Corrupt { what })).transpose()
    }
    pub fn private(&self, i: usize) -> Result<schemas::Private<String>, StoreError> {
        self.text(i).map(schemas::Private::new)
    }
}

/// The same methods on [`Store`], each in a transaction of its own: `read` in a read-only view, `write` serializable.
macro_rules! on_store {
    ($($(#[$meta:meta])* $kind:ident fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $out:ty;)*) => {
        impl $crate::Store {
            $(
                $(#[$meta])*
                #[doc = concat!("[`Tx::", stringify!($name), "`](crate::Tx::", stringify!($name), "), in a transaction of its own.")]
                #[allow(clippy::too_many_arguments)]
                pub async fn $name(&self, $($arg: $ty),*) -> Result<$out, $crate::StoreError> {
                    $crate::db::on_store!(@$kind self, $name, ($($arg),*))
                }
            )*
        }
    };
    (@read $store:expr, $name:ident, ($($arg:ident),*)) => {{
        let mut tx = $store.begin_read().await?;
        tx.$name($($arg),*).await
    }};
    (@write $store:expr, $name:ident, ($($arg:ident),*)) => {
        $store.transaction(|tx| Box::pin(async move { tx.$name($($arg),*).await })).await
    };
}
pub(crate) use on_store;

/// An enum whose words stand in a TEXT column and in JSON alike.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant,)* }
        impl $name {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::StoreError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::StoreError::Invalid { what: stringify!($name), why: format!("expected one of {:?}", [$($word),*]) }),
                }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;
