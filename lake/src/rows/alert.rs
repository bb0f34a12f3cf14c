use std::cmp::Ordering;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use schemas::{Cause, EventTime, Offset, Partition, PatientId, Priority, Transition, TransitionKind};

use super::{Cells, Columns, Date, Dated, Row, date_of, unsigned};
use crate::tables::Table;

/// A transition, as a row says it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRow {
    pub patient: PatientId,
    pub alert: String,
    pub kind: String,
    pub rule: String,
    pub rule_version: i64,
    pub priority: String,
    pub at: EventTime,
    pub since: EventTime,
    pub heard_at: EventTime,
    pub late: bool,
    pub pages: bool,
    pub technical: bool,
    pub shadow: bool,
    pub holds: bool,
    pub readings: i64,
    pub summary: String,
    pub reason: String,
    pub cause: Cause,
    pub partition: Partition,
    pub offset: Offset,
}

pub(crate) const fn priority_word(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
    }
}

impl AlertRow {
    pub fn new(t: Transition, partition: Partition, offset: Offset) -> Self {
        let kind = match t.kind {
            TransitionKind::Raised => "raised",
            TransitionKind::Cleared => "cleared",
            TransitionKind::Amended => "amended",
            TransitionKind::Withdrawn => "withdrawn",
        };
        Self {
            patient: t.patient,
            alert: t.alert.to_string(),
            kind: kind.to_owned(),
            rule: t.rule.to_string(),
            rule_version: i64::try_from(t.rule_version).unwrap_or(i64::MAX),
            priority: priority_word(t.priority).to_owned(),
            at: t.at,
            since: t.since,
            heard_at: t.heard_at.as_event(),
            late: t.late,
            pages: t.pages,
            technical: t.technical,
            shadow: t.shadow,
            holds: t.holds,
            readings: i64::from(t.readings),
            summary: t.summary,
            reason: t.reason,
            cause: t.cause,
            partition,
            offset,
        }
    }
}

impl Dated for AlertRow {
    fn date(&self) -> Date {
        date_of(self.at)
    }
}

impl Row for AlertRow {
    const TABLE: Table = Table::Alerts;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows)
            .date(|a| Some(date_of(a.at)))
            .text(|a| a.patient.as_str())
            .text(|a| &a.alert)
            .text(|a| &a.kind)
            .text(|a| &a.rule)
            .int(|a| Some(a.rule_version))
            .text(|a| &a.priority)
            .time(|a| Some(a.at))
            .time(|a| Some(a.since))
            .time(|a| Some(a.heard_at))
            .flag(|a| Some(a.late))
            .flag(|a| Some(a.pages))
            .flag(|a| Some(a.technical))
            .flag(|a| Some(a.shadow))
            .flag(|a| Some(a.holds))
            .int(|a| Some(a.readings))
            .text(|a| &a.summary)
            .text(|a| &a.reason)
            .int(|a| Some(a.cause.offset.0))
            .int(|a| Some(i64::from(a.cause.ordinal)))
            .small(|a| Some(a.partition.0))
            .int(|a| Some(a.offset.0))
            .finish()
    }

    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let cells = Cells::of(batch);
        let (patients, alerts, kinds, rules) = (cells.text("patient")?, cells.text("alert")?, cells.text("kind")?, cells.text("rule")?);
        let (rule_versions, priorities) = (cells.int("rule_version")?, cells.text("priority")?);
        let (at, since, heard_at) = (cells.time("at")?, cells.time("since")?, cells.time("heard_at")?);
        let (late, pages, technical) = (cells.flag("late")?, cells.flag("pages")?, cells.flag("technical")?);
        let (shadow, holds, readings) = (cells.flag("shadow")?, cells.flag("holds")?, cells.int("readings")?);
        let (summaries, reasons) = (cells.text("summary")?, cells.text("reason")?);
        let (cause, ordinal) = (cells.int("cause_offset")?, cells.int("cause_ordinal")?);
        let (partitions, offsets) = (cells.small("partition")?, cells.int("offset")?);
        let row = |row| {
            Ok(Self {
                patient: patients.parse(row)?,
                alert: alerts.must(row).to_owned(),
                kind: kinds.must(row).to_owned(),
                rule: rules.must(row).to_owned(),
                rule_version: rule_versions.must(row),
                priority: priorities.must(row).to_owned(),
                at: EventTime(at.must(row)),
                since: EventTime(since.must(row)),
                heard_at: EventTime(heard_at.must(row)),
                late: late.must(row),
                pages: pages.must(row),
                technical: technical.must(row),
                shadow: shadow.must(row),
                holds: holds.must(row),
                readings: readings.must(row),
                summary: summaries.must(row).to_owned(),
                reason: reasons.must(row).to_owned(),
                cause: Cause { offset: Offset(cause.must(row)), ordinal: u32::try_from(ordinal.must(row)).unwrap_or_default() },
                partition: Partition(unsigned(partitions.must(row))),
                offset: Offset(offsets.must(row)),
            })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    fn order(&self, other: &Self) -> Ordering {
        let key = |a: &Self| (a.at, a.partition, a.cause, a.offset);
        self.date().cmp(&other.date()).then_with(|| self.patient.cmp(&other.patient)).then_with(|| key(self).cmp(&key(other)))
    }
}
