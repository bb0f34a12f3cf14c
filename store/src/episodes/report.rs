//! What alerts turned out to be: the precision of each rule, and labels for trying a rule on history.

use schemas::{EventTime, PatientId, Priority, RuleId};

use super::{Word, priority};
use crate::db::{args, on_store};
use crate::{StoreError, Tx};

/// One rule's alerts in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub rule: RuleId,
    pub rule_name: String,
    pub priority: Priority,
    pub alerts: u64,
    /// How many were judged to be what, as [`Word`] lists them: true, artefact, expected, device.
    pub words: [u64; 4],
}

impl Judged {
    pub fn judged(&self) -> u64 {
        self.words.iter().sum()
    }

    /// The part of the judged alerts that a patient needed; `None` while nobody judged any.
    pub fn precision(&self) -> Option<f64> {
        (self.judged() > 0).then(|| self.words[0] as f64 / self.judged() as f64)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub patient: PatientId,
    pub time: EventTime,
    pub rule: RuleId,
    pub word: Word,
}

on_store! {
    read fn judged(from: EventTime, until: EventTime) -> Vec<Judged>;
    read fn labels(from: EventTime, until: EventTime, word: Option<Word>) -> Vec<Label>;
}

impl Tx<'_> {
    /// Per rule, of the alerts raised in `from..until` by event time; no technical ones and none of a device under test.
    pub async fn judged(&mut self, from: EventTime, until: EventTime) -> Result<Vec<Judged>, StoreError> {
        let of = |word: Word| format!("CAST(COALESCE(SUM(CASE WHEN verdict = '{word}' THEN 1 ELSE 0 END), 0) AS BIGINT)");
        let words = [Word::True, Word::Artefact, Word::Expected, Word::Device].map(of).join(", ");
        let sql = format!(
            "SELECT rule, MAX(rule_name), priority, COUNT(*), {words} FROM episodes
             WHERE raised_at >= $1 AND raised_at < $2 AND technical = 0 AND test = 0 GROUP BY rule, priority ORDER BY rule, priority"
        );
        let rows = self.rows(&sql, args![from, until]).await?;
        let judged = |row: &crate::db::Row| {
            let count = |i| row.count(i, "count");
            Ok(Judged {
                rule: row.parse(0, "rule id")?,
                rule_name: row.text(1)?,
                priority: priority(&row.text(2)?)?,
                alerts: count(3)?,
                words: [count(4)?, count(5)?, count(6)?, count(7)?],
            })
        };
        rows.iter().map(judged).collect()
    }

    /// Where and when somebody judged an alert, by patient and time.
    pub async fn labels(&mut self, from: EventTime, until: EventTime, word: Option<Word>) -> Result<Vec<Label>, StoreError> {
        let sql = "SELECT patient, raised_at, rule, verdict FROM episodes
                   WHERE verdict IS NOT NULL AND raised_at >= $1 AND raised_at < $2 AND test = 0 ORDER BY patient, raised_at, rule";
        let rows = self.rows(sql, args![from, until]).await?;
        let label = |row: &crate::db::Row| {
            Ok(Label { patient: row.parse(0, "patient id")?, time: row.time(1)?, rule: row.parse(2, "rule id")?, word: row.parse(3, "verdict")? })
        };
        let labels = rows.iter().map(label).collect::<Result<Vec<_>, StoreError>>()?;
        Ok(labels.into_iter().filter(|label| word.is_none_or(|word| word == label.word)).collect())
    }
}
