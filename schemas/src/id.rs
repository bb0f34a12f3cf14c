//! Ids as types. What a person or a device names is text with a narrow alphabet; what we name is 16 bytes of SHA-256.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{EventTime, Metric, Offset};

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an id must not be empty")]
    Empty,
    #[error("an id has at most 64 characters, this one has {0}")]
    TooLong(usize),
    #[error("an id may hold letters, digits, `.`, `_` and `-`, and starts with a letter or digit; this one holds {0:?}")]
    Character(char),
    #[error("expected 32 hexadecimal digits")]
    NotHex,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > 64 {
        return Err(IdError::TooLong(text.len()));
    }
    for (i, c) in text.chars().enumerate() {
        if !(c.is_ascii_alphanumeric() || (i > 0 && matches!(c, '.' | '_' | '-'))) {
            return Err(IdError::Character(c));
        }
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// A patient, as the installation names them: never a name or a national number.
    PatientId
}
text_id! {
    /// A device, as it names itself in its topics.
    DeviceId
}
text_id! {
    /// A rule, as its author named it: `spo2-low`.
    RuleId
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            fn of(parts: &[&[u8]]) -> Self {
                let mut hash = Sha256::new();
                for part in parts {
                    hash.update((part.len() as u32).to_le_bytes());
                    hash.update(part);
                }
                let digest = hash.finalize();
                let mut id = [0; 16];
                id.copy_from_slice(&digest[..16]);
                Self(id)
            }
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
            /// The first 8 bytes: enough to tell readings of one patient and metric apart.
            pub fn short(&self) -> u64 {
                let mut head = [0; 8];
                head.copy_from_slice(&self.0[..8]);
                u64::from_be_bytes(head)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut id = [0; 16];
                if text.len() != 32 || !text.is_ascii() {
                    return Err(IdError::NotHex);
                }
                for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
                    let digit = |c: u8| (c as char).to_digit(16).ok_or(IdError::NotHex);
                    *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
                }
                Ok(Self(id))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_id! {
    /// A reading. The same device, metric, stamp and boot are the same reading, however often it is sent.
    ReadingId
}
hash_id! {
    /// An alert, and the stable key under which it is paged.
    AlertId
}

impl ReadingId {
    /// SEMANTICS 18: without a boot number, and when the clock was corrected, `boot` is the corrected time rounded down to the hour.
    pub fn new(device: &DeviceId, metric: Metric, stamped: EventTime, boot: Option<u64>) -> Self {
        let boot = boot.map(u64::to_le_bytes);
        Self::of(&[b"reading", device.as_bytes(), metric.name().as_bytes(), &stamped.0.to_le_bytes(), boot.as_ref().map_or(&[][..], |b| &b[..])])
    }
}

/// What tells an input that has an effect from every other one of its patient, in whatever log it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// With the value's bits: another value under the same id is a correction.
    Reading(ReadingId, u64),
    Void(ReadingId),
    Settings(u64),
    RuleSet(u64),
    Tick,
}

impl AlertId {
    /// Four letters and digits by which people name an alert to each other: `K7F2`. Not unique for ever, but in a ward on a night.
    pub fn code(self) -> String {
        // Crockford's base32: no I, L, O, U to be misread or misheard
        const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let head = u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]);
        (0..4).map(|i| char::from(LETTERS[(head >> (27 - 5 * i)) as usize & 31])).collect()
    }

    /// An alert that an input raised at a row: `before` says how many alerts that row had been part of. Nothing here depends on where the
    /// input stands in a log, so two logs of the same readings raise the same alerts.
    pub fn by_row(patient: &PatientId, rule: &RuleId, rule_version: u64, row: EventTime, before: u64, origin: &Origin) -> Self {
        let (kind, what, value) = match origin {
            Origin::Reading(id, value) => (&b"reading"[..], &id.0[..], *value),
            Origin::Void(id) => (&b"void"[..], &id.0[..], 0),
            Origin::Settings(version) => (&b"settings"[..], &[][..], *version),
            Origin::RuleSet(version) => (&b"rules"[..], &[][..], *version),
            Origin::Tick => (&b"tick"[..], &[][..], 0),
        };
        let rule_version = rule_version.to_le_bytes();
        let numbers = [row.0.to_le_bytes(), before.to_le_bytes(), value.to_le_bytes()].concat();
        Self::of(&[b"row", patient.as_bytes(), rule.as_str().as_bytes(), &rule_version, &numbers, kind, what])
    }
    /// An alert about a place in a log.
    pub fn by_offset(patient: &PatientId, rule: &RuleId, offset: Offset) -> Self {
        Self::of(&[b"offset", patient.as_bytes(), rule.as_str().as_bytes(), &offset.0.to_le_bytes()])
    }
    /// SEMANTICS 19: an alert raised by a timer, which a tick cannot change.
    pub fn by_timer(patient: &PatientId, rule: &RuleId, due: crate::Arrived) -> Self {
        Self::of(&[b"timer", patient.as_bytes(), rule.as_str().as_bytes(), &due.0.to_le_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_a_topic_or_a_log_could_mistake() {
        for (text, error) in [
            ("", IdError::Empty),
            ("a/b", IdError::Character('/')),
            ("a+", IdError::Character('+')),
            ("#", IdError::Character('#')),
            ("a\0b", IdError::Character('\0')),
            ("-a", IdError::Character('-')),
            ("é", IdError::Character('é')),
        ] {
            assert_eq!(DeviceId::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(PatientId::parse(&"x".repeat(65)), Err(IdError::TooLong(65)));
        assert!(DeviceId::parse("oximeter-0001.a_b").is_ok());
    }

    #[test]
    fn hash_ids_round_trip_and_keep_their_parts_apart() {
        let rule = RuleId::parse("r").unwrap();
        let a = AlertId::by_offset(&PatientId::parse("ab").unwrap(), &rule, Offset(1));
        let b = AlertId::by_offset(&PatientId::parse("a").unwrap(), &RuleId::parse("br").unwrap(), Offset(1));
        assert_ne!(a, b);
        assert_eq!(a.to_string().parse(), Ok(a));
    }
}
