//! What a run leaves: one structure, as JSON and as Markdown. It holds no value that was accepted, no patient and no secret.

use schemas::{DeviceId, EventTime};
use serde::Serialize;

use super::facts::{Counts, RefusedEntries};
use super::list::{Item, Verdict};
use super::{Examiner, Pace};

/// Counts up when a member changes its meaning or goes.
const SCHEMA: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Every item has its verdict.
    Complete,
    /// `--within` was over.
    OutOfTime,
    Interrupted,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub vigil: &'static str,
    pub device: DeviceId,
    pub model: String,
    pub began_at: EventTime,
    pub ended_at: EventTime,
    pub ended: Ended,
    /// Every required item is passed.
    pub passed: bool,
    pub outage_s: f64,
    pub patience_s: f64,
    pub items: Vec<Line>,
    pub refused: Vec<RefusedEntries>,
    pub counts: Counts,
}

#[derive(Debug, Serialize)]
pub struct Line {
    pub item: Item,
    pub title: &'static str,
    pub required: bool,
    pub verdict: Verdict,
    pub saw: String,
    pub remedy: String,
}

/// Whom a run was about, and how it went.
pub struct Run {
    pub device: DeviceId,
    pub model: String,
    pub began_at: EventTime,
    pub ended_at: EventTime,
    pub ended: Ended,
}

impl Report {
    pub fn new(run: Run, pace: &Pace, examiner: &Examiner) -> Self {
        let facts = examiner.facts();
        let required = |item: Item| match item {
            Item::SentAt => !facts.sends_a_format_without_sent_at(),
            Item::Boot => facts.restarted(),
            item => item.required(),
        };
        let line = |item: Item| {
            let finding = examiner.finding(item);
            Line { item, title: item.title(), required: required(item), verdict: finding.verdict, saw: finding.saw, remedy: finding.remedy }
        };
        let items: Vec<Line> = Item::ALL.into_iter().map(line).collect();
        Self {
            schema: SCHEMA,
            vigil: env!("CARGO_PKG_VERSION"),
            passed: items.iter().all(|line| !line.required || line.verdict == Verdict::Pass),
            device: run.device,
            model: run.model,
            began_at: run.began_at,
            ended_at: run.ended_at,
            ended: run.ended,
            outage_s: pace.outage.0 as f64 / 1e6,
            patience_s: pace.patience.0 as f64 / 1e6,
            items,
            refused: facts.refused(),
            counts: facts.counts.clone(),
        }
    }

    /// `passed`, or what is missing.
    pub fn outcome(&self) -> String {
        let count = |verdict| self.items.iter().filter(|line| line.required && line.verdict == verdict).count();
        match (count(Verdict::Fail), count(Verdict::NotSeen)) {
            (0, 0) => "passed".to_owned(),
            (failed, 0) => format!("not passed: {failed} failed"),
            (0, unseen) => format!("not passed: {unseen} not seen"),
            (failed, unseen) => format!("not passed: {failed} failed, {unseen} not seen"),
        }
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("# {}: {}\n\n", self.device, self.outcome());
        let ended = match self.ended {
            Ended::Complete => "every item was looked at",
            Ended::OutOfTime => "its time was over",
            Ended::Interrupted => "it was interrupted",
        };
        let model = if self.model.is_empty() { "model not registered".to_owned() } else { cell(&self.model) };
        text += &format!("`vigil certify`, version {}. {model}. {} to {}; {ended}.\n\n", self.vigil, self.began_at, self.ended_at);
        text.push_str("| item | verdict | what was seen | what to change |\n|---|---|---|---|\n");
        for line in &self.items {
            let (note, remedy) = (if line.required { "" } else { " (a note)" }, if line.verdict == Verdict::Pass { "" } else { &line.remedy });
            text += &format!("| {}{note} | {} | {} | {} |\n", line.title, line.verdict.word(), cell(&line.saw), cell(remedy));
        }
        if !self.refused.is_empty() {
            text.push_str("\n## Refused entries\n\n| reason | entries | the first one's dead letter |\n|---|---|---|\n");
            for refused in &self.refused {
                text += &format!("| {} | {} | {} |\n", refused.reason, refused.entries, cell(&refused.detail));
            }
        }
        let Counts { connections, refused_connections, messages, accepted, refused, unacknowledged, attempts_while_away } = &self.counts;
        text.push_str("\n## In numbers\n\n");
        text += &format!("{connections} connections ({refused_connections} refused), {messages} messages, {accepted} entries accepted, {refused} refused.\n");
        text += &format!("{unacknowledged} messages were left without PUBACK, {attempts_while_away} attempts were made while the gateway was away.\n");
        text
    }
}

/// Text of a stranger in a table.
fn cell(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}
