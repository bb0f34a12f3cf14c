//! Migrations: one set of SQL for both databases, applied in order, each once, and never changed afterwards.

use sha2::{Digest, Sha256};

use crate::db::args;
use crate::{Engine, Store, StoreError};

/// `(version, SQL)`. `{BYTES}` stands for the database's type of bytes.
const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("migrations/0001_start.sql")),
    (2, include_str!("migrations/0002_watched.sql")),
    (3, include_str!("migrations/0003_moves.sql")),
    (4, include_str!("migrations/0004_rule_changes.sql")),
    (5, include_str!("migrations/0005_backtests.sql")),
    (6, include_str!("migrations/0006_care.sql")),
    (7, include_str!("migrations/0007_oncall.sql")),
    (8, include_str!("migrations/0008_troubles.sql")),
    (9, include_str!("migrations/0009_troubles_acknowledged.sql")),
    (10, include_str!("migrations/0010_episodes_in_order.sql")),
    (11, include_str!("migrations/0011_erasures.sql")),
    (12, include_str!("migrations/0012_shifts.sql")),
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY, checksum TEXT NOT NULL)";

pub(crate) async fn run(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.begin_migration().await?;
    if tx.engine == Engine::Postgres {
        // two processes that start together take turns
        tx.rows("SELECT pg_advisory_xact_lock(7305182211406)", &[]).await?;
    }
    tx.raw(TABLE).await?;
    let applied = tx.rows("SELECT version, checksum FROM schema_migrations ORDER BY version", &[]).await?;
    let known = MIGRATIONS.last().map_or(0, |(version, _)| *version);
    let mut done = Vec::with_capacity(applied.len());
    for row in &applied {
        let (version, checksum) = (row.int(0)?, row.text(1)?);
        match MIGRATIONS.iter().find(|(v, _)| *v == version) {
            None => return Err(StoreError::NewerSchema { found: version, known }),
            Some((_, sql)) if checksum_of(sql) != checksum => return Err(StoreError::ChangedMigration { version }),
            Some(_) => done.push(version),
        }
    }
    let bytes = if tx.engine == Engine::Postgres { "BYTEA" } else { "BLOB" };
    for (version, sql) in MIGRATIONS.iter().filter(|(version, _)| !done.contains(version)) {
        tx.raw(&sql.replace("{BYTES}", bytes)).await?;
        tx.execute("INSERT INTO schema_migrations (version, checksum) VALUES ($1, $2)", args![*version, checksum_of(sql)]).await?;
        tracing::info!(version, "store migrated");
    }
    tx.commit().await
}

fn checksum_of(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
