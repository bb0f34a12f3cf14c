//! Patients who were taken out of the lake.

use schemas::{EventTime, PatientId};

use crate::db::{args, on_store};
use crate::{StoreError, Tx};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    pub patient: PatientId,
    pub erased_at: EventTime,
    pub person: String,
    pub reason: String,
}

on_store! {
    read fn erasures() -> Vec<Erasure>;
    write fn put_erasure(erasure: &Erasure) -> ();
}

impl Tx<'_> {
    pub async fn erasures(&mut self) -> Result<Vec<Erasure>, StoreError> {
        let rows = self.rows("SELECT patient, erased_at, person, reason FROM erasures ORDER BY patient", &[]).await?;
        rows.iter().map(|row| Ok(Erasure { patient: row.parse(0, "patient")?, erased_at: row.time(1)?, person: row.text(2)?, reason: row.text(3)? })).collect()
    }

    /// The last one stands.
    pub async fn put_erasure(&mut self, new: &Erasure) -> Result<(), StoreError> {
        let sql = "INSERT INTO erasures (patient, erased_at, person, reason) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (patient) DO UPDATE SET erased_at = excluded.erased_at, person = excluded.person, reason = excluded.reason";
        self.execute(sql, args![&new.patient, new.erased_at, &new.person, &new.reason]).await?;
        Ok(())
    }
}
