//! What landed: every record is read back and matched by device and number.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::{Event, Journal, Mode, Start, Topic as JournalTopic};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use schemas::{Input, Partition};

use crate::load::{READINGS, Shape};
use crate::systems::PARTITIONS;

const ASK_WITHIN: Duration = Duration::from_secs(2);

/// A message or a part of it, as a record holds it.
pub struct Part {
    pub device: usize,
    pub seq: usize,
    /// A bit for each of its readings.
    readings: u8,
}

/// Of `vigil.inputs`: a reading.
pub fn vigil(value: &[u8]) -> Option<Part> {
    let Ok(Input::Reading(reading)) = Input::decode(value) else { return None };
    let which = READINGS.iter().position(|(metric, ..)| reading.metric.name() == *metric)?;
    Some(Part { device: reading.device.as_str().strip_prefix('d')?.parse().ok()?, seq: usize::try_from(reading.seq?).ok()?, readings: 1 << which })
}

/// Of Telegraf or Benthos: a message. The key is the MQTT topic; both keep the member `seq`.
pub fn peer(key: &[u8], value: &[u8]) -> Option<Part> {
    let device = std::str::from_utf8(key).ok()?.strip_prefix("v1/devices/d")?.strip_suffix("/vitals")?;
    let seq = std::str::from_utf8(value).ok()?.split_once("\"seq\":")?.1;
    let digits = seq.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(seq.len());
    Some(Part { device: device.parse().ok()?, seq: seq[..digits].parse().ok()?, readings: u8::MAX })
}

pub struct Tally {
    shape: Shape,
    seen: Vec<u8>,
    pub records: usize,
    pub duplicates: usize,
    /// When the last one was appended: milliseconds since 1970, by the journal's clock.
    pub last_ms: i64,
}

impl Tally {
    pub fn new(shape: Shape) -> Self {
        Self { shape, seen: vec![0; shape.messages()], records: 0, duplicates: 0, last_ms: 0 }
    }

    pub fn add(&mut self, part: &Part, at_ms: i64) {
        let whole = (1 << self.shape.readings) - 1;
        let Some(seen) = self.seen.get_mut(part.device * self.shape.each + part.seq) else { return };
        self.records += 1;
        self.duplicates += usize::from(*seen & part.readings != 0);
        *seen |= part.readings & whole;
        self.last_ms = self.last_ms.max(at_ms);
    }

    /// Every reading of it is there.
    pub fn has(&self, device: usize, seq: usize) -> bool {
        self.seen[device * self.shape.each + seq].count_ones() == u32::from(self.shape.readings)
    }

    pub fn messages(&self) -> usize {
        self.seen.iter().filter(|seen| seen.count_ones() == u32::from(self.shape.readings)).count()
    }
}

/// A topic of Kafka, read from outside of every group.
pub struct Topic {
    consumer: BaseConsumer,
    name: String,
}

impl Topic {
    /// As Vigil makes its own: records carry the broker's time.
    pub async fn make(kafka: &str, name: &str) -> Result<()> {
        let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", kafka).create()?;
        let topic = NewTopic::new(name, PARTITIONS as i32, TopicReplication::Fixed(1)).set("message.timestamp.type", "LogAppendTime");
        for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
            made.map_err(|(name, code)| anyhow::anyhow!("cannot make topic {name}: {code}"))?;
        }
        Ok(())
    }

    pub fn open(kafka: &str, name: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka).set("group.id", "benchmarks").set("enable.auto.commit", "false").set("fetch.wait.max.ms", "100");
        Ok(Self { consumer: config.create()?, name: name.to_owned() })
    }

    pub fn assign(&self, from: Offset) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(&self.name, partition as i32, from)?;
        }
        Ok(self.consumer.assign(&list)?)
    }

    /// How many records there are in all partitions.
    pub fn count(&self) -> Result<i64> {
        (0..PARTITIONS).map(|partition| Ok(self.consumer.fetch_watermarks(&self.name, partition as i32, ASK_WITHIN)?.1)).sum()
    }

    /// Until so many records are there, or none has come for so long. Kafka may be away meanwhile.
    pub fn wait(&self, count: i64, silence: Duration) {
        let (mut seen, mut changed) = (-1, Instant::now());
        while seen < count && changed.elapsed() < silence {
            let now = self.count().unwrap_or(seen);
            if now != seen {
                (seen, changed) = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The next record; `None` when none has come for so long.
    pub fn next(&self, wait: Duration, part: fn(&[u8], &[u8]) -> Option<Part>) -> Result<Option<(Option<Part>, i64)>> {
        self.take(wait, |key, value, at_ms| (part(key, value), at_ms))
    }

    /// What `read` makes of the next record's value, which must come within `wait`.
    pub fn one<T>(&self, wait: Duration, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.take(wait, |_, value, _| read(value))?.with_context(|| format!("nothing came within {wait:?}"))
    }

    /// Key, value and the broker's time of every record there is.
    pub fn each(&self, mut take: impl FnMut(&[u8], &[u8], i64)) -> Result<()> {
        let left = self.count()?;
        self.assign(Offset::Beginning)?;
        for _ in 0..left {
            self.take(Duration::from_secs(10), &mut take)?.context("Kafka has records and does not hand them out")?;
        }
        Ok(())
    }

    fn take<T>(&self, wait: Duration, take: impl FnOnce(&[u8], &[u8], i64) -> T) -> Result<Option<T>> {
        let until = Instant::now() + wait;
        loop {
            let Some(message) = self.consumer.poll(until.saturating_duration_since(Instant::now())) else { return Ok(None) };
            match message {
                Ok(message) => {
                    let at_ms = message.timestamp().to_millis().unwrap_or(0);
                    return Ok(Some(take(message.key().unwrap_or_default(), message.payload().unwrap_or_default(), at_ms)));
                }
                // of the time when Kafka was killed
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads everything.
    pub fn read(&self, part: fn(&[u8], &[u8]) -> Option<Part>, tally: &mut Tally) -> Result<()> {
        self.each(|key, value, at_ms| {
            if let Some(part) = part(key, value) {
                tally.add(&part, at_ms);
            }
        })
    }
}

/// Reads an embedded journal whose process has ended.
pub async fn read_embedded(home: &Path, tally: &mut Tally) -> Result<()> {
    let text = std::fs::read_to_string(home.join("vigil.toml"))?;
    let id = text.lines().find_map(|line| line.strip_prefix("installation = \"")?.split('"').next()).context("installation")?;
    let journal = EmbeddedJournal::open(&EmbeddedConfig::new(home.join("data/journal.db"), id, PARTITIONS))?;
    let mut left = 0;
    for partition in 0..PARTITIONS {
        let range = journal.range(JournalTopic::Inputs, Partition(partition)).await?;
        left += range.next.0 - range.earliest.0;
    }
    let mut reader = journal.reader(JournalTopic::Inputs, Mode::Follow)?;
    while left > 0 {
        match reader.next().await? {
            Event::Assigned { partition, .. } => reader.start(partition, Start::Earliest),
            Event::Batch { records, .. } => {
                left -= records.len() as i64;
                for record in records {
                    if let Some(part) = vigil(&record.value) {
                        tally.add(&part, record.arrived_at.0 / 1000);
                    }
                }
            }
            _ => {}
        }
    }
    journal.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHAPE: Shape = Shape { connections: 2, each: 2, window: 1, readings: 3, rate: None };

    #[test]
    fn a_message_has_landed_when_each_of_its_readings_has() {
        let mut tally = Tally::new(SHAPE);
        let mut add = |readings: &[u8]| readings.iter().for_each(|which| tally.add(&Part { device: 1, seq: 0, readings: 1 << which }, 7));
        add(&[0, 2, 2]);
        assert_eq!((tally.messages(), tally.has(1, 0), tally.records, tally.duplicates), (0, false, 3, 1));
        tally.add(&Part { device: 1, seq: 0, readings: 1 << 1 }, 9);
        assert_eq!((tally.messages(), tally.has(1, 0), tally.has(1, 1), tally.last_ms), (1, true, false, 9));
    }

    #[test]
    fn a_record_of_a_peer_is_known_by_its_key_and_its_number() {
        let json = br#"{"fields":{"readings_0_value":97,"seq":14},"tags":{"topic":"v1/devices/d1/vitals"}}"#;
        for value in [&json[..], br#"{"sent_at":"2026-11-22T06:00:00Z","seq":14,"readings":[]}"#] {
            let part = peer(b"v1/devices/d1/vitals", value).unwrap();
            assert_eq!((part.device, part.seq), (1, 14));
            let mut tally = Tally::new(Shape { each: 20, ..SHAPE });
            tally.add(&part, 0);
            assert!(tally.has(1, 14), "one record is all of it");
        }
        assert!(peer(b"v1/devices/d1/vitals", b"{}").is_none());
    }
}
