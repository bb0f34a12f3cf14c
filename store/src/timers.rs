//! Timers as rows (A3): they survive restarts, and fire once. Whoever claims one acts and finishes it in a transaction of its own;
//! if it dies in between, the lease runs out and another claims it.

use schemas::{AlertId, EventTime, Micros};
use serde::{Deserialize, Serialize};

use crate::db::{Row, args, on_store};
use crate::{StoreError, Tx};

/// The kind of a timer that pages again, and of the notifications it adds.
pub const REPAGE: &str = "repage";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// The caller's, so that a repeated [`Tx::add_timer`] adds nothing.
    pub id: String,
    pub alert: AlertId,
    /// [`REPAGE`] …
    pub kind: String,
    pub due: EventTime,
    pub lease_owner: Option<String>,
    pub lease_until: Option<EventTime>,
    /// Finished or cancelled.
    pub done: bool,
}

impl Timer {
    /// The one that looks whether anybody has taken the alert.
    pub fn id_of(alert: AlertId) -> String {
        format!("{alert}_{REPAGE}")
    }

    pub fn new(id: String, alert: AlertId, kind: &str, due: EventTime) -> Self {
        Self { id, alert, kind: kind.to_owned(), due, lease_owner: None, lease_until: None, done: false }
    }
}

on_store! {
    write fn add_timer(timer: &Timer) -> bool;
    write fn claim_timers(owner: &str, now: EventTime, lease: Micros, limit: u32) -> Vec<Timer>;
    write fn finish_timer(id: &str, owner: &str) -> bool;
    write fn reschedule_timer(id: &str, owner: &str, due: EventTime) -> bool;
    write fn cancel_timers(alert: AlertId) -> u64;
    write fn look_again(alert: AlertId, due: EventTime) -> ();
    read fn timers(alert: AlertId) -> Vec<Timer>;
    read fn next_timer() -> Option<EventTime>;
}

const COLUMNS: &str = "id, alert, kind, due, lease_owner, lease_until, done";

fn timer(row: &Row) -> Result<Timer, StoreError> {
    Ok(Timer {
        id: row.text(0)?,
        alert: row.parse(1, "alert id")?,
        kind: row.text(2)?,
        due: row.time(3)?,
        lease_owner: row.opt_text(4)?,
        lease_until: row.opt_time(5)?,
        done: row.flag(6)?,
    })
}

impl Tx<'_> {
    /// `false`: the id is here already, and nothing changed.
    pub async fn add_timer(&mut self, t: &Timer) -> Result<bool, StoreError> {
        let sql = "INSERT INTO timers (id, alert, kind, due, done) VALUES ($1, $2, $3, $4, 0) ON CONFLICT (id) DO NOTHING";
        Ok(self.execute(sql, args![&t.id, t.alert, &t.kind, t.due]).await? == 1)
    }

    /// Leases what is due at `now` and under no living lease, until `now + lease`; in order of due.
    pub async fn claim_timers(&mut self, owner: &str, now: EventTime, lease: Micros, limit: u32) -> Result<Vec<Timer>, StoreError> {
        let sql = format!(
            "UPDATE timers SET lease_owner = $1, lease_until = $3
             WHERE id IN (SELECT id FROM timers WHERE done = 0 AND due <= $2 AND (lease_until IS NULL OR lease_until <= $2) ORDER BY due, id LIMIT $4)
             RETURNING {COLUMNS}"
        );
        let mut claimed = self.rows(&sql, args![owner, now, now + lease, limit]).await?.iter().map(timer).collect::<Result<Vec<_>, _>>()?;
        claimed.sort_by(|a, b| (a.due, &a.id).cmp(&(b.due, &b.id)));
        Ok(claimed)
    }

    /// It fired. `false`: it was cancelled, or the lease is no longer `owner`'s; then the caller must not act (roll back).
    pub async fn finish_timer(&mut self, id: &str, owner: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE timers SET done = 1, lease_owner = NULL, lease_until = NULL WHERE id = $1 AND lease_owner = $2 AND done = 0";
        Ok(self.execute(sql, args![id, owner]).await? == 1)
    }

    /// It fired, and fires again at `due`. `false` as for [`Tx::finish_timer`].
    pub async fn reschedule_timer(&mut self, id: &str, owner: &str, due: EventTime) -> Result<bool, StoreError> {
        let sql = "UPDATE timers SET due = $3, lease_owner = NULL, lease_until = NULL WHERE id = $1 AND lease_owner = $2 AND done = 0";
        Ok(self.execute(sql, args![id, owner, due]).await? == 1)
    }

    /// All of the alert that have not fired; how many.
    pub async fn cancel_timers(&mut self, alert: AlertId) -> Result<u64, StoreError> {
        self.execute("UPDATE timers SET done = 1, lease_owner = NULL, lease_until = NULL WHERE alert = $1 AND done = 0", args![alert]).await
    }

    /// The alert's one timer is due at `due`, whatever it was before; a lease on it ends.
    pub async fn look_again(&mut self, alert: AlertId, due: EventTime) -> Result<(), StoreError> {
        self.cancel_timers(alert).await?;
        let sql = "INSERT INTO timers (id, alert, kind, due, done) VALUES ($1, $2, $3, $4, 0)
                   ON CONFLICT (id) DO UPDATE SET due = excluded.due, done = 0, lease_owner = NULL, lease_until = NULL";
        self.execute(sql, args![Timer::id_of(alert), alert, REPAGE, due]).await?;
        Ok(())
    }

    /// Of one alert, also those that are done, in order of due.
    pub async fn timers(&mut self, alert: AlertId) -> Result<Vec<Timer>, StoreError> {
        self.rows(&format!("SELECT {COLUMNS} FROM timers WHERE alert = $1 ORDER BY due, id"), args![alert]).await?.iter().map(timer).collect()
    }

    /// When the next one is due, or the next lease runs out.
    pub async fn next_timer(&mut self) -> Result<Option<EventTime>, StoreError> {
        let sql = "SELECT MIN(CASE WHEN lease_until IS NULL THEN due ELSE lease_until END) FROM timers WHERE done = 0";
        self.row(sql, &[]).await?.map_or(Ok(None), |row| row.opt_time(0))
    }
}
