//! Devices whose assignment was changed afterwards: what they measured since then has to be looked at again.

use schemas::{DeviceId, EventTime};

use crate::db::{args, on_store};
use crate::{StoreError, Tx};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub device: DeviceId,
    /// What was measured before this is not touched.
    pub since: EventTime,
    pub asked: i64,
}

on_store! {
    write fn ask_move(device: &DeviceId, since: EventTime, due_at: EventTime) -> ();
    read fn moves_due(now: EventTime) -> Vec<Move>;
    write fn move_done(done: &Move) -> ();
}

impl Tx<'_> {
    pub async fn ask_move(&mut self, device: &DeviceId, since: EventTime, due_at: EventTime) -> Result<(), StoreError> {
        let sql = "INSERT INTO moves (device, since, due_at, asked) VALUES ($1, $2, $3, 1) ON CONFLICT (device) DO UPDATE SET
                   since = CASE WHEN excluded.since < moves.since THEN excluded.since ELSE moves.since END,
                   due_at = excluded.due_at, asked = moves.asked + 1";
        self.execute(sql, args![device, since, due_at]).await?;
        Ok(())
    }

    pub async fn moves_due(&mut self, now: EventTime) -> Result<Vec<Move>, StoreError> {
        let rows = self.rows("SELECT device, since, asked FROM moves WHERE due_at <= $1 ORDER BY device", args![now]).await?;
        rows.iter().map(|row| Ok(Move { device: row.parse(0, "device id")?, since: row.time(1)?, asked: row.int(2)? })).collect()
    }

    /// Unless more was asked for meanwhile.
    pub async fn move_done(&mut self, done: &Move) -> Result<(), StoreError> {
        self.execute("DELETE FROM moves WHERE device = $1 AND asked = $2", args![&done.device, done.asked]).await?;
        Ok(())
    }
}
