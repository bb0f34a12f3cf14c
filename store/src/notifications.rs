//! Notifications: what is to be sent to whom, as rows that a sender leases. A lease that runs out is free for another, so a page is
//! sent at least once; its stable key lets the receiver drop the second.

use schemas::{AlertId, EventTime, Micros};
use serde::{Deserialize, Serialize};

use crate::db::{Row, args, on_store, words};
use crate::timers::REPAGE;
use crate::{StoreError, Tx};

words! {
    State { Due = "due", Sending = "sending", Sent = "sent", Failed = "failed", Cancelled = "cancelled" }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The caller's, so that a repeated [`Tx::add_notification`] adds nothing.
    pub id: String,
    pub alert: AlertId,
    /// `page`, `repage`, `cleared`, `withdrawn` …
    pub kind: String,
    pub channel: String,
    /// The same for every attempt.
    pub key: String,
    /// Whom it is for; `None`: whoever reads the channel.
    pub person: Option<String>,
    /// Where this person is tried when the channel fails, in order.
    pub fallback: Vec<String>,
    pub state: State,
    pub attempts: u32,
    pub next_at: EventTime,
    pub last_error: Option<String>,
    pub created_at: EventTime,
    /// When its state last changed; of a sent one, when it was sent.
    pub changed_at: EventTime,
    pub lease_owner: Option<String>,
    pub lease_until: Option<EventTime>,
    /// What the receiver answered, such as its own number for the message.
    pub receipt: Option<String>,
}

impl Notification {
    /// One that is due at `next_at`.
    pub fn due(id: String, alert: AlertId, kind: &str, channel: &str, key: String, now: EventTime, next_at: EventTime) -> Self {
        Self {
            id,
            alert,
            kind: kind.to_owned(),
            channel: channel.to_owned(),
            key,
            person: None,
            fallback: Vec::new(),
            state: State::Due,
            attempts: 0,
            next_at,
            last_error: None,
            created_at: now,
            changed_at: now,
            lease_owner: None,
            lease_until: None,
            receipt: None,
        }
    }
}

on_store! {
    write fn add_notification(notification: &Notification) -> bool;
    write fn claim_notifications(owner: &str, now: EventTime, lease: Micros, limit: u32) -> Vec<Notification>;
    write fn notification_sent(id: &str, owner: &str, receipt: Option<&str>, now: EventTime) -> bool;
    write fn notification_retry(id: &str, owner: &str, error: &str, now: EventTime, next_at: EventTime) -> bool;
    write fn notification_held(id: &str, owner: &str, why: Option<&str>, now: EventTime, next_at: EventTime) -> bool;
    write fn notification_failed(id: &str, owner: &str, error: &str, now: EventTime) -> bool;
    write fn notification_cancelled(id: &str, owner: &str, why: &str, now: EventTime) -> bool;
    write fn cancel_notification(id: &str, why: &str, now: EventTime) -> bool;
    write fn cancel_notifications(alert: AlertId, now: EventTime) -> u64;
    write fn cancel_repages(alert: AlertId, now: EventTime) -> u64;
    read fn notifications(alert: AlertId) -> Vec<Notification>;
    read fn unreached(before: EventTime) -> u64;
    read fn next_notification() -> Option<EventTime>;
}

const COLUMNS: &str = "id, alert, kind, channel, stable_key, state, attempts, next_at, last_error, created_at, changed_at, lease_owner, lease_until,
    person, fallback, receipt";

fn notification(row: &Row) -> Result<Notification, StoreError> {
    Ok(Notification {
        id: row.text(0)?,
        alert: row.parse(1, "alert id")?,
        kind: row.text(2)?,
        channel: row.text(3)?,
        key: row.text(4)?,
        state: row.parse(5, "notification state")?,
        attempts: row.small(6, "number of attempts")?,
        next_at: row.time(7)?,
        last_error: row.opt_text(8)?,
        created_at: row.time(9)?,
        changed_at: row.time(10)?,
        lease_owner: row.opt_text(11)?,
        lease_until: row.opt_time(12)?,
        person: row.opt_text(13)?,
        fallback: serde_json::from_str(&row.text(14)?).map_err(|_| StoreError::Corrupt { what: "list of channels" })?,
        receipt: row.opt_text(15)?,
    })
}

impl Tx<'_> {
    /// `false`: the id is here already, and nothing changed.
    pub async fn add_notification(&mut self, n: &Notification) -> Result<bool, StoreError> {
        let sql = "INSERT INTO notifications (id, alert, kind, channel, stable_key, state, attempts, next_at, created_at, changed_at, person, fallback)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING";
        let fallback = serde_json::to_string(&n.fallback).map_err(|e| StoreError::Invalid { what: "the list of channels", why: e.to_string() })?;
        let (state, person) = (n.state.as_str(), n.person.as_deref());
        let args = args![&n.id, n.alert, &n.kind, &n.channel, &n.key, state, n.attempts, n.next_at, n.created_at, n.changed_at, person, fallback];
        Ok(self.execute(sql, args).await? == 1)
    }

    /// Leases what is due at `now` (or was being sent under a lease that ran out), until `now + lease`, and counts the attempt.
    pub async fn claim_notifications(&mut self, owner: &str, now: EventTime, lease: Micros, limit: u32) -> Result<Vec<Notification>, StoreError> {
        let sql = format!(
            "UPDATE notifications SET state = 'sending', attempts = attempts + 1, lease_owner = $1, lease_until = $3, changed_at = $2
             WHERE id IN (SELECT id FROM notifications WHERE (state = 'due' AND next_at <= $2) OR (state = 'sending' AND lease_until <= $2)
                          ORDER BY next_at, id LIMIT $4)
             RETURNING {COLUMNS}"
        );
        let mut claimed = self.rows(&sql, args![owner, now, now + lease, limit]).await?.iter().map(notification).collect::<Result<Vec<_>, _>>()?;
        claimed.sort_by(|a, b| (a.next_at, &a.id).cmp(&(b.next_at, &b.id)));
        Ok(claimed)
    }

    /// `false`: the lease is no longer `owner`'s, and nothing changed.
    pub async fn notification_sent(&mut self, id: &str, owner: &str, receipt: Option<&str>, now: EventTime) -> Result<bool, StoreError> {
        let sql = "UPDATE notifications SET state = 'sent', last_error = NULL, changed_at = $3, receipt = $4, lease_owner = NULL, lease_until = NULL
                   WHERE id = $1 AND lease_owner = $2 AND state = 'sending'";
        Ok(self.execute(sql, args![id, owner, now, receipt]).await? == 1)
    }

    /// Due again at `next_at`. `false`: the lease is no longer `owner`'s. The error text must not hold patient data.
    pub async fn notification_retry(&mut self, id: &str, owner: &str, error: &str, now: EventTime, next_at: EventTime) -> Result<bool, StoreError> {
        let sql = "UPDATE notifications SET state = 'due', last_error = $3, changed_at = $4, next_at = $5, lease_owner = NULL, lease_until = NULL
                   WHERE id = $1 AND lease_owner = $2 AND state = 'sending'";
        Ok(self.execute(sql, args![id, owner, error, now, next_at]).await? == 1)
    }

    /// Not tried, and due again at `next_at`: what was counted when it was claimed is no attempt. `false`: the lease is no longer `owner`'s.
    pub async fn notification_held(&mut self, id: &str, owner: &str, why: Option<&str>, now: EventTime, next_at: EventTime) -> Result<bool, StoreError> {
        let sql = "UPDATE notifications SET state = 'due', attempts = attempts - 1, last_error = COALESCE(last_error, $3), changed_at = $4, next_at = $5,
                       lease_owner = NULL, lease_until = NULL
                   WHERE id = $1 AND lease_owner = $2 AND state = 'sending'";
        Ok(self.execute(sql, args![id, owner, why, now, next_at]).await? == 1)
    }

    /// It went on to other channels: they are not gone on to once more.
    pub async fn notification_went_on(&mut self, id: &str) -> Result<(), StoreError> {
        self.execute("UPDATE notifications SET fallback = '[]' WHERE id = $1", args![id]).await?;
        Ok(())
    }

    /// Given up. `false`: the lease is no longer `owner`'s.
    pub async fn notification_failed(&mut self, id: &str, owner: &str, error: &str, now: EventTime) -> Result<bool, StoreError> {
        let sql = "UPDATE notifications SET state = 'failed', last_error = $3, changed_at = $4, lease_owner = NULL, lease_until = NULL
                   WHERE id = $1 AND lease_owner = $2 AND state = 'sending'";
        Ok(self.execute(sql, args![id, owner, error, now]).await? == 1)
    }

    /// No longer wanted when its turn came. `false`: the lease is no longer `owner`'s.
    pub async fn notification_cancelled(&mut self, id: &str, owner: &str, why: &str, now: EventTime) -> Result<bool, StoreError> {
        let sql = "UPDATE notifications SET state = 'cancelled', last_error = $3, changed_at = $4, lease_owner = NULL, lease_until = NULL
                   WHERE id = $1 AND lease_owner = $2 AND state = 'sending'";
        Ok(self.execute(sql, args![id, owner, why, now]).await? == 1)
    }

    /// `false`: it is not there, or over. One that is claimed is cancelled too: its sender must look again before it sends.
    pub async fn cancel_notification(&mut self, id: &str, why: &str, now: EventTime) -> Result<bool, StoreError> {
        let sql = "UPDATE notifications SET state = 'cancelled', last_error = $2, changed_at = $3, lease_owner = NULL, lease_until = NULL
                   WHERE id = $1 AND state IN ('due', 'sending')";
        Ok(self.execute(sql, args![id, why, now]).await? == 1)
    }

    /// Those of the alert that nobody is sending yet; how many.
    pub async fn cancel_notifications(&mut self, alert: AlertId, now: EventTime) -> Result<u64, StoreError> {
        self.execute("UPDATE notifications SET state = 'cancelled', changed_at = $2 WHERE alert = $1 AND state = 'due'", args![alert, now]).await
    }

    /// Only its re-pages, so that its first page still leaves (A2); how many. One that is being sent just now is for the sender.
    pub async fn cancel_repages(&mut self, alert: AlertId, now: EventTime) -> Result<u64, StoreError> {
        let sql = "UPDATE notifications SET state = 'cancelled', changed_at = $2 WHERE alert = $1 AND state = 'due' AND kind = $3";
        self.execute(sql, args![alert, now, REPAGE]).await
    }

    /// Of one alert, oldest first.
    pub async fn notifications(&mut self, alert: AlertId) -> Result<Vec<Notification>, StoreError> {
        let rows = self.rows(&format!("SELECT {COLUMNS} FROM notifications WHERE alert = $1 ORDER BY created_at, id"), args![alert]).await?;
        rows.iter().map(notification).collect()
    }

    /// Pages that were made before then, are still to be sent, and have reached nobody under their key.
    pub async fn unreached(&mut self, before: EventTime) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(DISTINCT n.stable_key) FROM notifications n WHERE n.state IN ('due', 'sending') AND n.kind IN ('page', 'repage') AND n.created_at < $1
                       AND NOT EXISTS (SELECT 1 FROM notifications o WHERE o.alert = n.alert AND o.stable_key = n.stable_key AND o.state = 'sent')";
        self.row(sql, args![before]).await?.map_or(Ok(0), |row| row.int(0).map(|count| u64::try_from(count).unwrap_or_default()))
    }

    /// When the next one is due, or the next lease runs out.
    pub async fn next_notification(&mut self) -> Result<Option<EventTime>, StoreError> {
        let sql = "SELECT MIN(CASE WHEN state = 'due' THEN next_at ELSE lease_until END) FROM notifications WHERE state IN ('due', 'sending')";
        self.row(sql, &[]).await?.map_or(Ok(None), |row| row.opt_time(0))
    }
}
