//! What can go wrong, as a caller may want to tell apart; each with what to do about it.

/// A failure of the store. `Display` is one sentence; [`StoreError::remedy`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{what} `{id}` does not exist")]
    NotFound { what: &'static str, id: String },
    #[error("{what} `{id}` exists already")]
    Exists { what: &'static str, id: String },
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(&'static str),
    /// If-Match did not match.
    #[error("it has changed in the meantime: its version is now {current}")]
    VersionMismatch { current: u64 },
    #[error("device `{device}` is assigned in that period already, from {from}")]
    Overlap { device: String, from: schemas::EventTime },
    #[error("{what} is not valid: {why}")]
    Invalid { what: &'static str, why: String },
    #[error("this store belongs to installation `{found}`, not to `{expected}`")]
    OtherInstallation { expected: String, found: String },
    #[error("this installation has {found} partitions, the configuration says {expected}")]
    OtherPartitions { expected: u32, found: u32 },
    #[error("the store's schema has version {found}, this program knows {known}")]
    NewerSchema { found: i64, known: i64 },
    #[error("migration {version} was applied with other content than this program has")]
    ChangedMigration { version: i64 },
    #[error("the store's address is not usable: {0}")]
    Address(String),
    /// What stands in a column is not what this program wrote there.
    #[error("the store holds a {what} that cannot be read")]
    Corrupt { what: &'static str },
    #[error("the store is busy: {attempts} attempts met other writers")]
    Busy { attempts: u32 },
    #[error("the store cannot be reached")]
    Unavailable(#[source] sqlx::Error),
    /// A statement the database refused: a defect of this program, or of the database.
    #[error("the store refused a statement")]
    Database(#[source] sqlx::Error),
    #[error("random numbers, hashing or a worker thread failed: {0}")]
    Secrets(&'static str),
}

impl StoreError {
    /// One sentence that says what to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "check the id",
            Self::Exists { .. } => "choose another id, or change the one that exists",
            Self::Conflict(_) => "look at its present state, then decide again",
            Self::VersionMismatch { .. } => "read it again and repeat the change with the new version",
            Self::Overlap { .. } => "end the other assignment first, or choose a later start",
            Self::Invalid { .. } => "correct the value and send it again",
            Self::OtherInstallation { .. } => "point `store` at this installation's database, or run `vigil init` with a new one",
            Self::OtherPartitions { .. } => "set the number of partitions back: it is fixed for the life of an installation",
            Self::NewerSchema { .. } => "run the newer program that wrote it, or restore the backup made before the upgrade",
            Self::ChangedMigration { .. } => "run a released build of the program: a migration never changes once released",
            Self::Address(_) => "write sqlite:///path/to/vigil.db or postgres://user:password@host/database",
            Self::Corrupt { .. } => "restore the store from its backup and report this",
            Self::Busy { .. } => "try again in a moment",
            Self::Unavailable(_) => "check that the database runs, is reachable, and has disk space",
            Self::Database(_) => "see the log for the database's own words and report this",
            Self::Secrets(_) => "check the machine's memory and load, then try again",
        }
    }

    /// Whether the same call may succeed later without anyone changing it.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable(_))
    }

    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => Self::Unavailable(error),
            E::Database(e) => {
                let code = e.code().unwrap_or_default();
                // PostgreSQL: connection exception, insufficient resources, operator intervention; SQLite: I/O, full, cannot open
                let away = ["08", "53", "57"].iter().any(|class| code.len() == 5 && code.starts_with(class));
                if away || sqlite(&code).is_some_and(|code| matches!(code, 10 | 13 | 14)) { Self::Unavailable(error) } else { Self::Database(error) }
            }
            E::Configuration(e) => Self::Address(e.to_string()),
            _ => Self::Database(error),
        }
    }
}

/// Whether another attempt at the whole transaction is the answer.
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(e) = error else { return false };
    // serialization failure, deadlock; SQLITE_BUSY, SQLITE_LOCKED, SQLITE_BUSY_SNAPSHOT
    e.code().is_some_and(|code| matches!(&*code, "40001" | "40P01") || matches!(sqlite(&code), Some(5 | 6)))
}

/// SQLite's primary code: the extended one has it in its lowest byte. PostgreSQL's have five characters.
fn sqlite(code: &str) -> Option<u32> {
    code.parse().ok().filter(|_| code.len() < 5).map(|code: u32| code & 0xff)
}
