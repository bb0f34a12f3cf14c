//! Who is on call, as versions of one TOML text; what it means is not the store's affair.

use schemas::EventTime;

use crate::db::{args, on_store};
use crate::{StoreError, Tx};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnCallText {
    pub version: u64,
    pub toml: String,
    pub author: String,
    pub activated_at: EventTime,
    /// What was wrong with it when it was loaded all the same; empty: nothing.
    pub forced: String,
}

on_store! {
    read fn oncall() -> Option<OnCallText>;
    read fn oncall_version() -> Option<u64>;
    write fn put_oncall(toml: &str, author: &str, forced: &str, if_match: u64, now: EventTime) -> OnCallText;
}

impl Tx<'_> {
    /// The one in force; `None`: none was ever loaded.
    pub async fn oncall(&mut self) -> Result<Option<OnCallText>, StoreError> {
        let row = self.row("SELECT version, toml, author, activated_at, forced FROM oncall ORDER BY version DESC LIMIT 1", &[]).await?;
        let read = |row: crate::db::Row| {
            let version = row.count(0, "version of the on-call configuration")?;
            Ok(OnCallText { version, toml: row.text(1)?, author: row.text(2)?, activated_at: row.time(3)?, forced: row.text(4)? })
        };
        row.map(read).transpose()
    }

    pub async fn oncall_version(&mut self) -> Result<Option<u64>, StoreError> {
        let row = self.row("SELECT MAX(version) FROM oncall", &[]).await?;
        let version = row.map(|row| row.opt_int(0)).transpose()?.flatten();
        version.map(|version| u64::try_from(version).map_err(|_| StoreError::Corrupt { what: "version of the on-call configuration" })).transpose()
    }

    /// Puts a text into force; `if_match` is the version it replaces, 0 for the first.
    pub async fn put_oncall(&mut self, toml: &str, author: &str, forced: &str, if_match: u64, now: EventTime) -> Result<OnCallText, StoreError> {
        let current = self.oncall_version().await?.unwrap_or(0);
        if current != if_match {
            return Err(StoreError::VersionMismatch { current });
        }
        let version = current + 1;
        let sql = "INSERT INTO oncall (version, toml, author, activated_at, forced) VALUES ($1, $2, $3, $4, $5)";
        self.execute(sql, args![version, toml, author, now, forced]).await?;
        Ok(OnCallText { version, toml: toml.to_owned(), author: author.to_owned(), activated_at: now, forced: forced.to_owned() })
    }
}
