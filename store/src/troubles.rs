//! What is wrong with Vigil itself: evaluation that stands still, pages that reach nobody, a full disk.

use schemas::EventTime;
use serde::Serialize;

use crate::db::{Row, args, on_store};
use crate::{StoreError, Tx};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Which one: `evaluation`, `pages`, `disk:/srv/vigil/data`, `channel:sms:+351…`.
    pub name: String,
    pub since: EventTime,
    /// In words for whoever is told; they name no patient.
    pub what: String,
    /// When somebody was last told.
    pub told_at: Option<EventTime>,
    /// How often somebody was.
    pub tellings: u32,
    pub over_at: Option<EventTime>,
    /// Who is at it, and until when nobody is told again.
    pub acknowledged: Option<(String, EventTime)>,
}

/// How many of the patients who have a device are silent, behind one hub or, of all of them, anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// `None`: of everybody.
    pub hub: Option<String>,
    pub patients: u64,
    pub silent: u64,
}

on_store! {
    read fn silences(now: EventTime) -> Vec<Silence>;
    read fn troubles() -> Vec<Trouble>;
    write fn trouble_begins(name: &str, what: &str, now: EventTime) -> bool;
    write fn trouble_is_over(name: &str, since: EventTime, now: EventTime) -> ();
    write fn trouble_is_back(name: &str, since: EventTime) -> ();
    write fn trouble_was_told(name: &str, since: EventTime, now: EventTime) -> ();
    write fn trouble_is_acknowledged(name: &str, by: &str, until: EventTime) -> bool;
    write fn trouble_is_closed(name: &str, since: EventTime) -> ();
}

fn trouble(row: &Row) -> Result<Trouble, StoreError> {
    Ok(Trouble {
        name: row.text(0)?,
        since: row.time(1)?,
        what: row.text(2)?,
        told_at: row.opt_time(3)?,
        tellings: row.small(4, "number of tellings")?,
        over_at: row.opt_time(5)?,
        acknowledged: row.opt_text(6)?.zip(row.opt_time(7)?),
    })
}

impl Tx<'_> {
    /// Silent is who has an open technical alert. Devices under test and those that are revoked do not count.
    pub async fn silences(&mut self, now: EventTime) -> Result<Vec<Silence>, StoreError> {
        let devices = "FROM assignments a JOIN devices d ON d.id = a.device
                       LEFT JOIN episodes e ON e.patient = a.patient AND e.state = 'open' AND e.technical = 1 AND e.test = 0
                       WHERE a.from_at <= $1 AND (a.until_at IS NULL OR a.until_at > $1) AND d.test = 0 AND d.revoked_at IS NULL";
        let counted = "COUNT(DISTINCT a.patient), COUNT(DISTINCT e.patient)";
        let mut rows = self.rows(&format!("SELECT CAST(NULL AS TEXT), {counted} {devices}"), args![now]).await?;
        rows.extend(self.rows(&format!("SELECT d.hub, {counted} {devices} AND d.hub IS NOT NULL GROUP BY d.hub ORDER BY d.hub"), args![now]).await?);
        let count = |row: &Row, at| row.int(at).map(|count| u64::try_from(count).unwrap_or_default());
        rows.iter().map(|row| Ok(Silence { hub: row.opt_text(0)?, patients: count(row, 1)?, silent: count(row, 2)? })).collect()
    }

    /// Those that last, and those that are over and of which nobody was told that yet.
    pub async fn troubles(&mut self) -> Result<Vec<Trouble>, StoreError> {
        let sql =
            "SELECT name, since, what, told_at, tellings, over_at, acknowledged_by, acknowledged_until FROM troubles WHERE closed = 0 ORDER BY since, name";
        self.rows(sql, &[]).await?.iter().map(trouble).collect()
    }

    /// `false`: it is there already.
    pub async fn trouble_begins(&mut self, name: &str, what: &str, now: EventTime) -> Result<bool, StoreError> {
        let sql = "INSERT INTO troubles (name, since, what, tellings, closed) VALUES ($1, $2, $3, 0, 0) ON CONFLICT (name, since) DO NOTHING";
        Ok(self.execute(sql, args![name, now, what]).await? == 1)
    }

    pub async fn trouble_is_over(&mut self, name: &str, since: EventTime, now: EventTime) -> Result<(), StoreError> {
        self.execute("UPDATE troubles SET over_at = $3 WHERE name = $1 AND since = $2", args![name, since, now]).await.map(drop)
    }

    /// It came back before anybody was told that it was over.
    pub async fn trouble_is_back(&mut self, name: &str, since: EventTime) -> Result<(), StoreError> {
        self.execute("UPDATE troubles SET over_at = NULL WHERE name = $1 AND since = $2", args![name, since]).await.map(drop)
    }

    pub async fn trouble_was_told(&mut self, name: &str, since: EventTime, now: EventTime) -> Result<(), StoreError> {
        self.execute("UPDATE troubles SET told_at = $3, tellings = tellings + 1 WHERE name = $1 AND since = $2", args![name, since, now]).await.map(drop)
    }

    /// The one of this name that lasts. `false`: none does.
    pub async fn trouble_is_acknowledged(&mut self, name: &str, by: &str, until: EventTime) -> Result<bool, StoreError> {
        let sql = "UPDATE troubles SET acknowledged_by = $2, acknowledged_until = $3 WHERE name = $1 AND closed = 0 AND over_at IS NULL";
        Ok(self.execute(sql, args![name, by, until]).await? >= 1)
    }

    /// Nobody needs to be told of it any more.
    pub async fn trouble_is_closed(&mut self, name: &str, since: EventTime) -> Result<(), StoreError> {
        self.execute("UPDATE troubles SET closed = 1 WHERE name = $1 AND since = $2", args![name, since]).await.map(drop)
    }
}
