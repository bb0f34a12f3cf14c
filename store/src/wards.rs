//! Wards: where patients belong, and in which time zone their day is told.

use serde::{Deserialize, Serialize};

use crate::db::{args, on_store};
use crate::{StoreError, Tx};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ward {
    pub id: String,
    pub name: String,
    /// An IANA name: `Europe/Berlin`.
    pub timezone: String,
}

on_store! {
    read fn wards() -> Vec<Ward>;
    read fn ward(id: &str) -> Ward;
    write fn put_ward(ward: &Ward) -> ();
}

impl Tx<'_> {
    pub async fn wards(&mut self) -> Result<Vec<Ward>, StoreError> {
        let rows = self.rows("SELECT id, name, timezone FROM wards ORDER BY id", &[]).await?;
        rows.iter().map(|row| Ok(Ward { id: row.text(0)?, name: row.text(1)?, timezone: row.text(2)? })).collect()
    }

    pub async fn ward(&mut self, id: &str) -> Result<Ward, StoreError> {
        let row = self.row("SELECT id, name, timezone FROM wards WHERE id = $1", args![id]).await?;
        let row = row.ok_or_else(|| StoreError::not_found("ward", id))?;
        Ok(Ward { id: row.text(0)?, name: row.text(1)?, timezone: row.text(2)? })
    }

    /// Adds or changes a ward.
    pub async fn put_ward(&mut self, ward: &Ward) -> Result<(), StoreError> {
        // the id stands in addresses, so it keeps to the alphabet of ids
        schemas::PatientId::parse(&ward.id).map_err(|e| StoreError::Invalid { what: "the ward's id", why: e.to_string() })?;
        let sql = "INSERT INTO wards (id, name, timezone) VALUES ($1, $2, $3)
                   ON CONFLICT (id) DO UPDATE SET name = excluded.name, timezone = excluded.timezone";
        self.execute(sql, args![&ward.id, &ward.name, &ward.timezone]).await?;
        Ok(())
    }
}
