//! What was heard of each device of late, and what became of it: for whoever connects a device. Of what was accepted never a value; a refusal
//! may quote what it refuses.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use journal::Topic;
use schemas::{DeviceId, Format, Offset, Partition, Reading};
use serde::Serialize;
use utoipa::ToSchema;

use crate::dead::DeadView;
use crate::view::{ClockWord, Time};

/// Of each device.
pub(crate) const KEPT: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Verdict)]
pub(crate) enum VerdictWord {
    Accepted,
    /// A dead letter; `reason` and `detail` say why and what to change.
    Refused,
}

/// One entry of a message.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = Message)]
pub(crate) struct MessageView {
    /// Where it stands in the journal; nothing else has it.
    #[schema(example = "vigil.inputs/3/1042")]
    pub id: String,
    pub received_at: Time,
    pub verdict: VerdictWord,
    #[schema(required = true)]
    pub metric: Option<String>,
    /// After any correction of the device's clock.
    #[schema(required = true)]
    pub measured_at: Option<Time>,
    #[schema(required = true)]
    pub clock: Option<ClockWord>,
    /// Seconds by which the device's stamp was moved.
    #[schema(required = true)]
    pub clock_shift_s: Option<i64>,
    /// `json`, `senml`, `senml-cbor`, `omh`, `fhir`, `mapping`; null when the topic names none.
    #[schema(required = true)]
    pub format: Option<&'static str>,
    #[schema(required = true)]
    pub reason: Option<&'static str>,
    #[schema(required = true)]
    pub detail: Option<String>,
    /// Accepted while the device was under test: in no rule and no count.
    pub test: bool,
}

/// Since this process began to follow the journal.
#[derive(Default)]
pub(crate) struct Messages(Mutex<HashMap<String, VecDeque<MessageView>>>);

impl Messages {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<MessageView>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, device: &str, message: MessageView) {
        let mut all = self.lock();
        if !all.contains_key(device) {
            all.insert(device.to_owned(), VecDeque::new());
        }
        let Some(kept) = all.get_mut(device) else { return };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(message);
    }

    pub fn accepted(&self, partition: Partition, offset: Offset, reading: &Reading) {
        let clock = ClockWord::from(reading.clock);
        let message = MessageView {
            id: format!("{}/{partition}/{offset}", Topic::Inputs.name()),
            received_at: reading.received_at.into(),
            verdict: VerdictWord::Accepted,
            metric: Some(reading.metric.name().to_owned()),
            measured_at: Some(reading.at.into()),
            clock: Some(clock),
            clock_shift_s: (clock == ClockWord::Corrected).then(|| (reading.at - reading.stamped_at).as_seconds()),
            format: reading.format.map(Format::as_str),
            reason: None,
            detail: None,
            test: reading.test,
        };
        self.keep(reading.device.as_str(), message);
    }

    /// Under the device that connected, and under the one that the topic names, if readings of it were heard and it was found to be the
    /// connection's to speak for: a name that anybody could make up would take memory without end, and speak ill of others.
    pub fn refused(&self, letter: &DeadView) {
        let message = MessageView {
            id: format!("{}/{}/{}", Topic::DeadLetters.name(), letter.partition, letter.offset),
            received_at: letter.received_at,
            verdict: VerdictWord::Refused,
            metric: letter.metric.map(|metric| metric.name().to_owned()),
            measured_at: None,
            clock: None,
            clock_shift_s: None,
            format: letter.format,
            reason: Some(letter.reason),
            detail: Some(letter.detail.clone()),
            test: false,
        };
        let found = !matches!(letter.reason, "unknown_topic" | "unknown_device" | "not_allowed" | "unknown_format" | "malformed");
        let named = letter.topic.split('/').nth(2).filter(|named| found && *named != letter.device && self.lock().contains_key(*named));
        if let Some(named) = named {
            self.keep(named, message.clone());
        }
        self.keep(&letter.device, message);
    }

    /// Oldest first.
    pub fn of(&self, device: &DeviceId) -> Vec<MessageView> {
        self.lock().get(device.as_str()).map(|kept| kept.iter().cloned().collect()).unwrap_or_default()
    }
}
