//! How far a reader of the journal has come, moved in the same transaction as what it made of the records (A1).

use schemas::{Offset, Partition};

use crate::db::{args, on_store};
use crate::{StoreError, Tx};

on_store! {
    read fn position(reader: &str, topic: &str, partition: Partition) -> Offset;
    write fn advance(reader: &str, topic: &str, partition: Partition, old: Offset, new: Offset) -> bool;
}

impl Tx<'_> {
    /// The next offset the reader wants; 0 before it ever advanced.
    pub async fn position(&mut self, reader: &str, topic: &str, partition: Partition) -> Result<Offset, StoreError> {
        let sql = "SELECT next_offset FROM positions WHERE reader = $1 AND topic = $2 AND partition_number = $3";
        let row = self.row(sql, args![reader, topic, partition.0]).await?;
        Ok(Offset(row.map(|row| row.int(0)).transpose()?.unwrap_or(0)))
    }

    /// Moves the position from `old` to `new`. `false`: it is not at `old`, so someone else has done this batch; then the caller
    /// writes nothing and starts again from [`Tx::position`].
    pub async fn advance(&mut self, reader: &str, topic: &str, partition: Partition, old: Offset, new: Offset) -> Result<bool, StoreError> {
        if old == Offset(0) {
            let sql = "INSERT INTO positions (reader, topic, partition_number, next_offset) VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING";
            self.execute(sql, args![reader, topic, partition.0]).await?;
        }
        let sql = "UPDATE positions SET next_offset = $4 WHERE reader = $1 AND topic = $2 AND partition_number = $3 AND next_offset = $5";
        Ok(self.execute(sql, args![reader, topic, partition.0, new, old]).await? == 1)
    }
}
