//! When an alert was where: from the reading that raised it to the person who took it, so that a delay shows where it arose.

use schemas::{AlertId, EventTime, Micros};

use super::State;
use crate::db::{args, on_store, words};
use crate::{StoreError, Tx};

words! {
    /// What is noted of an alert on its way. The first time counts.
    Hop {
        /// The engine's word was durable.
        Evaluated = "evaluated",
        /// Its episode and pages were.
        Stored = "stored",
        /// A first page was handed to its channel.
        Attempted = "attempted",
        /// A channel had it.
        Delivered = "delivered",
        /// Somebody looked at it.
        Seen = "seen",
        /// Somebody acknowledged it.
        Taken = "taken",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hops {
    /// Event time of the row that raised it.
    pub measured: EventTime,
    /// The journal had what raised it.
    pub journalled: EventTime,
    pub evaluated: Option<EventTime>,
    pub stored: Option<EventTime>,
    pub attempted: Option<EventTime>,
    pub delivered: Option<EventTime>,
    pub seen: Option<EventTime>,
    pub taken: Option<EventTime>,
    pub late: bool,
}

impl Hops {
    /// From hop to hop until the page was delivered, as far as it is known.
    pub fn spans(&self) -> Vec<(&'static str, Micros)> {
        let between = |from: Option<EventTime>, to: Option<EventTime>| Some(to? - from?);
        let (measured, journalled) = (Some(self.measured), Some(self.journalled));
        let spans = [
            ("measured_journalled", between(measured, journalled)),
            ("journalled_evaluated", between(journalled, self.evaluated)),
            ("evaluated_stored", between(self.evaluated, self.stored)),
            ("stored_attempted", between(self.stored, self.attempted)),
            ("attempted_delivered", between(self.attempted, self.delivered)),
        ];
        spans.into_iter().filter_map(|(hop, span)| Some((hop, span?))).collect()
    }
}

on_store! {
    write fn stamp(alert: AlertId, hop: Hop, at: EventTime) -> ();
    read fn hops(alert: AlertId) -> Hops;
    read fn hops_between(from: EventTime, until: EventTime, limit: u32) -> Vec<Hops>;
}

const HOPS: &str = "raised_at, heard_at, evaluated_at, stored_at, attempted_at, delivered_at, seen_at, taken_at, late";

fn hops(row: &crate::db::Row) -> Result<Hops, StoreError> {
    Ok(Hops {
        measured: row.time(0)?,
        journalled: row.time(1)?,
        evaluated: row.opt_time(2)?,
        stored: row.opt_time(3)?,
        attempted: row.opt_time(4)?,
        delivered: row.opt_time(5)?,
        seen: row.opt_time(6)?,
        taken: row.opt_time(7)?,
        late: row.flag(8)?,
    })
}

impl Tx<'_> {
    pub async fn stamp(&mut self, alert: AlertId, hop: Hop, at: EventTime) -> Result<(), StoreError> {
        let sql = format!("UPDATE episodes SET {hop}_at = $2 WHERE alert = $1 AND {hop}_at IS NULL");
        self.execute(&sql, args![alert, at]).await?;
        Ok(())
    }

    pub async fn hops(&mut self, alert: AlertId) -> Result<Hops, StoreError> {
        let row = self.row(&format!("SELECT {HOPS} FROM episodes WHERE alert = $1"), args![alert]).await?;
        hops(&row.ok_or_else(|| StoreError::not_found("alert", alert))?)
    }

    /// Of alerts heard in `from..until` that were to page people; the newest `limit`.
    pub async fn hops_between(&mut self, from: EventTime, until: EventTime, limit: u32) -> Result<Vec<Hops>, StoreError> {
        let sql = format!(
            "SELECT {HOPS} FROM episodes WHERE heard_at >= $1 AND heard_at < $2 AND technical = 0 AND test = 0 AND state <> '{}' ORDER BY heard_at DESC LIMIT $3",
            State::Withdrawn
        );
        self.rows(&sql, args![from, until, limit]).await?.iter().map(hops).collect()
    }
}
