//! Readings that a person typed: they stand in the log like any other, with a device of no hardware and an id that a resend finds again.

use sha2::{Digest, Sha256};

use crate::{ClockState, DeviceId, EventTime, IdError, Metric, PatientId, Reading, ReadingId};

/// What stands where a device's name would. No device can be registered under it.
pub const TYPED_DEVICE: &str = "typed";

/// Who typed, for whom, and the key under which they may send it again.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    pub patient: &'a PatientId,
    pub author: &'a str,
    pub key: &'a str,
}

impl Typed<'_> {
    /// Stands in for a boot number: what two people type of one minute are two readings, and what one of them sends twice is one.
    fn boot(&self) -> u64 {
        let mut hash = Sha256::new();
        for part in [self.patient.as_str(), self.author, self.key] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut head = [0; 8];
        head.copy_from_slice(&hash.finalize()[..8]);
        u64::from_le_bytes(head)
    }

    /// `value` in the metric's own unit, `sent` as it was typed.
    ///
    /// # Errors
    /// Never: the name of the device is one.
    pub fn reading(&self, metric: Metric, value: f64, sent: (f64, &str), at: EventTime, now: EventTime) -> Result<Reading, IdError> {
        let device = DeviceId::parse(TYPED_DEVICE)?;
        let boot = Some(self.boot());
        Ok(Reading {
            id: ReadingId::new(&device, metric, at, boot),
            patient: self.patient.clone(),
            device,
            metric,
            value,
            at,
            stamped_at: at,
            received_at: now,
            clock: ClockState::AsSent,
            boot,
            seq: None,
            typed: true,
            test: false,
            value_as_sent: sent.0,
            unit_as_sent: sent.1.to_owned(),
            author: self.author.to_owned(),
            format: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resend_is_the_same_reading_and_nothing_else_is() {
        let (ada, uwe) = (PatientId::parse("ada").unwrap(), PatientId::parse("uwe").unwrap());
        let id = |patient, author, key, metric, at| Typed { patient, author, key }.reading(metric, 1.0, (1.0, ""), EventTime(at), EventTime(9)).unwrap().id;
        let first = id(&ada, "ito", "k1", Metric::Spo2, 5);
        assert_eq!(first, id(&ada, "ito", "k1", Metric::Spo2, 5));
        for other in [
            id(&uwe, "ito", "k1", Metric::Spo2, 5),
            id(&ada, "ana", "k1", Metric::Spo2, 5),
            id(&ada, "ito", "k2", Metric::Spo2, 5),
            id(&ada, "it", "ok1", Metric::Spo2, 5),
            id(&ada, "ito", "k1", Metric::HeartRate, 5),
            id(&ada, "ito", "k1", Metric::Spo2, 6),
        ] {
            assert_ne!(first, other);
        }
    }
}
