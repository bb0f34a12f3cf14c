//! The topics: made when they are missing, and looked at before anything is promised on them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};

use super::produce::Producer;
use super::{KafkaConfig, client};
use crate::OpenError;

/// A batch on the wire: the largest record with what stands around it. Topics must take it.
pub const MAX_BATCH: usize = 2 << 20;
const REPLICATION: usize = 3;
const IN_SYNC: usize = 2;
/// Kafka answers by then, or is not there.
const REACH_WITHIN: Duration = Duration::from_secs(10);
/// Once it answers: topics are made, and get their leaders.
const MADE_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a topic must be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: String,
    pub partitions: u32,
    /// `None`: for ever.
    pub retention: Option<Duration>,
}

/// What a topic is.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub replication: usize,
    pub settings: HashMap<String, String>,
}

pub struct Topics<'a> {
    config: &'a KafkaConfig,
    producer: &'a Producer,
    admin: AdminClient<DefaultClientContext>,
    deadline: Instant,
}

impl<'a> Topics<'a> {
    pub fn reach(config: &'a KafkaConfig, producer: &'a Producer) -> Result<Self, OpenError> {
        producer.client().fetch_metadata(None, REACH_WITHIN).map_err(|error| unreachable(config, producer, &error))?;
        let deadline = Instant::now() + MADE_WITHIN;
        let admin = client::base(config).create().map_err(failed)?;
        Ok(Self { config, producer, admin, deadline })
    }

    /// Every topic is there afterwards, each partition with a leader, and the producer knows them.
    pub fn ensure(&self, wanted: &[Wanted]) -> Result<(), OpenError> {
        // of all topics: asking for one by name could make it, with the broker's defaults
        let all = self.metadata(None)?;
        let missing: Vec<&Wanted> = wanted.iter().filter(|one| !all.topics().iter().any(|topic| topic.name() == one.name)).collect();
        if !missing.is_empty() {
            self.create(&missing, all.brokers().len())?;
        }
        for one in wanted {
            self.wait_for_leaders(one)?;
        }
        Ok(())
    }

    fn create(&self, missing: &[&Wanted], brokers: usize) -> Result<(), OpenError> {
        let (replication, in_sync) = if self.config.development { (REPLICATION.min(brokers.max(1)), 1) } else { (REPLICATION, IN_SYNC) };
        let (in_sync, batch) = (in_sync.to_string(), MAX_BATCH.to_string());
        let kept: Vec<String> = missing.iter().map(|one| one.retention.map_or_else(|| "-1".to_owned(), |kept| kept.as_millis().to_string())).collect();
        let topics: Vec<NewTopic<'_>> = missing
            .iter()
            .zip(&kept)
            .map(|(one, kept)| {
                NewTopic::new(&one.name, one.partitions as i32, TopicReplication::Fixed(replication as i32))
                    .set("min.insync.replicas", &in_sync)
                    .set("unclean.leader.election.enable", "false")
                    .set("message.timestamp.type", "LogAppendTime")
                    .set("max.message.bytes", &batch)
                    .set("cleanup.policy", "delete")
                    .set("retention.ms", kept)
                    .set("retention.bytes", "-1")
            })
            .collect();
        let options = AdminOptions::new().request_timeout(Some(self.left())).operation_timeout(Some(self.left()));
        let results = block_on(self.admin.create_topics(&topics, &options)).map_err(|error| self.unreachable(&error))?;
        for result in results {
            match result {
                Ok(name) => tracing::info!(topic = name, replication, "topic made"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    return Err(OpenError::Unsafe {
                        topic,
                        reason: format!(
                            "it needs a replication of {REPLICATION}, and the cluster has {brokers} broker(s): add brokers, or set journal.development = true, which promises less"
                        ),
                    });
                }
                Err((topic, code)) => {
                    return Err(OpenError::Failed(format!(
                        "topic {topic} is missing and could not be made: {code}; make it with {replication} replicas, min.insync.replicas={in_sync}, unclean.leader.election.enable=false, message.timestamp.type=LogAppendTime, max.message.bytes={batch}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn wait_for_leaders(&self, wanted: &Wanted) -> Result<(), OpenError> {
        loop {
            let metadata = self.metadata(Some(&wanted.name))?;
            let ready = |topic: &MetadataTopic| {
                topic.error().is_none() && !topic.partitions().is_empty() && topic.partitions().iter().all(|partition| partition.leader() >= 0)
            };
            if let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == wanted.name && ready(topic)) {
                let found = topic.partitions().len() as u32;
                return if found == wanted.partitions { Ok(()) } else { Err(OpenError::Partitions { found, expected: wanted.partitions }) };
            }
            if Instant::now() >= self.deadline {
                let reason = format!("topic {} has a partition without a leader: start its brokers", wanted.name);
                return Err(OpenError::Unreachable { address: self.config.bootstrap.clone(), reason });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Refuses what the promises cannot rest on, or says what they are without it. Returns the least `min.insync.replicas`.
    pub fn verify(&self, wanted: &[Wanted]) -> Result<usize, OpenError> {
        let names: Vec<ResourceSpecifier<'_>> = wanted.iter().map(|one| ResourceSpecifier::Topic(&one.name)).collect();
        let options = AdminOptions::new().request_timeout(Some(self.left()));
        let described = block_on(self.admin.describe_configs(&names, &options)).map_err(|error| self.unreachable(&error))?;
        let mut in_sync = usize::MAX;
        for (one, described) in wanted.iter().zip(described) {
            let described = described.map_err(|code| OpenError::Failed(format!("the configuration of topic {} cannot be read: {code}", one.name)))?;
            let settings: HashMap<String, String> = described.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
            let metadata = self.metadata(Some(&one.name))?;
            let replicas = metadata.topics().iter().flat_map(MetadataTopic::partitions).map(|partition| partition.replicas().len()).min();
            let found = Found { name: one.name.clone(), replication: replicas.unwrap_or(0), settings };
            for shortfall in judge(&found, one, &self.config.bootstrap) {
                if shortfall.promise.is_none() || !self.config.development {
                    return Err(OpenError::Unsafe { topic: found.name, reason: shortfall.reason });
                }
                tracing::warn!(topic = found.name, reason = shortfall.reason, not_promised = shortfall.promise, "journal.development allows it");
            }
            if let (Some(kept), Some(wanted)) = (found.settings.get("retention.ms").and_then(|kept| kept.parse::<i64>().ok()), one.retention)
                && kept >= 0
                && u128::from(kept.unsigned_abs()) < wanted.as_millis()
            {
                tracing::warn!(topic = found.name, "its retention.ms is less than journal.retention; the topic's own counts");
            }
            in_sync = in_sync.min(found.number("min.insync.replicas").unwrap_or(1));
        }
        Ok(in_sync)
    }

    pub fn metadata(&self, topic: Option<&str>) -> Result<Metadata, OpenError> {
        self.producer.client().fetch_metadata(topic, self.left()).map_err(|error| self.unreachable(&error))
    }

    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))
    }

    pub fn unreachable(&self, error: &KafkaError) -> OpenError {
        unreachable(self.config, self.producer, error)
    }
}

/// With what the client complained of last, because "timed out" does not say why.
fn unreachable(config: &KafkaConfig, producer: &Producer, error: &KafkaError) -> OpenError {
    let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
    let trouble = producer.client().context().watch().trouble().map_or_else(String::new, |trouble| format!("; {trouble}"));
    OpenError::Unreachable { address: config.bootstrap.clone(), reason: format!("{code}{trouble}") }
}

pub fn failed(error: KafkaError) -> OpenError {
    OpenError::Failed(error.to_string())
}

impl Found {
    fn number(&self, setting: &str) -> Option<usize> {
        self.settings.get(setting).and_then(|value| value.parse().ok())
    }
}

/// Something that a topic is not.
#[derive(Debug)]
pub struct Shortfall {
    pub reason: String,
    /// What is then not promised; `None`: nothing works without it.
    pub promise: Option<&'static str>,
}

/// What `found` lacks, with the remedy.
pub fn judge(found: &Found, wanted: &Wanted, bootstrap: &str) -> Vec<Shortfall> {
    let setting = |name: &str| found.settings.get(name).map_or("unknown", String::as_str);
    let alter = |change: &str| format!("kafka-configs.sh --bootstrap-server {bootstrap} --alter --topic {} --add-config {change}", found.name);
    let mut shortfalls = Vec::new();
    let mut lacks = |reason: String, promise| shortfalls.push(Shortfall { reason, promise });
    if found.replication < REPLICATION {
        let reason = format!(
            "its replication is {}, at least {REPLICATION} is needed: give it more replicas with kafka-reassign-partitions.sh --bootstrap-server {bootstrap}; journal.development = true allows less",
            found.replication
        );
        lacks(reason, Some("an acknowledged record may be lost with a broker's disk"));
    }
    if found.number("min.insync.replicas").is_none_or(|least| least < IN_SYNC) {
        let reason = format!(
            "its min.insync.replicas is {}, at least {IN_SYNC} is needed: {}; journal.development = true allows less",
            setting("min.insync.replicas"),
            alter(&format!("min.insync.replicas={IN_SYNC}"))
        );
        lacks(reason, Some("a record may be acknowledged by one broker alone, and be lost with it"));
    }
    if setting("unclean.leader.election.enable") != "false" {
        let reason = format!(
            "its unclean.leader.election.enable is {}, it must be false: {}; journal.development = true allows it",
            setting("unclean.leader.election.enable"),
            alter("unclean.leader.election.enable=false")
        );
        lacks(reason, Some("a broker that was behind may become leader and forget acknowledged records"));
    }
    if setting("message.timestamp.type") != "LogAppendTime" {
        let reason = format!(
            "its message.timestamp.type is {}, it must be LogAppendTime: {}; journal.development = true allows it",
            setting("message.timestamp.type"),
            alter("message.timestamp.type=LogAppendTime")
        );
        lacks(reason, Some("timers follow the clocks of those who append, not the journal's"));
    }
    if setting("cleanup.policy") != "delete" {
        let reason = format!("its cleanup.policy is {}, it must be delete: {}", setting("cleanup.policy"), alter("cleanup.policy=delete"));
        lacks(reason, None);
    }
    if found.number("max.message.bytes").is_none_or(|most| most < MAX_BATCH) {
        let reason = format!(
            "its max.message.bytes is {}, at least {MAX_BATCH} is needed: {}",
            setting("max.message.bytes"),
            alter(&format!("max.message.bytes={MAX_BATCH}"))
        );
        lacks(reason, None);
    }
    if wanted.retention.is_none() && setting("retention.ms") != "-1" {
        let reason = format!("its retention.ms is {}, it must be -1: {}", setting("retention.ms"), alter("retention.ms=-1"));
        lacks(reason, None);
    }
    shortfalls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(replication: usize, changed: &[(&str, &str)]) -> Found {
        let mut settings: HashMap<String, String> = [
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
            ("message.timestamp.type", "LogAppendTime"),
            ("cleanup.policy", "delete"),
            ("max.message.bytes", "2097152"),
            ("retention.ms", "2592000000"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        settings.extend(changed.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Found { name: "vigil.inputs".to_owned(), replication, settings }
    }

    #[test]
    fn each_shortfall_is_named_with_its_remedy() {
        let wanted = Wanted { name: "vigil.inputs".to_owned(), partitions: 4, retention: Some(Duration::from_secs(30 * 86_400)) };
        assert!(judge(&found(3, &[]), &wanted, "kafka:9092").is_empty());
        // what, and whether journal.development allows it
        for (replication, setting, named, allowed) in [
            (2, ("retention.ms", "1"), "replication is 2", true),
            (3, ("min.insync.replicas", "1"), "--topic vigil.inputs --add-config min.insync.replicas=2", true),
            (3, ("unclean.leader.election.enable", "true"), "--add-config unclean.leader.election.enable=false", true),
            (3, ("message.timestamp.type", "CreateTime"), "--add-config message.timestamp.type=LogAppendTime", true),
            (3, ("cleanup.policy", "compact"), "--add-config cleanup.policy=delete", false),
            (3, ("cleanup.policy", "delete,compact"), "--add-config cleanup.policy=delete", false),
            (3, ("max.message.bytes", "1048588"), "--add-config max.message.bytes=2097152", false),
        ] {
            let shortfalls = judge(&found(replication, &[setting]), &wanted, "kafka:9092");
            let [only] = &shortfalls[..] else { panic!("{setting:?}: {shortfalls:?}") };
            assert!(only.reason.contains(named), "{}", only.reason);
            assert_eq!(only.promise.is_some(), allowed, "{setting:?}");
        }
        let forever = Wanted { retention: None, ..wanted };
        assert!(judge(&found(3, &[]), &forever, "kafka:9092").iter().any(|one| one.reason.contains("retention.ms=-1")));
    }
}
