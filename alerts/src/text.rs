//! What a page says, in words that name no patient: a phone on a table shows them to anyone.

use schemas::{AlertId, EventTime, Priority};
use serde::Serialize;
use sha2::{Digest, Sha256};
use store::episodes::{Episode, State};
use store::notifications::Notification;
use store::timers::REPAGE;
use store::wards::Ward;

use crate::episode::{ACKNOWLEDGED, AMENDED, CLEARED, PAGE, WITHDRAWN, page_key};
use crate::escalation::number;

/// One notification, as every channel sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The same for every attempt.
    #[serde(skip)]
    pub key: String,
    /// Of the alert's first page, which this one belongs to.
    #[serde(skip)]
    pub page_key: String,
    /// `page`, `repage`, `cleared`, `withdrawn`, `amended`.
    pub kind: String,
    /// Which page: the first is 1.
    pub number: u32,
    pub alert: AlertId,
    pub code: String,
    pub priority: Priority,
    pub ward: String,
    pub rule: String,
    pub rule_name: String,
    pub state: State,
    pub taken: bool,
    /// When the engine raised it.
    pub raised_at: EventTime,
    #[serde(skip)]
    pub raised_local: String,
    pub link: String,
    /// Leads to a page with a button that takes the alert without signing in; each message has its own.
    #[serde(rename = "take_link", skip_serializing_if = "Option::is_none")]
    pub take: Option<String>,
    /// Somebody had it, and has it no more: a receiver that fell silent must ring again.
    #[serde(skip)]
    pub reopens: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub technical: bool,
    /// The alerts that this page is about as well, when there are too many for one each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Also>,
}

/// One more alert of a page that is about many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Also {
    pub alert: AlertId,
    pub code: String,
    pub priority: Priority,
    pub ward: String,
    pub rule_name: String,
    pub state: State,
}

/// One page about many alerts, of which the first is the most urgent. Which are still open the dashboard's list says.
pub fn many<'a>(messages: impl Iterator<Item = &'a Message>, dashboard_url: &str) -> Option<Message> {
    let mut messages = messages.cloned();
    let mut all = messages.next()?;
    let mut hash = Sha256::new();
    hash.update(&all.key);
    for other in messages {
        hash.update(&other.key);
        let Message { alert, code, priority, ward, rule_name, state, .. } = other;
        all.also.push(Also { alert, code, priority, ward, rule_name, state });
        all.reopens |= other.reopens;
    }
    let digest: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    all.key = format!("many-{digest}");
    all.page_key = all.key.clone();
    all.link = format!("{}/alerts", dashboard_url.trim_end_matches('/'));
    // it would take one of them
    all.take = None;
    Some(all)
}

/// `ward` is `None` when the patient is no longer in the registry.
pub fn message(n: &Notification, episode: &Episode, ward: Option<&Ward>, dashboard_url: &str) -> Message {
    let dashboard_url = dashboard_url.trim_end_matches('/');
    Message {
        key: n.key.clone(),
        page_key: page_key(episode.alert),
        kind: n.kind.clone(),
        number: number(n),
        alert: episode.alert,
        code: episode.alert.code(),
        priority: episode.priority,
        ward: ward.map_or_else(|| "unknown ward".to_owned(), |ward| ward.name.clone()),
        rule: episode.rule.to_string(),
        rule_name: episode.rule_name.clone(),
        state: episode.state,
        taken: episode.acknowledged.is_some(),
        raised_at: episode.heard_at.as_event(),
        raised_local: local(episode.heard_at.as_event(), ward.map_or("UTC", |ward| &ward.timezone)),
        link: format!("{dashboard_url}/alerts/{}", episode.alert),
        take: None,
        reopens: false,
        technical: episode.technical,
        also: Vec::new(),
    }
}

impl Message {
    /// Whether it says that the alert is over.
    pub fn says_over(&self) -> bool {
        self.state != State::Open
    }

    /// What may stand on a locked screen: `Patient alert K7F2, high, Ward 7`.
    pub fn line(&self) -> String {
        let priority = match self.priority {
            Priority::High => "high",
            Priority::Medium => "medium",
            Priority::Low => "low",
        };
        if !self.also.is_empty() {
            return format!("{} patient alerts, {} high, {}", self.also.len() + 1, self.high(), self.wards()).replace(['\r', '\n'], " ");
        }
        let what = if self.technical { "Technical alarm" } else { "Patient alert" };
        let whose = if self.technical { &self.rule_name } else { &self.ward };
        let tail = match self.kind.as_str() {
            CLEARED => ": over",
            WITHDRAWN => ": withdrawn",
            AMENDED => ": no longer holds",
            ACKNOWLEDGED => ": taken",
            _ if self.says_over() => ": over already",
            _ => "",
        };
        let again = if self.kind == REPAGE { format!(", page {}", self.number) } else { String::new() };
        format!("{what} {}, {priority}, {whose}{again}{tail}", self.code).replace(['\r', '\n'], " ")
    }

    fn high(&self) -> usize {
        std::iter::once(self.priority).chain(self.also.iter().map(|also| also.priority)).filter(|priority| *priority == Priority::High).count()
    }

    /// Some, by name.
    fn wards(&self) -> String {
        let mut wards: Vec<&str> = std::iter::once(&self.ward).chain(self.also.iter().map(|also| &also.ward)).map(String::as_str).collect();
        wards.sort_unstable();
        wards.dedup();
        match wards.len() {
            0..=3 => wards.join(", "),
            more => format!("{} and {} more wards", wards[..2].join(", "), more - 2),
        }
    }

    /// One line: `HIGH K7F2, Ward 7: Low oxygen saturation`.
    pub fn title(&self) -> String {
        if !self.also.is_empty() {
            return self.line();
        }
        let priority = urgency(self.priority);
        let lead = match self.kind.as_str() {
            CLEARED => "OVER: ",
            WITHDRAWN => "WITHDRAWN: ",
            AMENDED => "AMENDED: ",
            PAGE | REPAGE if self.says_over() => "OVER ALREADY: ",
            _ => "",
        };
        let again = if self.kind == REPAGE { format!(" (page {})", self.number) } else { String::new() };
        format!("{lead}{priority} {}, {}: {}{again}", self.code, self.ward, self.rule_name).replace(['\r', '\n'], " ")
    }

    /// The whole, for a mail.
    pub fn body(&self) -> String {
        if !self.also.is_empty() {
            let one = |code: &str, priority: Priority, ward: &str, rule: &str, state: State| {
                let over = if state == State::Open { "" } else { " (over)" };
                format!("{} {code}, {ward}: {rule}{over}\n", urgency(priority)).replace('\r', " ")
            };
            let first = one(&self.code, self.priority, &self.ward, &self.rule_name, self.state);
            let rest: String = self.also.iter().map(|also| one(&also.code, also.priority, &also.ward, &also.rule_name, also.state)).collect();
            return format!(
                "{}\n\nSo many came at once that they come together. Each is repeated until somebody takes it.\n\n{first}{rest}\n{}\n",
                self.title(),
                self.link
            );
        }
        let state = match (self.kind.as_str(), self.state) {
            (AMENDED, _) => "By data that came later it no longer holds; it is still open.",
            (_, State::Cleared) => "It is over by its rule. Somebody should still look at it.",
            (_, State::Withdrawn) => "It was withdrawn: the alert says why.",
            (_, State::Open) if self.taken => "It is open, and somebody has taken it.",
            (_, State::Open) => "It is open, and nobody has taken it yet.",
        };
        let take = self.take.as_ref().map(|take| format!("\nTake it without signing in, once: {take}\n")).unwrap_or_default();
        format!("{}\n\nRaised {}.\n{state}\n\n{}\n{take}", self.title(), self.raised_local, self.link)
    }
}

const fn urgency(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "HIGH",
        Priority::Medium => "MEDIUM",
        Priority::Low => "LOW",
    }
}

fn local(at: EventTime, timezone: &str) -> String {
    let zone = jiff::tz::TimeZone::get(timezone).unwrap_or(jiff::tz::TimeZone::UTC);
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(time) => time.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
        Err(_) => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_four_letters_that_nobody_misreads() {
        assert_eq!(AlertId([0; 16]).code(), "0000");
        assert_eq!(AlertId([0xff; 16]).code(), "ZZZZ");
        assert_eq!("9a4f0000000000000000000000000000".parse::<AlertId>().unwrap().code(), "K97G");
        assert_ne!(AlertId([7; 16]).code(), AlertId([8; 16]).code());
    }

    #[test]
    fn times_are_told_as_the_ward_reads_its_clock() {
        let at = EventTime::parse("2026-07-01T11:00:00Z").unwrap();
        assert_eq!(local(at, "Europe/Lisbon"), "2026-07-01 12:00:00 WEST");
        assert_eq!(local(at, "nowhere"), "2026-07-01 11:00:00 UTC");
    }
}
