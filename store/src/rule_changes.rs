//! Changes of the rules in force: who made them, on what grounds, and, where that is asked for, who else agreed.
//!
//! Whether the rules compile, and whether the grounds suffice, is for the caller to know. Each step leaves an audit entry in its own
//! transaction.

use schemas::{EventTime, RuleSet};

use crate::audit::AuditEntry;
use crate::db::{Row, args, on_store, words};
use crate::{StoreError, Tx, secrets};

words! {
    State {
        /// Waits for a second person.
        Proposed = "proposed",
        InForce = "in_force",
        Rejected = "rejected",
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleChange {
    pub id: String,
    pub toml: String,
    /// The version that it was made against; 0: there was none.
    pub base: u64,
    /// The id of a recorded back-test.
    pub backtest: Option<String>,
    pub reason: String,
    pub proposed_by: String,
    pub proposed_at: EventTime,
    pub state: State,
    pub decided_by: Option<String>,
    pub decided_at: Option<EventTime>,
    /// Of the rule set that came of it.
    pub version: Option<u64>,
}

/// What is to be put into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRules<'a> {
    pub toml: &'a str,
    /// The version that was read.
    pub base: u64,
    pub backtest: Option<&'a str>,
    pub reason: &'a str,
}

on_store! {
    write fn load_rules(new: &NewRules<'_>, person: &str, now: EventTime) -> RuleChange;
    write fn propose_rules(new: &NewRules<'_>, person: &str, now: EventTime) -> RuleChange;
    write fn approve_rules(id: &str, person: &str, now: EventTime) -> RuleSet;
    write fn reject_rules(id: &str, person: &str, reason: &str, now: EventTime) -> ();
    read fn rule_change(id: &str) -> RuleChange;
    read fn rule_changes(limit: u32) -> Vec<RuleChange>;
}

const COLUMNS: &str = "id, toml, base, backtest, reason, proposed_by, proposed_at, state, decided_by, decided_at, version";

fn change(row: &Row) -> Result<RuleChange, StoreError> {
    let version = row.opt_int(10)?.map(|version| u64::try_from(version).map_err(|_| StoreError::Corrupt { what: "rules version" })).transpose()?;
    Ok(RuleChange {
        id: row.text(0)?,
        toml: row.text(1)?,
        base: row.count(2, "rules version")?,
        backtest: row.opt_text(3)?,
        reason: row.text(4)?,
        proposed_by: row.text(5)?,
        proposed_at: row.time(6)?,
        state: row.parse(7, "state of a rule change")?,
        decided_by: row.opt_text(8)?,
        decided_at: row.opt_time(9)?,
        version,
    })
}

impl Tx<'_> {
    /// In force at once.
    pub async fn load_rules(&mut self, new: &NewRules<'_>, person: &str, now: EventTime) -> Result<RuleChange, StoreError> {
        let rules = self.put_rules(new.toml, person, new.base, now).await?;
        let change = self.add_rule_change(new, person, now, Some(rules.version)).await?;
        self.note(person, "rules.load", &change.id, &format!("version {}; {}", rules.version, grounds(&change)), now).await?;
        Ok(change)
    }

    /// Waits for a second person.
    pub async fn propose_rules(&mut self, new: &NewRules<'_>, person: &str, now: EventTime) -> Result<RuleChange, StoreError> {
        let current = self.rules().await?.map_or(0, |rules| rules.version);
        if current != new.base {
            return Err(StoreError::VersionMismatch { current });
        }
        let change = self.add_rule_change(new, person, now, None).await?;
        self.note(person, "rules.propose", &change.id, &grounds(&change), now).await?;
        Ok(change)
    }

    /// Puts a proposal into force. Another person than the one who made it, and only while the rules are those that it was made against.
    pub async fn approve_rules(&mut self, id: &str, person: &str, now: EventTime) -> Result<RuleSet, StoreError> {
        let change = self.waiting(id).await?;
        if change.proposed_by == person {
            return Err(StoreError::Conflict("a second person is to approve what somebody proposed"));
        }
        let rules = self.put_rules(&change.toml, &format!("{}, approved by {person}", change.proposed_by), change.base, now).await?;
        self.decide(id, State::InForce, person, now, Some(rules.version)).await?;
        self.note(person, "rules.approve", id, &format!("version {}", rules.version), now).await?;
        Ok(rules)
    }

    pub async fn reject_rules(&mut self, id: &str, person: &str, reason: &str, now: EventTime) -> Result<(), StoreError> {
        self.waiting(id).await?;
        self.decide(id, State::Rejected, person, now, None).await?;
        self.note(person, "rules.reject", id, reason, now).await
    }

    pub async fn rule_change(&mut self, id: &str) -> Result<RuleChange, StoreError> {
        let row = self.row(&format!("SELECT {COLUMNS} FROM rule_changes WHERE id = $1"), args![id]).await?;
        row.map(|row| change(&row)).transpose()?.ok_or_else(|| StoreError::not_found("rule change", id))
    }

    /// The newest first.
    pub async fn rule_changes(&mut self, limit: u32) -> Result<Vec<RuleChange>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM rule_changes ORDER BY proposed_at DESC, id LIMIT $1");
        self.rows(&sql, args![limit]).await?.iter().map(change).collect()
    }

    async fn waiting(&mut self, id: &str) -> Result<RuleChange, StoreError> {
        let change = self.rule_change(id).await?;
        if change.state == State::Proposed { Ok(change) } else { Err(StoreError::Conflict("this change was decided already")) }
    }

    async fn add_rule_change(&mut self, new: &NewRules<'_>, person: &str, now: EventTime, version: Option<u64>) -> Result<RuleChange, StoreError> {
        let change = RuleChange {
            id: secrets::random_id(),
            toml: new.toml.to_owned(),
            base: new.base,
            backtest: new.backtest.map(str::to_owned),
            reason: new.reason.to_owned(),
            proposed_by: person.to_owned(),
            proposed_at: now,
            state: if version.is_some() { State::InForce } else { State::Proposed },
            decided_by: None,
            decided_at: version.map(|_| now),
            version,
        };
        let sql = "INSERT INTO rule_changes (id, toml, base, backtest, reason, proposed_by, proposed_at, state, decided_at, version)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let version = change.version.and_then(|version| i64::try_from(version).ok());
        let args = args![
            &change.id,
            &change.toml,
            change.base,
            change.backtest.as_deref(),
            &change.reason,
            person,
            now,
            change.state.as_str(),
            change.decided_at,
            version
        ];
        self.execute(sql, args).await?;
        Ok(change)
    }

    async fn decide(&mut self, id: &str, state: State, person: &str, now: EventTime, version: Option<u64>) -> Result<(), StoreError> {
        let version = version.and_then(|version| i64::try_from(version).ok());
        let sql = "UPDATE rule_changes SET state = $2, decided_by = $3, decided_at = $4, version = $5 WHERE id = $1";
        self.execute(sql, args![id, state.as_str(), person, now, version]).await?;
        Ok(())
    }

    async fn note(&mut self, person: &str, action: &str, id: &str, detail: &str, now: EventTime) -> Result<(), StoreError> {
        let detail = format!("change {id}: {detail}");
        self.audit(&AuditEntry { at: now, person: person.to_owned(), action: action.to_owned(), patient: None, detail }).await
    }
}

fn grounds(change: &RuleChange) -> String {
    match (&change.backtest, change.reason.as_str()) {
        (Some(backtest), "") => format!("back-test {backtest}"),
        (Some(backtest), reason) => format!("back-test {backtest}; {reason}"),
        (None, "") => "no grounds were needed".to_owned(),
        (None, reason) => reason.to_owned(),
    }
}
