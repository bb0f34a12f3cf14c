//! The list: what a device must do, what is good to know, and the words of a verdict.

use serde::Serialize;

/// What is on the list, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    Tls,
    Credential,
    Mqtt,
    Qos,
    Topic,
    Decodes,
    SentAt,
    Clock,
    MeasuredAt,
    Boot,
    Resend,
    Backlog,
    Reconnect,
    KeepAlive,
    ReceiveMaximum,
    Verdicts,
    Goodbye,
}

impl Item {
    pub const ALL: [Self; 17] = [
        Self::Tls,
        Self::Credential,
        Self::Mqtt,
        Self::Qos,
        Self::Topic,
        Self::Decodes,
        Self::SentAt,
        Self::Clock,
        Self::MeasuredAt,
        Self::Boot,
        Self::Resend,
        Self::Backlog,
        Self::Reconnect,
        Self::KeepAlive,
        Self::ReceiveMaximum,
        Self::Verdicts,
        Self::Goodbye,
    ];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Tls => "connects over TLS 1.3",
            Self::Credential => "comes in with its own credential",
            Self::Mqtt => "speaks MQTT 3.1.1 or 5 and keeps to it",
            Self::Qos => "publishes at QoS 1",
            Self::Topic => "its topic names the device and a format that is read",
            Self::Decodes => "every entry is read: metric, unit, a number that can be true",
            Self::SentAt => "each message says when it was sent",
            Self::Clock => "its clock is right within 2 min",
            Self::MeasuredAt => "each reading says when it was measured, and not in the future",
            Self::Boot => "counts its restarts (boot), if its clock may start anew",
            Self::Resend => "sends again what got no PUBACK, unchanged",
            Self::Backlog => "delivers what it measured while the gateway was away, in order",
            Self::Reconnect => "connects again, and not too often",
            Self::KeepAlive => "is heard within its keep alive",
            Self::ReceiveMaximum => "keeps to the Receive Maximum",
            Self::Verdicts => "subscribes to its verdicts",
            Self::Goodbye => "says DISCONNECT when it leaves",
        }
    }

    /// What is not required is noted.
    pub const fn required(self) -> bool {
        !matches!(self, Self::Boot | Self::Verdicts | Self::Goodbye)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Fail,
    NotSeen,
}

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotSeen => "not seen",
        }
    }
}

/// A verdict, what it rests on, and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    pub saw: String,
    /// Empty when there is nothing to change.
    pub remedy: String,
}

impl Finding {
    pub fn pass(saw: impl Into<String>) -> Self {
        Self { verdict: Verdict::Pass, saw: saw.into(), remedy: String::new() }
    }

    pub fn fail(saw: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, saw: saw.into(), remedy: remedy.into() }
    }

    pub fn not_seen(saw: impl Into<String>) -> Self {
        Self { verdict: Verdict::NotSeen, saw: saw.into(), remedy: String::new() }
    }

    pub fn or_try(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}
