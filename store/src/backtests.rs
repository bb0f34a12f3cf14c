//! Back-tests that were run: what a rule set would have told, so that it can be put into force with a reason.

use schemas::EventTime;

use crate::db::{Row, args, on_store};
use crate::{StoreError, Tx};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backtest {
    /// The digest of the result: the same question about the same data is the same back-test.
    pub id: String,
    pub created_at: EventTime,
    pub person: String,
    /// SHA-256 of the rules' text; empty: the rules as they stood in the log.
    pub rules_hash: String,
    pub data_hash: String,
    pub engine_version: String,
    /// By the journal's clock; `None`: the lake's own beginning or end.
    pub from: Option<EventTime>,
    pub to: Option<EventTime>,
    /// The report, as JSON.
    pub summary: String,
}

on_store! {
    read fn backtest(id: &str) -> Option<Backtest>;
    read fn backtests(limit: u32) -> Vec<Backtest>;
    write fn put_backtest(backtest: &Backtest) -> bool;
}

const COLUMNS: &str = "id, created_at, person, rules_hash, data_hash, engine_version, from_at, to_at, summary";

fn backtest(row: &Row) -> Result<Backtest, StoreError> {
    Ok(Backtest {
        id: row.text(0)?,
        created_at: row.time(1)?,
        person: row.text(2)?,
        rules_hash: row.text(3)?,
        data_hash: row.text(4)?,
        engine_version: row.text(5)?,
        from: row.opt_time(6)?,
        to: row.opt_time(7)?,
        summary: row.text(8)?,
    })
}

impl Tx<'_> {
    pub async fn backtest(&mut self, id: &str) -> Result<Option<Backtest>, StoreError> {
        self.row(&format!("SELECT {COLUMNS} FROM backtests WHERE id = $1"), args![id]).await?.map(|row| backtest(&row)).transpose()
    }

    /// The newest first.
    pub async fn backtests(&mut self, limit: u32) -> Result<Vec<Backtest>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM backtests ORDER BY created_at DESC, id LIMIT $1");
        self.rows(&sql, args![limit]).await?.iter().map(backtest).collect()
    }

    /// `false`: it was known, and stays whose it was.
    pub async fn put_backtest(&mut self, new: &Backtest) -> Result<bool, StoreError> {
        let sql = format!("INSERT INTO backtests ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING");
        let args = args![&new.id, new.created_at, &new.person, &new.rules_hash, &new.data_hash, &new.engine_version, new.from, new.to, &new.summary];
        Ok(self.execute(&sql, args).await? > 0)
    }
}
