//! What a person does about an alert: decided as a value by [`decide`], and stored by [`Tx::act`] together with the alert's timer, so that
//! an open alert that was paged is at any time taken, snoozed until some time, or has a timer.

use schemas::{AlertId, EventTime, Micros, Priority};

use super::{Acknowledgement, Care, Episode, Rung, Snooze, State, Verdict, What, Word};
use crate::db::args;
use crate::notifications::Notification;
use crate::{StoreError, Tx};

/// The longest snooze of an alert.
pub const fn longest_snooze(priority: Priority) -> Micros {
    match priority {
        Priority::High => Micros::minutes(30),
        Priority::Medium => Micros::hours(2),
        Priority::Low => Micros::hours(12),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Somebody has seen it and will look after the patient; at `until` it is paged again if it is still open.
    Acknowledge {
        until: Option<EventTime>,
    },
    /// As [`Action::Acknowledge`], and the alert is theirs; also when somebody else had it.
    Claim {
        until: Option<EventTime>,
    },
    /// It is another's now: they are paged until they take it.
    Assign {
        to: String,
    },
    /// It is nobody's again, and is paged.
    Release,
    /// No pages until then; the note says why.
    Snooze {
        until: EventTime,
    },
    Wake,
    Note,
    /// Somebody was called; the note says what was said.
    Contact {
        with: String,
        reached: bool,
    },
    Judge {
        word: Word,
    },
}

/// An action in its circumstances.
#[derive(Clone, Debug)]
pub struct Act<'a> {
    pub alert: AlertId,
    pub by: &'a str,
    pub note: Option<&'a str>,
    pub now: EventTime,
    /// The version that the person saw; `None`: whatever it is.
    pub if_match: Option<u64>,
    /// The key under which the request may be repeated, and a fingerprint of what it asks.
    pub request: Option<(&'a str, &'a str)>,
    pub action: Action,
}

/// When the alert is looked at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    AsBefore,
    At(EventTime),
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub acknowledged: Option<Acknowledgement>,
    pub care: Care,
    pub what: What,
    pub note: Option<String>,
    pub look: Look,
    /// Pages that repeat an earlier one and are not being sent yet are taken back. A first page never is (A2).
    pub quiet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The state does not allow it.
    Conflict(&'static str),
    Invalid {
        what: &'static str,
        why: String,
    },
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Conflict(why) => Self::Conflict(why),
            Refused::Invalid { what, why } => Self::Invalid { what, why },
        }
    }
}

impl Episode {
    /// Whether somebody has it at `now`.
    pub fn taken(&self, now: EventTime) -> bool {
        self.acknowledged.as_ref().is_some_and(|given| given.until.is_none_or(|until| until > now))
    }

    pub fn snoozed(&self, now: EventTime) -> bool {
        self.care.snoozed.as_ref().is_some_and(|snooze| snooze.until > now)
    }
}

/// What the action makes of the episode.
pub fn decide(episode: &Episode, act: &Act<'_>) -> Result<Decided, Refused> {
    let (now, by) = (act.now, act.by);
    let open = episode.state == State::Open;
    let mut next = Decided {
        acknowledged: episode.acknowledged.clone(),
        care: episode.care.clone(),
        what: What::Noted,
        note: act.note.map(str::to_owned),
        look: Look::AsBefore,
        quiet: false,
    };
    match &act.action {
        Action::Acknowledge { until } | Action::Claim { until } => {
            let claims = matches!(act.action, Action::Claim { .. });
            if !claims && episode.taken(now) {
                return Err(Refused::Conflict("the alert is acknowledged already"));
            }
            if until.is_some_and(|until| until <= now) {
                return Err(invalid("the end of the acknowledgement", "it is not in the future"));
            }
            next.what = if claims { What::Claimed } else { What::Acknowledged };
            next.acknowledged = Some(Acknowledgement { by: by.to_owned(), at: now, note: act.note.map(str::to_owned), until: *until });
            next.care.snoozed = None;
            if claims {
                next.care.owner = Some(by.to_owned());
            }
            (next.look, next.quiet) = (until.map_or(Look::Never, Look::At), true);
        }
        Action::Assign { to } => {
            next.what = What::Assigned;
            next.note = Some(with("to", to, act.note));
            next.care.owner = Some(to.clone());
            (next.acknowledged, next.care.snoozed) = (None, None);
            (next.care.rung, next.look) = (begins_again(episode), Look::At(now));
        }
        Action::Release => {
            if episode.care.owner.is_none() && episode.acknowledged.is_none() {
                return Err(Refused::Conflict("nobody has the alert"));
            }
            next.what = What::Released;
            (next.care.owner, next.acknowledged) = (None, None);
            (next.care.rung, next.look) = (begins_again(episode), Look::At(now));
        }
        Action::Snooze { until } => {
            let most = longest_snooze(episode.priority);
            if !open {
                return Err(Refused::Conflict("the alert is over: there is nothing to snooze"));
            }
            if *until <= now || *until - now > most {
                return Err(Refused::Invalid { what: "the end of the snooze", why: format!("it is in the future, and no further than {most}") });
            }
            let reason = act.note.ok_or_else(|| invalid("the snooze", "it needs a note that says why"))?;
            next.what = What::Snoozed;
            next.note = Some(with("until", &until.to_string(), act.note));
            next.care.snoozed = Some(Snooze { by: by.to_owned(), until: *until, reason: reason.to_owned() });
            (next.look, next.quiet) = (Look::At(*until), true);
        }
        Action::Wake => {
            if episode.care.snoozed.is_none() {
                return Err(Refused::Conflict("the alert is not snoozed"));
            }
            next.what = What::Woken;
            next.care.snoozed = None;
            next.look = match &episode.acknowledged {
                Some(given) if episode.taken(now) => given.until.map_or(Look::Never, Look::At),
                _ => Look::At(now),
            };
        }
        Action::Note => {
            act.note.ok_or_else(|| invalid("the note", "it is empty"))?;
        }
        Action::Contact { with: whom, reached } => {
            next.what = What::Contacted;
            next.note = Some(with(if *reached { "reached" } else { "did not reach" }, whom, act.note));
        }
        Action::Judge { word } => {
            if open && !episode.taken(now) {
                return Err(Refused::Conflict("the alert is open and nobody has it: acknowledge it, then say what it was"));
            }
            next.what = What::Judged;
            next.note = Some(with("as", word.as_str(), act.note));
            next.care.verdict = Some(Verdict { word: *word, by: by.to_owned(), at: now, note: act.note.map(str::to_owned) });
        }
    }
    if !open {
        next.look = Look::AsBefore;
    }
    Ok(next)
}

fn invalid(what: &'static str, why: &str) -> Refused {
    Refused::Invalid { what, why: why.to_owned() }
}

fn with(word: &str, whom: &str, note: Option<&str>) -> String {
    note.map_or_else(|| format!("{word} {whom}"), |note| format!("{word} {whom}: {note}"))
}

/// The first step once more.
fn begins_again(episode: &Episode) -> Rung {
    Rung { round: episode.care.rung.round + 1, step: 0 }
}

impl Tx<'_> {
    /// Stores what a person does, its history, and the timer and pages that follow from it, all or nothing.
    /// [`StoreError::VersionMismatch`] when the alert is not as the person saw it. A request that is repeated under its key changes nothing.
    pub async fn act(&mut self, act: &Act<'_>) -> Result<Episode, StoreError> {
        let episode = self.episode(act.alert).await?;
        if let Some((key, fingerprint)) = act.request
            && self.repeated(act.by, key, fingerprint, act.now).await?
        {
            return Ok(episode);
        }
        if act.if_match.is_some_and(|seen| seen != episode.version) {
            return Err(StoreError::VersionMismatch { current: episode.version });
        }
        if let Action::Assign { to } = &act.action
            && self.user(to).await?.disabled_at.is_some()
        {
            return Err(StoreError::Invalid { what: "the person", why: "nobody signs in by that name any more".to_owned() });
        }
        let next = decide(&episode, act)?;
        self.put_care(act.alert, next.acknowledged.as_ref(), &next.care).await?;
        self.add_history(act.alert, act.now, next.what, Some(act.by), next.note.as_deref()).await?;
        match next.look {
            Look::AsBefore => {}
            Look::At(due) => self.look_again(act.alert, due).await?,
            Look::Never => drop(self.cancel_timers(act.alert).await?),
        }
        if next.quiet {
            self.cancel_repages(act.alert, act.now).await?;
        }
        if matches!(act.action, Action::Acknowledge { .. } | Action::Claim { .. }) {
            self.execute("UPDATE episodes SET taken_at = COALESCE(taken_at, $2) WHERE alert = $1", args![act.alert, act.now]).await?;
            self.tell_pager(&episode, act.now).await?;
        }
        self.episode(act.alert).await
    }

    /// What people made of it, as it is to stand; the version counts up.
    pub async fn put_care(&mut self, alert: AlertId, acknowledged: Option<&Acknowledgement>, care: &Care) -> Result<(), StoreError> {
        let (snoozed, verdict) = (care.snoozed.as_ref(), care.verdict.as_ref());
        let sql = "UPDATE episodes SET acknowledged_by = $2, acknowledged_at = $3, ack_note = $4, ack_until = $5, owner = $6, snoozed_until = $7,
                       snoozed_by = $8, snooze_reason = $9, verdict = $10, verdict_by = $11, verdict_at = $12, verdict_note = $13, page_round = $14,
                       page_step = $15, version = version + 1
                   WHERE alert = $1";
        let args = args![
            alert,
            acknowledged.map(|given| given.by.as_str()),
            acknowledged.map(|given| given.at),
            acknowledged.and_then(|given| given.note.as_deref()),
            acknowledged.and_then(|given| given.until),
            care.owner.as_deref(),
            snoozed.map(|snooze| snooze.until),
            snoozed.map(|snooze| snooze.by.as_str()),
            snoozed.map(|snooze| snooze.reason.as_str()),
            verdict.map(|verdict| verdict.word.as_str()),
            verdict.map(|verdict| verdict.by.as_str()),
            verdict.map(|verdict| verdict.at),
            verdict.and_then(|verdict| verdict.note.as_deref()),
            care.rung.round,
            care.rung.step,
        ];
        self.execute(sql, args).await?;
        Ok(())
    }

    /// How far the escalation is; no version counts, because nobody decided anything.
    pub async fn put_rung(&mut self, alert: AlertId, rung: Rung) -> Result<(), StoreError> {
        self.execute("UPDATE episodes SET page_round = $2, page_step = $3 WHERE alert = $1", args![alert, rung.round, rung.step]).await?;
        Ok(())
    }

    /// Whether this request was done before; notes it if not.
    async fn repeated(&mut self, by: &str, key: &str, fingerprint: &str, now: EventTime) -> Result<bool, StoreError> {
        let sql = "INSERT INTO idempotency_keys (person, request_key, fingerprint, at) VALUES ($1, $2, $3, $4) ON CONFLICT (person, request_key) DO NOTHING";
        if self.execute(sql, args![by, key, fingerprint, now]).await? == 1 {
            return Ok(false);
        }
        let sql = "SELECT fingerprint FROM idempotency_keys WHERE person = $1 AND request_key = $2";
        match self.row(sql, args![by, key]).await? {
            Some(row) if row.text(0)? == fingerprint => Ok(true),
            _ => Err(StoreError::Invalid { what: "the idempotency key", why: "it was used for another request: make a new one for each".to_owned() }),
        }
    }

    /// A pager service that repeats by itself must hear that somebody has it.
    async fn tell_pager(&mut self, episode: &Episode, now: EventTime) -> Result<(), StoreError> {
        let sql = "SELECT DISTINCT channel FROM notifications WHERE alert = $1 AND state IN ('due', 'sending', 'sent') AND channel LIKE 'pagerduty:%'";
        let rows = self.rows(sql, args![episode.alert]).await?;
        for row in &rows {
            let (channel, key) = (row.text(0)?, format!("{}_acknowledged_{}", episode.alert, episode.version));
            self.add_notification(&Notification::due(format!("{key} {channel}"), episode.alert, "acknowledged", &channel, key, now, now)).await?;
        }
        Ok(())
    }
}
