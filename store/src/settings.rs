//! Settings of patients and rule sets: versioned, and on their way into the journal.
//!
//! A new version and its outbox row are one transaction. A relay claims outbox rows under a lease, appends them to `vigil.inputs`
//! (a row of a patient under that patient's key, a rule set to every partition), and reports them done when it has the receipts.

use bytes::Bytes;
use schemas::{EventTime, Input, Micros, PatientId, RuleSet, Settings};

use crate::db::{Row, args, on_store};
use crate::{StoreError, Tx};

/// An input on its way into the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub id: i64,
    /// The key; `None`: one copy to every partition.
    pub patient: Option<PatientId>,
    /// `Input`, encoded.
    pub input: Bytes,
}

on_store! {
    read fn settings(patient: &PatientId) -> Option<Settings>;
    read fn settings_history(patient: &PatientId) -> Vec<Settings>;
    write fn put_settings(settings: &Settings, if_match: u64, now: EventTime) -> Settings;
    read fn rules() -> Option<RuleSet>;
    read fn rules_history() -> Vec<RuleSet>;
    write fn put_rules(toml: &str, author: &str, if_match: u64, now: EventTime) -> RuleSet;
    write fn outbox_claim(owner: &str, now: EventTime, lease: Micros, limit: u32) -> Vec<Outgoing>;
    write fn outbox_done(owner: &str, ids: &[i64]) -> u64;
    write fn outbox_release(owner: &str) -> u64;
    read fn outbox_waiting() -> u64;
    read fn all_current() -> Vec<(Option<PatientId>, Bytes)>;
}

fn settings(row: &Row) -> Result<Settings, StoreError> {
    match Input::decode(&row.bytes(0)?) {
        Ok(Input::Settings(settings)) => Ok(settings),
        _ => Err(StoreError::Corrupt { what: "patient's settings" }),
    }
}

fn rules(row: &Row) -> Result<RuleSet, StoreError> {
    Ok(RuleSet { version: row.count(0, "rules version")?, toml: row.text(1)?, author: row.text(2)?, activated_at: row.time(3)? })
}

const RULES: &str = "SELECT version, toml, author, activated_at FROM rules";

impl Tx<'_> {
    /// The newest; `None` before the first.
    pub async fn settings(&mut self, patient: &PatientId) -> Result<Option<Settings>, StoreError> {
        let sql = "SELECT input FROM settings WHERE patient = $1 ORDER BY version DESC LIMIT 1";
        self.row(sql, args![patient]).await?.map(|row| settings(&row)).transpose()
    }

    /// Every version, newest first.
    pub async fn settings_history(&mut self, patient: &PatientId) -> Result<Vec<Settings>, StoreError> {
        self.rows("SELECT input FROM settings WHERE patient = $1 ORDER BY version DESC", args![patient]).await?.iter().map(settings).collect()
    }

    /// Writes the next version and its outbox row. `if_match` is the version that was read (0: there was none);
    /// `new.version` is ignored: the answer carries the new one.
    pub async fn put_settings(&mut self, new: &Settings, if_match: u64, now: EventTime) -> Result<Settings, StoreError> {
        self.patient(&new.patient).await?;
        let current = self.settings(&new.patient).await?.map_or(0, |settings| settings.version);
        if current != if_match {
            return Err(StoreError::VersionMismatch { current });
        }
        let new = Settings { version: current + 1, ..new.clone() };
        let input = Input::Settings(new.clone()).encode();
        let sql = "INSERT INTO settings (patient, version, monitored, input, author, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
        self.execute(sql, args![&new.patient, new.version, new.monitored, &input[..], &new.author, now]).await?;
        self.outbox_add(Some(&new.patient), &input, now).await?;
        Ok(new)
    }

    /// The rule set in force; `None` before the first.
    pub async fn rules(&mut self) -> Result<Option<RuleSet>, StoreError> {
        self.row(&format!("{RULES} ORDER BY version DESC LIMIT 1"), &[]).await?.map(|row| rules(&row)).transpose()
    }

    /// Every version, newest first.
    pub async fn rules_history(&mut self) -> Result<Vec<RuleSet>, StoreError> {
        self.rows(&format!("{RULES} ORDER BY version DESC"), &[]).await?.iter().map(rules).collect()
    }

    /// Writes the next version and its outbox row. `if_match` is the version that was read (0: there was none). Whether the rules
    /// compile is for the caller to know.
    pub async fn put_rules(&mut self, toml: &str, author: &str, if_match: u64, now: EventTime) -> Result<RuleSet, StoreError> {
        let current = self.rules().await?.map_or(0, |rules| rules.version);
        if current != if_match {
            return Err(StoreError::VersionMismatch { current });
        }
        let new = RuleSet { version: current + 1, toml: toml.to_owned(), activated_at: now, author: author.to_owned() };
        let sql = "INSERT INTO rules (version, toml, author, activated_at) VALUES ($1, $2, $3, $4)";
        self.execute(sql, args![new.version, toml, author, now]).await?;
        self.outbox_add(None, &Input::RuleSet(new.clone()).encode(), now).await?;
        Ok(new)
    }

    async fn outbox_add(&mut self, patient: Option<&PatientId>, input: &[u8], now: EventTime) -> Result<(), StoreError> {
        // the number goes on from the last one ever given, also when the outbox is empty, so that it is never another row's
        let next = self.meta("outbox_next").await?.map_or(Ok(1), |text| text.parse::<i64>()).map_err(|_| StoreError::Corrupt { what: "outbox number" })?;
        self.set_meta("outbox_next", &(next + 1).to_string()).await?;
        let sql = "INSERT INTO outbox (id, patient, input, created_at) VALUES ($1, $2, $3, $4)";
        self.execute(sql, args![next, patient, input, now]).await?;
        Ok(())
    }

    /// Leases the oldest rows to `owner` until `now + lease`; nothing while another relay holds a living lease, so versions reach the
    /// journal in order. The owner itself may claim again: it gets the same rows, and what came since.
    pub async fn outbox_claim(&mut self, owner: &str, now: EventTime, lease: Micros, limit: u32) -> Result<Vec<Outgoing>, StoreError> {
        let sql = "UPDATE outbox SET lease_owner = $1, lease_until = $3
                   WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $4)
                     AND NOT EXISTS (SELECT 1 FROM outbox other WHERE other.lease_until > $2 AND other.lease_owner <> $1)
                   RETURNING id, patient, input";
        let outgoing = |row: &Row| Ok(Outgoing { id: row.int(0)?, patient: row.opt_parse(1, "patient id")?, input: row.bytes(2)?.into() });
        let mut claimed = self.rows(sql, args![owner, now, now + lease, limit]).await?.iter().map(outgoing).collect::<Result<Vec<_>, StoreError>>()?;
        claimed.sort_by_key(|row| row.id);
        Ok(claimed)
    }

    /// They are in the journal; only rows that `owner` still leases are removed (another relay may be at them). How many.
    pub async fn outbox_done(&mut self, owner: &str, ids: &[i64]) -> Result<u64, StoreError> {
        let mut removed = 0;
        for id in ids {
            removed += self.execute("DELETE FROM outbox WHERE id = $1 AND lease_owner = $2", args![*id, owner]).await?;
        }
        Ok(removed)
    }

    /// Gives the lease back, at shutdown.
    pub async fn outbox_release(&mut self, owner: &str) -> Result<u64, StoreError> {
        self.execute("UPDATE outbox SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = $1", args![owner]).await
    }

    /// How many rows wait for the journal.
    pub async fn outbox_waiting(&mut self) -> Result<u64, StoreError> {
        self.row("SELECT COUNT(*) FROM outbox", &[]).await?.map_or(Ok(0), |row| row.count(0, "number of outbox rows"))
    }

    /// The rules and every patient's settings as they are now, as (key, encoded `Input`): what is appended again once a day.
    pub async fn all_current(&mut self) -> Result<Vec<(Option<PatientId>, Bytes)>, StoreError> {
        let mut all = Vec::new();
        if let Some(rules) = self.rules().await? {
            all.push((None, Input::RuleSet(rules).encode()));
        }
        let sql = "SELECT s.patient, s.input FROM settings s
                   WHERE s.version = (SELECT MAX(n.version) FROM settings n WHERE n.patient = s.patient) ORDER BY s.patient";
        for row in self.rows(sql, &[]).await? {
            all.push((Some(row.parse(0, "patient id")?), row.bytes(1)?.into()));
        }
        Ok(all)
    }
}
