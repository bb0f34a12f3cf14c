//! Leads the device through the list: what has been seen and what time it is in, what the gateway is to do next out.

use std::collections::{HashMap, VecDeque};

use schemas::{EventTime, Micros};

use super::backlog::Outage;
use super::facts::Facts;
use super::list::{Finding, Item};
use super::resend::{Resend, exactly};
use super::seen::{Message, Seen};

/// How long each part takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Messages before anything is done to the device.
    pub messages: u64,
    /// For so long the gateway is away.
    pub outage: Micros,
    /// For what must come after a connection was lost.
    pub patience: Micros,
}

/// What the gateway is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Withholds the next PUBACK, and ends the connection instead.
    LosePuback,
    GoAway,
    ComeBack,
    /// Everything has its verdict.
    Finish,
}

enum Phase {
    /// Until enough was heard.
    Listening,
    /// The next PUBACK is withheld.
    Losing,
    Resending(Resend),
    /// What must be there before the gateway goes away: a device.
    Leaving,
    Away {
        from: EventTime,
    },
    Back {
        outage: Outage,
        reconnected_at: Option<EventTime>,
    },
    Over,
}

struct Line {
    tls: bool,
    heard_at: EventTime,
    unacknowledged: VecDeque<Message>,
}

pub struct Examiner {
    pace: Pace,
    facts: Facts,
    phase: Phase,
    /// When the first thing was done to the device.
    calm_until: Option<EventTime>,
    /// Open TCP connections; with `true`, past their CONNECT.
    lines: HashMap<u64, (Line, bool)>,
    said: Vec<String>,
}

impl Examiner {
    pub fn new(pace: Pace) -> Self {
        let said = vec!["waiting for the device to connect".to_owned()];
        Self { pace, facts: Facts::default(), phase: Phase::Listening, calm_until: None, lines: HashMap::new(), said }
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn finding(&self, item: Item) -> Finding {
        self.facts.finding(item)
    }

    /// What there is to tell whoever waits, since the last time.
    pub fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    pub fn see(&mut self, connection: u64, at: EventTime, seen: Seen) {
        match seen {
            Seen::Arrived { tls } => {
                if matches!(self.phase, Phase::Away { .. }) {
                    self.facts.counts.attempts_while_away += 1;
                } else {
                    self.lines.insert(connection, (Line { tls, heard_at: at, unacknowledged: VecDeque::new() }, false));
                }
            }
            Seen::Stranger { detail } => {
                if self.lines.remove(&connection).is_some_and(|(line, _)| line.tls) {
                    self.said.push(format!("a TLS connection ended before its CONNECT: {detail}"));
                    self.facts.tls_failure = Some(detail);
                }
            }
            Seen::Refused { own_name, detail } => {
                self.lines.remove(&connection);
                self.facts.counts.refused_connections += 1;
                let whose = if own_name { "" } else { " (another user name than the device's)" };
                self.said.push(format!("a connection was refused{whose}: {detail}"));
                self.facts.refusal = Some(format!("{detail}{whose}"));
            }
            Seen::Connected(connected) => self.connected(connection, at, connected),
            Seen::Published(message) => self.published(connection, at, message),
            Seen::Acknowledged => {
                if let Some((line, _)) = self.lines.get_mut(&connection) {
                    line.unacknowledged.pop_front();
                }
            }
            Seen::Subscribed => {
                self.facts.subscribed = true;
                self.heard(connection, at);
            }
            Seen::Pinged => {
                self.facts.pings += 1;
                self.heard(connection, at);
            }
            Seen::Ended { reason, detail } => self.ended(connection, at, reason, detail),
        }
    }

    fn connected(&mut self, connection: u64, at: EventTime, connected: super::seen::Connected) {
        let Some((line, open)) = self.lines.get_mut(&connection) else { return };
        *open = true;
        line.heard_at = at;
        let tls = line.tls;
        self.facts.counts.connections += 1;
        self.facts.plain += u64::from(!tls);
        self.said.push(format!("connected {}", if tls { "over TLS 1.3" } else { "over plain TCP" }));
        self.facts.last = Some(connected);
        match &mut self.phase {
            Phase::Resending(resend) => resend.connected(at),
            Phase::Back { reconnected_at, outage } if reconnected_at.is_none() => {
                *reconnected_at = Some(at);
                let attempts = self.facts.counts.attempts_while_away;
                self.facts.reconnect = Some(reconnected(attempts, *outage, at));
            }
            _ => {}
        }
    }

    fn heard(&mut self, connection: u64, at: EventTime) {
        if let Some((line, _)) = self.lines.get_mut(&connection) {
            self.facts.quiet = self.facts.quiet.max(at - line.heard_at);
            line.heard_at = at;
        }
    }

    fn published(&mut self, connection: u64, at: EventTime, message: Message) {
        self.heard(connection, at);
        if let Phase::Resending(resend) = &mut self.phase {
            resend.take(&message);
        }
        self.facts.take(&message);
        if message.qos > 0
            && let Some((line, _)) = self.lines.get_mut(&connection)
        {
            line.unacknowledged.push_back(message);
            self.facts.most_in_flight = self.facts.most_in_flight.max(line.unacknowledged.len());
        }
    }

    fn ended(&mut self, connection: u64, at: EventTime, reason: &'static str, detail: String) {
        let Some((line, _)) = self.lines.remove(&connection) else { return };
        match reason {
            "receipt" => {
                self.facts.counts.unacknowledged += line.unacknowledged.len() as u64;
                if matches!(self.phase, Phase::Losing) && line.unacknowledged.is_empty() {
                    // it was a message at QoS 0, which nobody sends again
                    self.phase = Phase::Listening;
                } else if matches!(self.phase, Phase::Losing) {
                    self.said.push(format!("a PUBACK was withheld and the connection ended: {} messages must come again", line.unacknowledged.len()));
                    self.phase = Phase::Resending(Resend::new(line.unacknowledged, at));
                }
            }
            "goodbye" => self.facts.goodbyes += 1,
            "keep_alive" => self.facts.silent = true,
            "protocol" if detail.contains("Receive Maximum") => self.facts.exceeded = true,
            "protocol" | "malformed" | "packet_too_large" => {
                self.said.push(format!("the connection was ended: {detail}"));
                self.facts.breaches += 1;
                self.facts.breach = Some(detail);
            }
            _ => {}
        }
    }

    /// The gateway has gone away.
    pub fn went(&mut self, at: EventTime) {
        self.lines.clear();
        self.said.push(format!("the gateway is away for {}: go on measuring", exactly(self.pace.outage)));
        self.phase = Phase::Away { from: at };
    }

    /// It is there again.
    pub fn came(&mut self, at: EventTime) {
        if let Phase::Away { from } = self.phase {
            self.said.push("the gateway is back; waiting for the device and what it measured meanwhile".to_owned());
            let calm_until = self.calm_until.unwrap_or(from);
            self.phase = Phase::Back { outage: Outage { calm_until, from, until: at }, reconnected_at: None };
        }
    }

    fn is_connected(&self) -> bool {
        self.lines.values().any(|(_, open)| *open)
    }

    /// What the gateway is to do now. An order is given once.
    pub fn next(&mut self, now: EventTime) -> Option<Order> {
        match &self.phase {
            Phase::Listening if self.facts.counts.messages < self.pace.messages => None,
            Phase::Listening if self.facts.at_qos_1() == 0 => {
                self.said.push("nothing came at QoS 1: no PUBACK can be withheld".to_owned());
                self.phase = Phase::Leaving;
                None
            }
            Phase::Listening => {
                self.said.push(format!("{} messages were heard; the next PUBACK is withheld", self.facts.counts.messages));
                self.phase = Phase::Losing;
                self.calm_until.get_or_insert(now);
                Some(Order::LosePuback)
            }
            Phase::Resending(resend) => {
                let finding = resend.finding(now, self.pace.patience)?;
                self.said.push(finding.saw.clone());
                self.facts.resend = Some(finding);
                self.phase = Phase::Leaving;
                None
            }
            Phase::Leaving if self.is_connected() => Some(Order::GoAway),
            Phase::Away { from } if now - *from >= self.pace.outage => Some(Order::ComeBack),
            Phase::Back { outage, reconnected_at } => {
                let finding = self.back(*outage, *reconnected_at, now)?;
                self.said.push(finding.saw.clone());
                self.facts.backlog = Some(finding);
                self.phase = Phase::Over;
                Some(Order::Finish)
            }
            Phase::Losing | Phase::Leaving | Phase::Away { .. } | Phase::Over => None,
        }
    }

    fn back(&mut self, outage: Outage, reconnected_at: Option<EventTime>, now: EventTime) -> Option<Finding> {
        let Some(reconnected_at) = reconnected_at else {
            if now - outage.until <= self.pace.patience {
                return None;
            }
            let saw = format!("it did not connect again within {} after the gateway was back", exactly(self.pace.patience));
            self.facts.reconnect = Some(Finding::fail(saw, "try again until it succeeds, with a pause that grows to a minute at most"));
            return Some(Finding::not_seen("it did not connect again"));
        };
        outage.finding(&self.facts.arrivals, self.facts.offset.unwrap_or_default(), now - reconnected_at > self.pace.patience)
    }
}

/// One attempt every two seconds is enough for anybody.
fn reconnected(attempts: u32, outage: Outage, at: EventTime) -> Finding {
    let away = outage.until - outage.from;
    let saw = format!("{attempts} attempts in {}, connected {} after the gateway was back", exactly(away), exactly(at - outage.until));
    let enough = 1 + away.0.max(0) / Micros::seconds(2).0;
    if i64::from(attempts) <= enough {
        return Finding::pass(saw);
    }
    let remedy = "wait longer between attempts, twice as long each time and not all devices alike: one every two seconds is enough to begin with";
    Finding::fail(format!("{saw}: at most {enough} are called for"), remedy)
}
