//! What is known of the device so far, and what each item of the list is by it.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{EventTime, Micros, Reason};
use serde::Serialize;

use super::backlog::Arrivals;
use super::list::{Finding, Item};
use super::resend::exactly;
use super::seen::{Connected, Message};

/// As the gateway forgives it.
const TOLERANCE: Micros = Micros::minutes(2);
/// Between two packets of a device, beyond its keep alive: for a network.
const SLACK: Micros = Micros::seconds(2);
/// A stamp before this is of a clock that started anew.
const NEVER_BEFORE: EventTime = EventTime(1_577_836_800_000_000);

/// What came, by number; it stands in the report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    pub connections: u64,
    pub refused_connections: u64,
    pub messages: u64,
    pub accepted: u64,
    pub refused: u64,
    pub unacknowledged: u64,
    pub attempts_while_away: u32,
}

/// A reason for which entries were refused.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedEntries {
    pub reason: &'static str,
    pub entries: u64,
    /// The dead letter's words, of the first.
    pub detail: String,
}

#[derive(Default)]
pub struct Facts {
    pub counts: Counts,
    pub last: Option<Connected>,
    pub plain: u64,
    /// The last word of a connection that was refused or ended before its CONNECT.
    pub refusal: Option<String>,
    pub tls_failure: Option<String>,
    /// Connections that were ended for breaking the protocol, and the last one's words.
    pub breaches: u64,
    pub breach: Option<String>,
    by_qos: [u64; 3],
    refused: BTreeMap<&'static str, (Reason, RefusedEntries)>,
    formats: BTreeSet<String>,
    stamped: u64,
    unstamped: u64,
    may_be_stamped: bool,
    pub offset: Option<Micros>,
    readings: u64,
    untimed: u64,
    ahead: Option<Micros>,
    boots: BTreeSet<u64>,
    restarted: bool,
    pub arrivals: Arrivals,
    pub pings: u64,
    pub subscribed: bool,
    pub goodbyes: u64,
    pub silent: bool,
    /// Longest time between two packets of an open connection.
    pub quiet: Micros,
    pub most_in_flight: usize,
    pub exceeded: bool,
    pub resend: Option<Finding>,
    pub backlog: Option<Finding>,
    pub reconnect: Option<Finding>,
}

impl Facts {
    pub fn take(&mut self, message: &Message) {
        self.counts.messages += 1;
        if let Some(count) = self.by_qos.get_mut(usize::from(message.qos)) {
            *count += 1;
        }
        self.formats.extend(message.format.clone());
        self.boots.extend(message.boot);
        for entry in &message.entries {
            match &entry.refused {
                None => self.counts.accepted += 1,
                Some((reason, detail)) => {
                    self.counts.refused += 1;
                    let fresh = || (*reason, RefusedEntries { reason: reason.as_str(), entries: 0, detail: detail.clone() });
                    self.refused.entry(reason.as_str()).or_insert_with(fresh).1.entries += 1;
                }
            }
        }
        self.times(message);
        self.arrivals.take(message);
    }

    fn times(&mut self, message: &Message) {
        if message.may_be_stamped {
            self.may_be_stamped = true;
            *(if message.sent_at.is_some() { &mut self.stamped } else { &mut self.unstamped }) += 1;
        }
        for entry in message.entries.iter().filter(|entry| entry.refused.is_none()) {
            self.readings += 1;
            self.untimed += u64::from(entry.mark.is_none());
        }
        self.restarted |= message.newest().is_some_and(|newest| newest < NEVER_BEFORE);
        // a repetition says when it was sent first
        let Some(said) = message.sent_at.or(message.newest()).filter(|_| !message.dup) else { return };
        let offset = message.received_at - said;
        if self.offset.is_none_or(|known| offset.0.unsigned_abs() < known.0.unsigned_abs()) {
            self.offset = Some(offset);
        }
        let ahead = message.newest().map(|newest| newest - message.sent_at.unwrap_or(message.received_at));
        self.ahead = self.ahead.max(ahead);
    }

    pub fn refused(&self) -> Vec<RefusedEntries> {
        self.refused.values().map(|(_, refused)| refused.clone()).collect()
    }

    pub fn at_qos_1(&self) -> u64 {
        self.by_qos[1]
    }

    pub fn finding(&self, item: Item) -> Finding {
        if self.counts.connections == 0 && !matches!(item, Item::Tls | Item::Credential | Item::Mqtt) {
            return Finding::not_seen("it has not connected");
        }
        match item {
            Item::Tls => self.tls(),
            Item::Credential => self.credential(),
            Item::Mqtt => self.mqtt(),
            Item::KeepAlive => self.keep_alive(),
            Item::ReceiveMaximum => self.receive_maximum(),
            Item::Verdicts => match self.subscribed {
                true => Finding::pass("it subscribed"),
                false => Finding::not_seen("it did not").or_try("under MQTT 3.1.1 a refusal is told nowhere else: subscribe to v1/devices/{id}/verdicts"),
            },
            Item::Goodbye => match self.goodbyes {
                0 => Finding::not_seen("no connection ended with DISCONNECT"),
                n => Finding::pass(format!("{n} connections ended with it")),
            },
            _ if self.counts.messages == 0 => Finding::not_seen("it has published nothing").or_try("publish to v1/devices/{id}/vitals"),
            Item::Qos => self.qos(),
            Item::Topic => self.entries(true),
            Item::Decodes => self.entries(false),
            Item::SentAt => self.sent_at(),
            Item::Clock => self.clock(),
            Item::MeasuredAt => self.measured_at(),
            Item::Boot => self.boot(),
            Item::Resend if self.by_qos[1] == 0 => Finding::not_seen("nothing came at QoS 1, so no PUBACK could be withheld"),
            Item::Resend => self.resend.clone().unwrap_or_else(|| Finding::not_seen("no PUBACK was withheld yet")),
            Item::Backlog => self.backlog.clone().unwrap_or_else(|| Finding::not_seen("the gateway was not away yet")),
            Item::Reconnect => self.reconnect.clone().unwrap_or_else(|| Finding::not_seen("the gateway was not away yet")),
        }
    }

    fn tls(&self) -> Finding {
        let remedy = "connect to the TLS address; the vendor's TLS library must speak TLS 1.3 and trust the gateway's certificate";
        match (self.plain, self.counts.connections, &self.tls_failure) {
            (0, 0, Some(failure)) => Finding::fail(format!("its TLS handshake failed: {failure}"), remedy),
            (0, 0, None) => Finding::not_seen("it has not connected").or_try(remedy),
            (0, _, _) => Finding::pass("every connection was TLS 1.3"),
            (plain, all, _) => Finding::fail(format!("{plain} of {all} connections came over plain TCP, where its password and readings can be read"), remedy),
        }
    }

    fn credential(&self) -> Finding {
        match (&self.last, &self.refusal) {
            (Some(last), _) if last.certificate => Finding::pass("its certificate"),
            (Some(_), _) => Finding::pass("its id and password"),
            (None, Some(refusal)) => {
                Finding::fail(format!("it was refused: {refusal}"), "user name = the device's id; `vigil device password ID` makes another password")
            }
            (None, None) => Finding::not_seen("it has not connected"),
        }
    }

    fn mqtt(&self) -> Finding {
        if let Some(breach) = &self.breach {
            return Finding::fail(format!("{} connections were ended for a breach: {breach}", self.breaches), "docs/mqtt.md says what each packet is answered");
        }
        let Some(last) = &self.last else { return Finding::not_seen("it has not connected") };
        let version = if last.mqtt_5 { "MQTT 5" } else { "MQTT 3.1.1" };
        let client = last.client.as_ref().map_or_else(|| "a client id that the gateway chose".to_owned(), |client| format!("client id {client}"));
        let keep_alive = last.keep_alive.map_or_else(|| "no keep alive".to_owned(), |span| format!("keep alive {} s", span.as_seconds()));
        Finding::pass(format!("{version}, {client}, {keep_alive}"))
    }

    fn qos(&self) -> Finding {
        let [zero, one, two] = self.by_qos;
        if zero > 0 {
            let saw =
                format!("{zero} of {} messages came at QoS 0: what is under way when a connection breaks is lost, and nobody knows", self.counts.messages);
            return Finding::fail(saw, "publish at QoS 1 and keep each message until its PUBACK");
        }
        match two {
            0 => Finding::pass(format!("{one} messages")),
            _ => {
                Finding::fail(format!("{two} messages came at QoS 2, which MQTT 5 is refused here"), "publish at QoS 1: a reading that comes twice counts once")
            }
        }
    }

    /// Refused for their topic and format, or for what is in them.
    fn entries(&self, of_topic: bool) -> Finding {
        let topical = |reason: Reason| matches!(reason, Reason::UnknownTopic | Reason::UnknownDevice | Reason::NotAllowed | Reason::UnknownFormat);
        let about = |reason: Reason| topical(reason) == of_topic && reason != Reason::BadTime;
        let refused: Vec<&RefusedEntries> = self.refused.values().filter(|(reason, _)| about(*reason)).map(|(_, refused)| refused).collect();
        let count: u64 = refused.iter().map(|refused| refused.entries).sum();
        if let Some(first) = refused.first() {
            let remedy = if of_topic { "docs/formats.md has the topics" } else { "docs/formats.md, and `vigil decode FILE --as FORMAT`, say what is read" };
            return Finding::fail(format!("{count} of {} entries refused: {}", self.counts.accepted + self.counts.refused, first.detail), remedy);
        }
        if of_topic {
            return Finding::pass(format!("format {}", self.formats.iter().map(String::as_str).collect::<Vec<_>>().join(", ")));
        }
        match self.counts.accepted {
            0 => Finding::not_seen("no entry could be looked at"),
            accepted => Finding::pass(format!("{accepted} entries")),
        }
    }

    fn sent_at(&self) -> Finding {
        let remedy = "put `sent_at`, the device's time of sending, into each message: by it a wrong clock is told from a late message";
        match (self.may_be_stamped, self.unstamped) {
            (false, _) => Finding::not_seen("its format has no place for it").or_try("in Vigil's own JSON a slow clock can be found; in others it cannot"),
            (true, 0) => Finding::pass(format!("{} messages", self.stamped)),
            (true, without) => Finding::fail(format!("{without} of {} messages have none", self.stamped + without), remedy),
        }
    }

    /// Whether [`Item::SentAt`] can be asked of the device.
    pub fn sends_a_format_without_sent_at(&self) -> bool {
        self.counts.messages > 0 && !self.may_be_stamped
    }

    fn clock(&self) -> Finding {
        let Some(offset) = self.offset else { return Finding::not_seen("nothing it sent has a time") };
        let by = if self.stamped > 0 { "by sent_at" } else { "by its times of measurement" };
        let size = Micros(offset.0.saturating_abs());
        if size <= TOLERANCE {
            return Finding::pass(format!("off by at most {}, {by}", exactly(size)));
        }
        let side = if offset.0 < 0 { "ahead" } else { "behind" };
        let quarter = Micros::minutes(15).0;
        let rest = size.0 % quarter;
        let zone = size.0 >= quarter && rest.min(quarter - rest) <= Micros::seconds(60).0;
        let remedy = if zone && size <= Micros::hours(14) {
            "this looks like a time zone: send UTC with Z, or local time with its offset, such as 2026-11-22T08:00:00+02:00"
        } else {
            "set the clock from the network (NTP) before measuring, or from server_time on the verdict topic"
        };
        Finding::fail(format!("{size} {side}, {by}"), remedy)
    }

    fn measured_at(&self) -> Finding {
        if let Some((_, refused)) = self.refused.get(Reason::BadTime.as_str()) {
            return Finding::fail(format!("{} entries refused: {}", refused.entries, refused.detail), "RFC 3339 with a zone, such as 2026-11-22T06:00:00Z");
        }
        if self.untimed > 0 {
            let saw = format!(
                "{} of {} readings have no time: sent again they count twice, and a backlog would all be from when it came",
                self.untimed, self.readings
            );
            return Finding::fail(saw, "put the time of measurement (`measured_at`) into each reading");
        }
        match self.ahead {
            Some(ahead) if ahead > TOLERANCE => Finding::fail(
                format!("a reading was measured {ahead} after it was sent"),
                "stamp a reading when it is measured, with the clock that stamps the message",
            ),
            Some(_) => Finding::pass("every reading has a time, and none is in the future"),
            None => Finding::not_seen("no reading with a time was seen"),
        }
    }

    /// Its clock was seen to start anew: then [`Item::Boot`] is required.
    pub fn restarted(&self) -> bool {
        self.restarted
    }

    fn boot(&self) -> Finding {
        let remedy = "count restarts in `boot`, so that a time that a restarted clock says again is another reading";
        match (self.boots.is_empty(), self.restarted) {
            (false, _) => Finding::pass("it counts them"),
            (true, true) => Finding::fail("its clock starts anew (a time before 2020), and nothing counts its restarts", remedy),
            (true, false) => Finding::not_seen("no boot number; none is needed while its clock keeps time without power").or_try(remedy),
        }
    }

    fn keep_alive(&self) -> Finding {
        let remedy = "ask for a keep alive between 30 s and 5 min, and send PINGREQ when nothing else is sent";
        if self.silent {
            return Finding::fail("a connection was ended: nothing was heard for one and a half keep alives", remedy);
        }
        match self.last.as_ref().map(|last| last.keep_alive) {
            None => Finding::not_seen("it has not connected"),
            Some(None) => Finding::fail("it asks for no keep alive (0): a connection that is dead is not noticed", remedy),
            Some(Some(keep_alive)) if self.quiet > keep_alive + SLACK => {
                Finding::fail(format!("silent for {}, its keep alive is {} s", exactly(self.quiet), keep_alive.as_seconds()), remedy)
            }
            Some(Some(keep_alive)) => {
                Finding::pass(format!("never silent for more than {}, keep alive {} s, {} PINGREQ", exactly(self.quiet), keep_alive.as_seconds(), self.pings))
            }
        }
    }

    fn receive_maximum(&self) -> Finding {
        if self.exceeded {
            let remedy = "keep to the Receive Maximum of the CONNACK: at most so many messages without PUBACK";
            return Finding::fail("a connection was ended: more messages without PUBACK than the gateway's Receive Maximum of 32", remedy);
        }
        match self.by_qos[1] {
            0 => Finding::not_seen("nothing came at QoS 1"),
            _ => Finding::pass(format!("at most {} messages without PUBACK at once", self.most_in_flight)),
        }
    }
}
