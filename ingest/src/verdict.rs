//! What a device is told of its message: a reason code and a string in MQTT 5, and in both versions a message on its verdict topic.

use mqtt_protocol_core::mqtt::result_code::PubackReasonCode;
use schemas::{DeadLetter, DeviceId, EventTime, Reason};
use serde::Serialize;

/// Refusals listed in one verdict; the rest is only counted.
const LISTED: usize = 100;

/// The only topic that may be subscribed to.
pub(crate) fn topic(device: &DeviceId) -> String {
    format!("v1/devices/{device}/verdicts")
}

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub refused: Vec<Refused>,
    /// Refused beyond those listed.
    pub more: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Refused {
    entry: u32,
    #[serde(serialize_with = "word")]
    reason: Reason,
    detail: String,
}

fn word<S: serde::Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.as_str())
}

impl Verdict {
    /// `listed`: somebody will read more than the first one.
    pub fn add(&mut self, dead: DeadLetter, listed: bool) {
        if self.refused.len() < if listed { LISTED } else { 1 } {
            self.refused.push(Refused { entry: dead.entry, reason: dead.reason, detail: dead.detail });
        } else {
            self.more += 1;
        }
    }

    /// Of the first refusal.
    pub fn code(&self) -> PubackReasonCode {
        self.refused.first().map_or(PubackReasonCode::Success, |refused| code(refused.reason))
    }

    /// The first refusal's own words. MQTT text must not hold control characters, and an entry's key may.
    pub fn reason_string(&self) -> String {
        let mut text: String = self.refused.first().map(|refused| refused.detail.as_str()).unwrap_or_default().replace(char::is_control, " ");
        let more = self.refused.len().saturating_sub(1) + self.more as usize;
        if more > 0 {
            text.push_str(&format!(" (and {more} more)"));
        }
        text
    }

    pub fn json(&self, server_time: EventTime, packet_id: u16, accepted: u32) -> Vec<u8> {
        #[derive(Serialize)]
        struct Message<'a> {
            server_time: EventTime,
            #[serde(skip_serializing_if = "Option::is_none")]
            packet_id: Option<u16>,
            accepted: u32,
            refused: &'a [Refused],
            #[serde(skip_serializing_if = "is_zero")]
            more: u32,
        }
        let packet_id = (packet_id != 0).then_some(packet_id);
        // nothing of it can fail to be written as JSON
        serde_json::to_vec(&Message { server_time, packet_id, accepted, refused: &self.refused, more: self.more }).unwrap_or_default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a new subscriber gets.
pub(crate) fn greeting(server_time: EventTime) -> Vec<u8> {
    serde_json::json!({ "server_time": server_time }).to_string().into_bytes()
}

const fn code(reason: Reason) -> PubackReasonCode {
    match reason {
        Reason::NotAllowed | Reason::UnknownDevice => PubackReasonCode::NotAuthorized,
        Reason::Malformed
        | Reason::UnknownFormat
        | Reason::UnknownMetric
        | Reason::UnitMismatch
        | Reason::Implausible
        | Reason::NotANumber
        | Reason::BadTime
        | Reason::Empty => PubackReasonCode::PayloadFormatInvalid,
        // nothing that the device could put right in its payload
        Reason::UnknownTopic | Reason::Unassigned | Reason::Ambiguous | Reason::TooLarge => PubackReasonCode::ImplementationSpecificError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(entry: u32, reason: Reason, detail: &str) -> DeadLetter {
        DeadLetter {
            device: "ox".to_owned(),
            topic: "v1/devices/ox/vitals".to_owned(),
            payload: bytes::Bytes::new(),
            reason,
            detail: detail.to_owned(),
            received_at: EventTime(0),
            content_type: String::new(),
            entry,
            metric: None,
            stamped_at: None,
            format: None,
        }
    }

    #[test]
    fn the_first_refusal_speaks_for_all() {
        let mut verdict = Verdict::default();
        verdict.add(dead(1, Reason::Implausible, "implausible: a\0b"), true);
        verdict.add(dead(3, Reason::Unassigned, "unassigned: c"), true);
        assert_eq!(verdict.code(), PubackReasonCode::PayloadFormatInvalid);
        assert_eq!(verdict.reason_string(), "implausible: a b (and 1 more)");
        let json: serde_json::Value = serde_json::from_slice(&verdict.json(EventTime(0), 7, 2)).unwrap();
        assert_eq!(json["packet_id"], 7);
        assert_eq!(json["accepted"], 2);
        assert_eq!(json["server_time"], "1970-01-01T00:00:00Z");
        assert_eq!(json["refused"][1], serde_json::json!({"entry": 3, "reason": "unassigned", "detail": "unassigned: c"}));
    }

    #[test]
    fn a_verdict_is_bounded_and_every_reason_is_a_failure() {
        for listed in [true, false] {
            let mut verdict = Verdict::default();
            (0..1000).for_each(|n| verdict.add(dead(n, Reason::Empty, "x"), listed));
            assert_eq!((verdict.refused.len(), verdict.more), if listed { (100, 900) } else { (1, 999) });
        }
        assert!(Reason::ALL.iter().all(|reason| code(*reason) as u8 >= 0x80));
    }
}
