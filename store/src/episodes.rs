//! Episodes: one alert from its raising to its end, with who took it and what happened to it.
//!
//! ```no_run
//! # async fn example(store: store::Store, episode: store::episodes::Episode, now: schemas::EventTime) -> Result<(), store::StoreError> {
//! // alerts: inside its transaction; `None` means a replay of something already here
//! let episode = &episode;
//! let version = store.transaction(|tx| Box::pin(async move { tx.upsert_episode(episode).await })).await?;
//! // dashboard: If-Match; escalation ends in the same transaction
//! let taken = store.take_alert(episode.alert, "nurse.ito", Some("at the bedside"), now, version).await?;
//! # let _ = taken; Ok(()) }
//! ```

mod actions;
mod hops;
mod report;
mod watch;

pub use actions::{Act, Action, Decided, Look, Refused, decide, longest_snooze};
pub use hops::{Hop, Hops};
pub use report::{Judged, Label};

use schemas::{AlertId, Arrived, Cause, EventTime, Evidence, Micros, Offset, Partition, PatientId, Priority, RuleId};
use serde::{Deserialize, Serialize};

use crate::db::{Arg, Row, args, on_store, words};
use crate::timers::REPAGE;
use crate::{StoreError, Tx};

/// How long an acknowledgement can be undone.
pub const UNDO: Micros = Micros::seconds(10);

words! {
    State { Open = "open", Cleared = "cleared", Withdrawn = "withdrawn" }
}

words! {
    /// What happened to an episode.
    What {
        Raised = "raised",
        Cleared = "cleared",
        Amended = "amended",
        Withdrawn = "withdrawn",
        Acknowledged = "acknowledged",
        /// The acknowledgement was taken back.
        Unacknowledged = "unacknowledged",
        Paged = "paged",
        PageFailed = "page_failed",
        Escalated = "escalated",
        Noted = "noted",
        /// The acknowledgement ran out, and it is paged again.
        Expired = "expired",
        Claimed = "claimed",
        Assigned = "assigned",
        /// Its owner gave it back.
        Released = "released",
        Snoozed = "snoozed",
        /// The snooze ended, by itself or by somebody.
        Woken = "woken",
        Contacted = "contacted",
        Judged = "judged",
    }
}

words! {
    /// What an alert turned out to be.
    Word {
        /// The patient needed somebody.
        True = "true",
        /// No measurement of the patient: movement, a loose sensor.
        Artefact = "artefact",
        /// Real, known, and nothing to be done: limits or rule may want a change.
        Expected = "expected",
        /// The device was at fault.
        Device = "device",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub by: String,
    pub at: EventTime,
    pub note: Option<String>,
    /// Then it is paged again, if it is still open; `None`: never.
    pub until: Option<EventTime>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snooze {
    pub by: String,
    pub until: EventTime,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub word: Word,
    pub by: String,
    pub at: EventTime,
    pub note: Option<String>,
}

/// How far the escalation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rung {
    /// How often all steps were gone through before.
    pub round: u32,
    /// The first step that was not paged in this round, as the policy counts them.
    pub step: u32,
}

/// What people make of an episode, besides acknowledging it. Kept by the store: [`Tx::upsert_episode`] leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Care {
    pub owner: Option<String>,
    pub snoozed: Option<Snooze>,
    pub verdict: Option<Verdict>,
    pub rung: Rung,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    pub alert: AlertId,
    pub patient: PatientId,
    pub rule: RuleId,
    pub rule_name: String,
    pub priority: Priority,
    pub state: State,
    /// Event time of the row that raised it.
    pub raised_at: EventTime,
    /// The engine's clock when it was raised.
    pub heard_at: Arrived,
    /// When the condition began.
    pub since: EventTime,
    /// Event time of its end, cleared or withdrawn.
    pub cleared_at: Option<EventTime>,
    pub summary: String,
    pub evidence: Vec<Evidence>,
    pub late: bool,
    /// It was over before anyone could see it.
    pub brief: bool,
    pub technical: bool,
    pub test: bool,
    /// Kept by the store: [`Tx::upsert_episode`] leaves it as it is.
    pub acknowledged: Option<Acknowledgement>,
    pub care: Care,
    /// The ETag; counts up with every change. Kept by the store.
    pub version: u64,
    pub partition: Partition,
    /// The newest cause that is in it.
    pub cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub at: EventTime,
    pub what: What,
    pub by: Option<String>,
    pub note: Option<String>,
}

/// Which episodes to list; the default is all.
#[derive(Clone, Debug, Default)]
pub struct EpisodeFilter {
    pub state: Option<State>,
    pub ward: Option<String>,
    pub patient: Option<PatientId>,
    /// Heard at or after.
    pub heard_from: Option<Arrived>,
}

/// Where a page of the list ended: hand it in to get the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpisodeCursor {
    pub heard_at: Arrived,
    pub alert: AlertId,
}

/// `1764054000000000.0123…`, for an address.
impl std::fmt::Display for EpisodeCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.heard_at.0, self.alert)
    }
}

impl std::str::FromStr for EpisodeCursor {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let parts = text.split_once('.').and_then(|(at, alert)| Some(Self { heard_at: Arrived(at.parse().ok()?), alert: alert.parse().ok()? }));
        parts.ok_or_else(|| StoreError::Invalid { what: "the cursor", why: "it is not one that a list gave".into() })
    }
}

on_store! {
    read fn episode(alert: AlertId) -> Episode;
    read fn episodes(filter: &EpisodeFilter, after: Option<EpisodeCursor>, limit: u32) -> (Vec<Episode>, Option<EpisodeCursor>);
    read fn history(alert: AlertId) -> Vec<HistoryEntry>;
    write fn upsert_episode(episode: &Episode) -> Option<u64>;
    write fn add_history(alert: AlertId, at: EventTime, what: What, by: Option<&str>, note: Option<&str>) -> ();
    write fn act(act: &Act<'_>) -> Episode;
    write fn take_alert(alert: AlertId, by: &str, note: Option<&str>, now: EventTime, if_match: Option<u64>) -> Episode;
    write fn give_back_alert(alert: AlertId, by: &str, now: EventTime, repage_at: EventTime) -> Episode;
}

const EPISODE: &str = "SELECT e.alert, e.patient, e.rule, e.rule_name, e.priority, e.state, e.raised_at, e.heard_at, e.since, e.cleared_at, e.summary,
    e.evidence, e.late, e.brief, e.technical, e.test, e.acknowledged_by, e.acknowledged_at, e.ack_note, e.version, e.partition_number, e.cause_offset,
    e.cause_ordinal, e.ack_until, e.owner, e.snoozed_until, e.snoozed_by, e.snooze_reason, e.verdict, e.verdict_by, e.verdict_at, e.verdict_note, e.page_round,
    e.page_step FROM episodes e";

fn episode(row: &Row) -> Result<Episode, StoreError> {
    let acknowledged = match (row.opt_text(16)?, row.opt_time(17)?) {
        (Some(by), Some(at)) => Some(Acknowledgement { by, at, note: row.opt_text(18)?, until: row.opt_time(23)? }),
        _ => None,
    };
    let snoozed = match (row.opt_time(25)?, row.opt_text(26)?) {
        (Some(until), Some(by)) => Some(Snooze { by, until, reason: row.opt_text(27)?.unwrap_or_default() }),
        _ => None,
    };
    let verdict = match (row.opt_parse(28, "verdict")?, row.opt_text(29)?, row.opt_time(30)?) {
        (Some(word), Some(by), Some(at)) => Some(Verdict { word, by, at, note: row.opt_text(31)? }),
        _ => None,
    };
    let rung = Rung { round: row.small(32, "round of pages")?, step: row.small(33, "step of pages")? };
    Ok(Episode {
        alert: row.parse(0, "alert id")?,
        patient: row.parse(1, "patient id")?,
        rule: row.parse(2, "rule id")?,
        rule_name: row.text(3)?,
        priority: priority(&row.text(4)?)?,
        state: row.parse(5, "episode state")?,
        raised_at: row.time(6)?,
        heard_at: Arrived(row.int(7)?),
        since: row.time(8)?,
        cleared_at: row.opt_time(9)?,
        summary: row.text(10)?,
        evidence: serde_json::from_str(&row.text(11)?).map_err(|_| StoreError::Corrupt { what: "evidence" })?,
        late: row.flag(12)?,
        brief: row.flag(13)?,
        technical: row.flag(14)?,
        test: row.flag(15)?,
        acknowledged,
        care: Care { owner: row.opt_text(24)?, snoozed, verdict, rung },
        version: row.count(19, "episode version")?,
        partition: Partition(row.small(20, "partition")?),
        cause: Cause { offset: Offset(row.int(21)?), ordinal: row.small(22, "cause")? },
    })
}

fn priority(text: &str) -> Result<Priority, StoreError> {
    match text {
        "high" => Ok(Priority::High),
        "medium" => Ok(Priority::Medium),
        "low" => Ok(Priority::Low),
        _ => Err(StoreError::Corrupt { what: "priority" }),
    }
}

fn priority_word(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "high",
        Priority::Medium => "medium",
        Priority::Low => "low",
    }
}

impl Tx<'_> {
    pub async fn episode(&mut self, alert: AlertId) -> Result<Episode, StoreError> {
        self.find_episode(alert).await?.ok_or_else(|| StoreError::not_found("alert", alert))
    }

    pub async fn find_episode(&mut self, alert: AlertId) -> Result<Option<Episode>, StoreError> {
        self.row(&format!("{EPISODE} WHERE e.alert = $1"), args![alert]).await?.map(|row| episode(&row)).transpose()
    }

    /// Writes an episode unless the one here rests on the same cause or a newer one; its new version, or `None` if it was dropped.
    /// `version` and `acknowledged` of the argument are ignored: the store keeps its own.
    pub async fn upsert_episode(&mut self, e: &Episode) -> Result<Option<u64>, StoreError> {
        let evidence = serde_json::to_string(&e.evidence).map_err(|e| StoreError::Invalid { what: "the evidence", why: e.to_string() })?;
        let sql = "INSERT INTO episodes (alert, patient, rule, rule_name, priority, state, raised_at, heard_at, since, cleared_at, summary, evidence, late,
                       brief, technical, test, version, partition_number, cause_offset, cause_ordinal)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 1, $17, $18, $19)
                   ON CONFLICT (alert) DO UPDATE SET rule_name = excluded.rule_name, priority = excluded.priority, state = excluded.state,
                       raised_at = excluded.raised_at, heard_at = excluded.heard_at, since = excluded.since, cleared_at = excluded.cleared_at,
                       summary = excluded.summary, evidence = excluded.evidence, late = excluded.late, brief = excluded.brief,
                       technical = excluded.technical, test = excluded.test, version = episodes.version + 1, cause_offset = excluded.cause_offset,
                       cause_ordinal = excluded.cause_ordinal
                   WHERE episodes.cause_offset < excluded.cause_offset
                      OR (episodes.cause_offset = excluded.cause_offset AND episodes.cause_ordinal < excluded.cause_ordinal)
                   RETURNING version";
        let args: &[Arg] = args![
            e.alert,
            &e.patient,
            &e.rule,
            &e.rule_name,
            priority_word(e.priority),
            e.state.as_str(),
            e.raised_at,
            e.heard_at,
            e.since,
            e.cleared_at,
            &e.summary,
            evidence,
            e.late,
            e.brief,
            e.technical,
            e.test,
            e.partition.0,
            e.cause.offset,
            e.cause.ordinal,
        ];
        self.row(sql, args).await?.map(|row| row.count(0, "episode version")).transpose()
    }

    /// Newest heard first, `limit` at a time (500 at most); the cursor is there when more may follow.
    pub async fn episodes(
        &mut self,
        filter: &EpisodeFilter,
        after: Option<EpisodeCursor>,
        limit: u32,
    ) -> Result<(Vec<Episode>, Option<EpisodeCursor>), StoreError> {
        let limit = limit.clamp(1, 500);
        let mut sql = EPISODE.to_owned();
        let mut conditions = Vec::new();
        let mut args: Vec<Arg> = Vec::new();
        if let Some(ward) = &filter.ward {
            sql += " JOIN patients p ON p.id = e.patient";
            args.push(ward.into());
            conditions.push(format!("p.ward = ${}", args.len()));
        }
        if let Some(state) = filter.state {
            args.push(state.as_str().into());
            conditions.push(format!("e.state = ${}", args.len()));
        }
        if let Some(patient) = &filter.patient {
            args.push(patient.into());
            conditions.push(format!("e.patient = ${}", args.len()));
        }
        if let Some(from) = filter.heard_from {
            args.push(from.into());
            conditions.push(format!("e.heard_at >= ${}", args.len()));
        }
        if let Some(after) = after {
            args.extend([after.heard_at.into(), after.alert.into()]);
            let n = args.len();
            conditions.push(format!("(e.heard_at < ${} OR (e.heard_at = ${} AND e.alert < ${n}))", n - 1, n - 1));
        }
        if !conditions.is_empty() {
            sql += &format!(" WHERE {}", conditions.join(" AND "));
        }
        args.push(limit.into());
        sql += &format!(" ORDER BY e.heard_at DESC, e.alert DESC LIMIT ${}", args.len());
        let found = self.rows(&sql, &args).await?.iter().map(episode).collect::<Result<Vec<_>, _>>()?;
        let next = found.last().filter(|_| found.len() == limit as usize).map(|e| EpisodeCursor { heard_at: e.heard_at, alert: e.alert });
        Ok((found, next))
    }

    /// Oldest first.
    pub async fn history(&mut self, alert: AlertId) -> Result<Vec<HistoryEntry>, StoreError> {
        let rows = self.rows("SELECT at, what, person, note FROM episode_history WHERE alert = $1 ORDER BY n", args![alert]).await?;
        let entry = |row: &Row| Ok(HistoryEntry { at: row.time(0)?, what: row.parse(1, "history entry")?, by: row.opt_text(2)?, note: row.opt_text(3)? });
        rows.iter().map(entry).collect()
    }

    pub async fn add_history(&mut self, alert: AlertId, at: EventTime, what: What, by: Option<&str>, note: Option<&str>) -> Result<(), StoreError> {
        let sql = "INSERT INTO episode_history (alert, n, at, what, person, note)
                   SELECT $1, COALESCE(MAX(n), 0) + 1, $2, $3, $4, $5 FROM episode_history WHERE alert = $1";
        self.execute(sql, args![alert, at, what.as_str(), by, note]).await?;
        Ok(())
    }

    /// [`Action::Acknowledge`] without an end, and without looking at who saw which version when `if_match` is `None`.
    pub async fn take_alert(&mut self, alert: AlertId, by: &str, note: Option<&str>, now: EventTime, if_match: Option<u64>) -> Result<Episode, StoreError> {
        self.act(&Act { alert, by, note, now, if_match, request: None, action: Action::Acknowledge { until: None } }).await
    }

    /// Takes an acknowledgement back: only by who gave it, and only within [`UNDO`]. An open alert that was ever paged is looked at again at
    /// `repage_at`.
    pub async fn give_back_alert(&mut self, alert: AlertId, by: &str, now: EventTime, repage_at: EventTime) -> Result<Episode, StoreError> {
        let given = self.episode(alert).await?.acknowledged.ok_or(StoreError::Conflict("the alert is not acknowledged"))?;
        if given.by != by {
            return Err(StoreError::Conflict("someone else acknowledged the alert"));
        }
        if now - given.at > UNDO {
            return Err(StoreError::Conflict("an acknowledgement can be undone for 10 s only"));
        }
        let sql = "UPDATE episodes SET acknowledged_by = NULL, acknowledged_at = NULL, ack_note = NULL, ack_until = NULL, version = version + 1
                   WHERE alert = $1";
        self.execute(sql, args![alert]).await?;
        self.add_history(alert, now, What::Unacknowledged, Some(by), None).await?;
        let given_back = self.episode(alert).await?;
        let escalates = self.timers(alert).await?.iter().any(|timer| timer.kind == REPAGE);
        if escalates && given_back.state == State::Open {
            self.look_again(alert, repage_at).await?;
        }
        Ok(given_back)
    }
}
