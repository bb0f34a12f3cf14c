//! Which installation this store belongs to, and what is fixed for its life.

use crate::db::{args, on_store};
use crate::{Store, StoreError, Tx, secrets};

/// Made once, when the store is first opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    pub id: String,
    /// The number of partitions; `None` until [`Store::fix_partitions`].
    pub partitions: Option<u32>,
}

on_store! {
    read fn installation() -> Installation;
    read fn meta(name: &str) -> Option<String>;
    read fn metas(prefix: &str) -> Vec<(String, String)>;
    write fn set_meta(name: &str, value: &str) -> ();
    write fn fix_partitions(partitions: u32) -> ();
}

impl Store {
    pub(crate) async fn ensure_installation(&self) -> Result<(), StoreError> {
        if self.meta("installation").await?.is_some() {
            return Ok(());
        }
        let id = secrets::random_id();
        self.transaction(|tx| {
            let id = id.clone();
            Box::pin(async move {
                tx.execute("INSERT INTO meta (name, value) VALUES ('installation', $1) ON CONFLICT (name) DO NOTHING", args![id]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Refuses a store of another installation.
    pub async fn expect_installation(&self, id: &str) -> Result<(), StoreError> {
        let found = self.installation().await?.id;
        if found == id { Ok(()) } else { Err(StoreError::OtherInstallation { expected: id.to_owned(), found }) }
    }
}

impl Tx<'_> {
    pub async fn installation(&mut self) -> Result<Installation, StoreError> {
        let id = self.meta("installation").await?.ok_or(StoreError::Corrupt { what: "installation" })?;
        let partitions = self.meta("partitions").await?;
        let partitions = partitions.map(|n| n.parse().map_err(|_| StoreError::Corrupt { what: "number of partitions" })).transpose()?;
        Ok(Installation { id, partitions })
    }

    /// A small value under a name of the caller's.
    pub async fn meta(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        self.row("SELECT value FROM meta WHERE name = $1", args![name]).await?.map(|row| row.text(0)).transpose()
    }

    /// The names that start with `prefix`, with their values.
    pub async fn metas(&mut self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        // few rows, and every database has its own idea of LIKE
        let all = self.rows("SELECT name, value FROM meta ORDER BY name", &[]).await?;
        let all = all.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect::<Result<Vec<_>, StoreError>>()?;
        Ok(all.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect())
    }

    pub async fn set_meta(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.execute(sql, args![name, value]).await?;
        Ok(())
    }

    /// The first call fixes the number for the life of the installation; a later one with another number is refused.
    pub async fn fix_partitions(&mut self, partitions: u32) -> Result<(), StoreError> {
        match self.installation().await?.partitions {
            Some(found) if found == partitions => Ok(()),
            Some(found) => Err(StoreError::OtherPartitions { expected: partitions, found }),
            None => self.set_meta("partitions", &partitions.to_string()).await,
        }
    }
}
