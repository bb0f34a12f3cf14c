//! Whose journal it is: the first record of `vigil.meta`, for ever. Whoever comes second reads it and is bound by it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use schemas::Partition;
use serde::{Deserialize, Serialize};

use super::produce::Producer;
use super::topics::{Topics, Wanted, failed};
use super::{KafkaConfig, client};
use crate::{OpenError, Topic};

const FORMAT: u32 = 1;
const KEY: &[u8] = b"installation";
const ONLY: Partition = Partition(0);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    installation: String,
    partitions: u32,
}

pub fn wanted(config: &KafkaConfig) -> Wanted {
    Wanted { name: format!("{}vigil.meta", config.prefix), partitions: 1, retention: None }
}

/// Before anything of the installation is made: the cluster may be another's.
pub fn check(config: &KafkaConfig, producer: &Producer, topics: &Topics<'_>) -> Result<(), OpenError> {
    let meta = wanted(config);
    let path = format!("topic {} at {}", meta.name, config.bootstrap);
    let ours = Identity { format: FORMAT, installation: config.installation.clone(), partitions: config.partitions };
    let found = match first(config, producer, topics, &meta.name)? {
        Some(found) => found,
        None => {
            refuse_orphans(config, producer, topics, &meta.name)?;
            write(producer, topics, &meta.name, &ours)?;
            // another one may have been quicker: the first record counts
            first(config, producer, topics, &meta.name)?.unwrap_or_default()
        }
    };
    let found: Identity = serde_json::from_slice(&found)
        .map_err(|error| OpenError::NotAJournal { path: path.clone(), reason: format!("its first record does not say whose it is: {error}") })?;
    if found.format != FORMAT {
        return Err(OpenError::NotAJournal { path, reason: format!("its format is {}, this version reads {FORMAT}", found.format) });
    }
    if found.installation != ours.installation {
        return Err(OpenError::OtherInstallation { path, found: found.installation, expected: ours.installation });
    }
    if found.partitions != ours.partitions {
        return Err(OpenError::Partitions { found: found.partitions, expected: ours.partitions });
    }
    Ok(())
}

/// Records of nobody are not ours: `vigil.meta` was deleted, or never written.
fn refuse_orphans(config: &KafkaConfig, producer: &Producer, topics: &Topics<'_>, meta: &str) -> Result<(), OpenError> {
    let all = topics.metadata(None)?;
    for topic in Topic::ALL {
        let name = config.name(topic);
        let Some(there) = all.topics().iter().find(|one| one.name() == name) else { continue };
        for partition in there.partitions() {
            let (_, next) = producer.watermarks(&name, Partition(partition.id().unsigned_abs()), topics.left()).map_err(|error| topics.unreachable(&error))?;
            // unless its owner wrote it meanwhile
            if next > 0 && first(config, producer, topics, meta)?.is_none() {
                let reason = format!(
                    "it holds records, and {meta} does not say whose they are: point journal.bootstrap at this installation's own cluster, or delete the topic"
                );
                return Err(OpenError::NotAJournal { path: format!("topic {name} at {}", config.bootstrap), reason });
            }
        }
    }
    Ok(())
}

fn write(producer: &Producer, topics: &Topics<'_>, meta: &str, ours: &Identity) -> Result<(), OpenError> {
    let value: Bytes = serde_json::to_vec(ours).map_err(|error| OpenError::Failed(error.to_string()))?.into();
    let receipt = producer.append(meta, ONLY, KEY, &value).map_err(|full| OpenError::Failed(full.to_string()))?;
    if let Err(error) = producer.flush(topics.left()) {
        return Err(topics.unreachable(&error));
    }
    match receipt.now_or_never() {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(OpenError::Failed(format!("{meta} could not be written: {error}"))),
        None => Err(OpenError::Failed(format!("{meta} could not be written: no receipt came"))),
    }
}

fn first(config: &KafkaConfig, producer: &Producer, topics: &Topics<'_>, meta: &str) -> Result<Option<Vec<u8>>, OpenError> {
    let (low, next) = producer.watermarks(meta, ONLY, topics.left()).map_err(|error| topics.unreachable(&error))?;
    if next == 0 {
        return Ok(None);
    }
    let consumer: BaseConsumer = client::base(config)
        .set("group.id", config.group("open", meta))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()
        .map_err(failed)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(meta, ONLY.0 as i32, Offset::Offset(low)).and_then(|()| consumer.assign(&list)).map_err(failed)?;
    let until = Instant::now() + topics.left();
    while Instant::now() < until {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => return Ok(Some(message.payload().unwrap_or_default().to_vec())),
            Some(Err(error)) => tracing::debug!(%error, "reading {meta}"),
            None => {}
        }
    }
    Err(OpenError::Unreachable { address: config.bootstrap.clone(), reason: format!("{meta} could not be read in time") })
}
