//! Who did what, and who read whose data (D1): entries in a chain, each with the hash of the one before.
//!
//! [`Store::verify_audit`] finds an entry that was changed, removed or put in. Whoever can write the whole database can also write a
//! whole new chain: keep a copy of [`AuditHead`] elsewhere, and a chain that was cut off or written anew shows.

use schemas::{EventTime, PatientId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::db::{Arg, Row, args, on_store};
use crate::{Store, StoreError, Tx};

/// What is to be recorded. `detail` names no patient: no names, no values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: EventTime,
    /// Who; a user's name, or `vigil` for the system itself.
    pub person: String,
    /// `read.vitals`, `alert.acknowledge`, `session.start` …
    pub action: String,
    pub patient: Option<PatientId>,
    pub detail: String,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    pub seq: u64,
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// The end of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// 0: nothing was recorded yet.
    pub seq: u64,
    pub hash: [u8; 32],
}

/// What a walk along the chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditState {
    Intact(AuditHead),
    /// The first entry that is not as it was written, or not where it was.
    Broken {
        seq: u64,
    },
}

#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub person: Option<String>,
    pub patient: Option<PatientId>,
    /// Only entries before this one, for the next page.
    pub before: Option<u64>,
}

on_store! {
    read fn audit_entries(filter: &AuditFilter, limit: u32) -> Vec<Audited>;
    read fn audit_head() -> AuditHead;
}

impl Store {
    /// Appends one entry.
    pub async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.audit_all(std::slice::from_ref(entry)).await
    }

    /// Appends entries in order, all or none. Callers of one process take turns: the end of the chain has room for one.
    pub async fn audit_all(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let _turn = self.audit_turn.lock().await;
        self.transaction(|tx| Box::pin(async move { tx.audit_all(entries).await })).await
    }

    /// Walks the whole chain, in one view of the database.
    pub async fn verify_audit(&self) -> Result<AuditState, StoreError> {
        const PAGE: usize = 1000;
        let mut tx = self.begin_read().await?;
        let mut head = START;
        loop {
            let sql = format!("SELECT {COLUMNS}, previous, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT {PAGE}");
            let rows = tx.rows(&sql, args![head.seq]).await?;
            for row in &rows {
                let found = audited(row)?;
                let hash = hash_of(&head.hash, found.seq, &found.entry);
                if found.seq != head.seq + 1 || row.bytes(6)? != head.hash || row.bytes(7)? != hash {
                    return Ok(AuditState::Broken { seq: found.seq });
                }
                head = AuditHead { seq: found.seq, hash };
            }
            if rows.len() < PAGE {
                break;
            }
        }
        let noted = tx.meta(HEAD).await?;
        let cut = noted.is_some_and(|noted| noted != head_text(&head));
        Ok(if cut { AuditState::Broken { seq: head.seq + 1 } } else { AuditState::Intact(head) })
    }
}

const START: AuditHead = AuditHead { seq: 0, hash: [0; 32] };
const HEAD: &str = "audit_head";
const COLUMNS: &str = "seq, at, person, action, patient, detail";

fn audited(row: &Row) -> Result<Audited, StoreError> {
    let entry = AuditEntry { at: row.time(1)?, person: row.text(2)?, action: row.text(3)?, patient: row.opt_parse(4, "patient id")?, detail: row.text(5)? };
    Ok(Audited { seq: row.count(0, "audit number")?, entry })
}

fn hash_of(previous: &[u8; 32], seq: u64, entry: &AuditEntry) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(seq.to_le_bytes());
    hash.update(entry.at.0.to_le_bytes());
    let patient = entry.patient.as_ref().map_or("", PatientId::as_str);
    for text in [&entry.person, &entry.action, patient, &entry.detail] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}

fn head_text(head: &AuditHead) -> String {
    let hex: String = head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hex}", head.seq)
}

impl Tx<'_> {
    /// Appends entries in order, as a part of this transaction.
    pub async fn audit_all(&mut self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut head = self.audit_head().await?;
        for entry in entries {
            let seq = head.seq + 1;
            let hash = hash_of(&head.hash, seq, entry);
            let sql = "INSERT INTO audit (seq, at, person, action, patient, detail, previous, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            let args = args![seq, entry.at, &entry.person, &entry.action, entry.patient.as_ref(), &entry.detail, &head.hash, &hash];
            self.execute(sql, args).await?;
            head = AuditHead { seq, hash };
        }
        self.set_meta(HEAD, &head_text(&head)).await
    }

    pub async fn audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.audit_all(std::slice::from_ref(entry)).await
    }

    pub async fn audit_head(&mut self) -> Result<AuditHead, StoreError> {
        let Some(row) = self.row("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", &[]).await? else { return Ok(START) };
        let hash = row.bytes(1)?.try_into().map_err(|_| StoreError::Corrupt { what: "audit hash" })?;
        Ok(AuditHead { seq: row.count(0, "audit number")?, hash })
    }

    /// Newest first, `limit` at a time (1000 at most).
    pub async fn audit_entries(&mut self, filter: &AuditFilter, limit: u32) -> Result<Vec<Audited>, StoreError> {
        let mut args: Vec<Arg> = args![filter.before.unwrap_or(u64::MAX)].to_vec();
        let mut sql = format!("SELECT {COLUMNS} FROM audit WHERE seq < $1");
        if let Some(person) = &filter.person {
            args.push(person.into());
            sql += &format!(" AND person = ${}", args.len());
        }
        if let Some(patient) = &filter.patient {
            args.push(patient.into());
            sql += &format!(" AND patient = ${}", args.len());
        }
        args.push(limit.clamp(1, 1000).into());
        sql += &format!(" ORDER BY seq DESC LIMIT ${}", args.len());
        self.rows(&sql, &args).await?.iter().map(audited).collect()
    }
}
