//! The journal on Apache Kafka: four topics with the same number of partitions, replicated, stamped by the broker.
//!
//! **J1** rests on `acks=all`, a replication of 3, two replicas in sync and no unclean elections; a topic that is not so is refused, or, with
//! `development`, warned of. The producer is idempotent and never gives up: a record is neither lost nor doubled nor reordered by a retry.
//! Progress is committed to Kafka for lag only; where to read is the reader's own knowledge. While Kafka is away, readers wait, and
//! appends wait until the budget is used up.

mod client;
mod fetch;
mod gather;
mod hand;
mod identity;
mod produce;
mod topics;

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::{Arrived, Offset, Partition};

use crate::{AppendError, Appender, Full, Journal, Mode, OpenError, Range, ReadError, Reader, Receipt, Topic};
use client::{Watch, lock};
use fetch::{Fetcher, Membership};
use hand::{Hand, KafkaReader};
use produce::Producer;
use topics::{Topics, Wanted, failed};

const ASK_WITHIN: Duration = Duration::from_secs(5);
/// Part of the 25 s in which a process drains.
const FLUSH_WITHIN: Duration = Duration::from_secs(10);
const READERS_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port,host:port`
    pub bootstrap: String,
    /// Bound to the topics when they are made; another one is refused.
    pub installation: String,
    /// Fixed when the topics are made.
    pub partitions: u32,
    /// Bytes that may wait for their receipt.
    pub budget: usize,
    /// Allows a replication below 3 and what comes with it; what is then not promised is logged.
    pub development: bool,
    /// Of topics that are made here.
    pub retention: Duration,
    /// Of librdkafka, for example `security.protocol`; one that the promises could rest on is refused.
    pub properties: Vec<(String, String)>,
    /// Before every name: several installations on one cluster.
    pub prefix: String,
}

impl KafkaConfig {
    pub fn new(bootstrap: impl Into<String>, installation: impl Into<String>, partitions: u32) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            installation: installation.into(),
            partitions,
            budget: 64 << 20,
            development: false,
            retention: Duration::from_secs(30 * 86_400),
            properties: Vec::new(),
            prefix: String::new(),
        }
    }

    fn name(&self, topic: Topic) -> String {
        format!("{}{}", self.prefix, topic.name())
    }

    /// One for each topic that a role reads: a rebalance of one does not touch the other.
    fn group(&self, name: &str, topic: &str) -> String {
        format!("{}vigil.{}.{name}.{}", self.prefix, self.installation, topic.rsplit('.').next().unwrap_or(topic))
    }
}

#[derive(Clone)]
pub struct KafkaJournal {
    inner: Arc<Inner>,
}

struct Inner {
    config: KafkaConfig,
    /// In the order of [`Topic::ALL`].
    names: [String; 4],
    producer: Producer,
    /// Fewer replicas in sync, and a partition takes no appends.
    in_sync: usize,
    readers: Mutex<Vec<Weak<Hand>>>,
}

impl KafkaJournal {
    /// Makes what is missing and verifies what is there. Blocks: 10 s until Kafka counts as unreachable, 30 s while it makes topics.
    pub fn open(config: &KafkaConfig) -> Result<Self, OpenError> {
        if let Some(key) = client::not_adjustable(config) {
            return Err(OpenError::Property { key: key.to_owned() });
        }
        let producer = Producer::new(client::base(config), config.budget).map_err(failed)?;
        let topics = Topics::reach(config, &producer)?;
        let meta = identity::wanted(config);
        topics.ensure(std::slice::from_ref(&meta))?;
        identity::check(config, &producer, &topics)?;
        let data: Vec<Wanted> =
            Topic::ALL.map(|topic| Wanted { name: config.name(topic), partitions: config.partitions, retention: Some(config.retention) }).into();
        topics.ensure(&data)?;
        let in_sync = topics.verify(&[data, vec![meta]].concat())?;
        drop(topics);
        let names = Topic::ALL.map(|topic| config.name(topic));
        Ok(Self { inner: Arc::new(Inner { config: config.clone(), names, producer, in_sync, readers: Mutex::default() }) })
    }

    /// Asks Kafka, off the runtime.
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Inner) -> Result<T, ReadError> + Send + 'static) -> BoxFuture<'static, Result<T, ReadError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            if inner.producer.closed() {
                return Err(ReadError::Closed);
            }
            let asked = tokio::task::spawn_blocking(move || question(&inner)).await;
            asked.unwrap_or_else(|error| Err(ReadError::Failed(error.to_string().into())))
        })
    }
}

impl Inner {
    fn name(&self, topic: Topic) -> &str {
        &self.names[Topic::ALL.iter().position(|one| *one == topic).unwrap_or(0)]
    }

    fn healthy(&self) -> Result<(), ReadError> {
        let watch = self.producer.client().context().watch();
        let fail = |reason: String| Err(ReadError::Failed(reason.into()));
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            return fail(format!("appending failed for good, restart this process: {code}: {reason}"));
        }
        let deadline = Instant::now() + ASK_WITHIN;
        for name in &self.names {
            let metadata = match self.producer.client().fetch_metadata(Some(name), deadline.saturating_duration_since(Instant::now())) {
                Ok(metadata) => metadata,
                Err(error) => return fail(format!("kafka does not answer: {}", watch.trouble().unwrap_or_else(|| error.to_string()))),
            };
            for topic in metadata.topics() {
                if let Some(error) = topic.error() {
                    return fail(format!("topic {name}: {}", RDKafkaErrorCode::from(error)));
                }
                for partition in topic.partitions() {
                    if partition.leader() < 0 {
                        return fail(format!("topic {name}: partition {} has no leader", partition.id()));
                    }
                    if partition.isr().len() < self.in_sync {
                        return fail(format!(
                            "topic {name}: partition {} has {} replica(s) in sync and takes no appends",
                            partition.id(),
                            partition.isr().len()
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn since(&self, topic: Topic, partition: Partition, at: Arrived) -> Result<Option<Offset>, KafkaError> {
        // Kafka's stamps are whole milliseconds
        let millis = at.0.div_euclid(1000) + i64::from(at.0.rem_euclid(1000) > 0);
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(self.name(topic), partition.0 as i32, rdkafka::Offset::Offset(millis))?;
        let consumer: BaseConsumer = self.consumer(&self.config.group("since", self.name(topic))).create()?;
        let found = consumer.offsets_for_times(asked, ASK_WITHIN)?;
        let offset = found.elements().first().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset);
        Ok(match offset {
            Some(rdkafka::Offset::Offset(offset)) => Some(Offset(offset)),
            _ => None,
        })
    }

    fn close(&self) {
        let left = self.producer.close(FLUSH_WITHIN);
        if left > 0 {
            tracing::error!(appends = left, "kafka did not acknowledge everything before the journal closed; nobody was told that it is durable");
        }
        let hands: Vec<Arc<Hand>> = lock(&self.readers).drain(..).filter_map(|hand| hand.upgrade()).collect();
        for hand in &hands {
            hand.end(ReadError::Closed);
        }
        let deadline = Instant::now() + READERS_WITHIN;
        for hand in hands {
            if !hand.wait_for_finish(deadline.saturating_duration_since(Instant::now())) {
                tracing::warn!("a reader could not leave its group in time; the group will notice");
            }
        }
    }

    fn consumer(&self, group: &str) -> rdkafka::ClientConfig {
        let mut config = client::base(&self.config);
        config
            .set("group.id", group)
            .set("group.protocol", "classic")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1000")
            .set("max.poll.interval.ms", "60000")
            .set("partition.assignment.strategy", "range")
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "200")
            .set("queued.max.messages.kbytes", "16384");
        config
    }
}

impl Appender for KafkaJournal {
    fn append(&self, topic: Topic, partition: Partition, key: &[u8], value: Bytes) -> Result<Receipt, Full> {
        if partition.0 >= self.inner.config.partitions {
            let (receipt, answer) = Receipt::channel();
            receipt.send(Err(AppendError::Failed(format!("there is no partition {partition}").into())));
            return Ok(answer);
        }
        self.inner.producer.append(self.inner.name(topic), partition, key, &value)
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.producer.budget().ready())
    }

    fn partitions(&self) -> u32 {
        self.inner.config.partitions
    }
}

impl Journal for KafkaJournal {
    fn reader(&self, topic: Topic, mode: Mode) -> Result<Box<dyn Reader>, OpenError> {
        if self.inner.producer.closed() {
            return Err(OpenError::Failed(ReadError::Closed.to_string()));
        }
        let name = self.inner.name(topic);
        let hand = Arc::new(Hand::default());
        let group = match &mode {
            Mode::Group(group) => self.inner.config.group(group, name),
            // in librdkafka's terms; nobody joins it
            Mode::Follow => self.inner.config.group("follow", name),
        };
        let config = self.inner.consumer(&group);
        let consumer: BaseConsumer<Watch> = config.create_with_context(Watch::new("reader")).map_err(failed)?;
        let member = match mode {
            Mode::Follow => None,
            Mode::Group(_) => {
                let member: BaseConsumer<Membership> = config.create_with_context(Membership::new(hand.clone())).map_err(failed)?;
                member.subscribe(&[name]).map_err(failed)?;
                Some(member)
            }
        };
        let keeps_progress = member.is_some();
        let fetcher = Fetcher::new(name.to_owned(), hand.clone(), member, consumer, self.inner.config.partitions);
        std::thread::Builder::new()
            .name("journal-read".to_owned())
            .spawn(move || fetcher.run())
            .map_err(|source| OpenError::Io { path: "a thread".to_owned(), source })?;
        let mut readers = lock(&self.inner.readers);
        readers.retain(|hand| hand.strong_count() > 0);
        readers.push(Arc::downgrade(&hand));
        drop(readers);
        Ok(Box::new(KafkaReader::new(hand, keeps_progress)))
    }

    fn range(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Range, ReadError>> {
        self.ask(move |inner| {
            if partition.0 >= inner.config.partitions {
                return Err(ReadError::Failed(format!("there is no partition {partition}").into()));
            }
            let asked = inner.producer.watermarks(inner.name(topic), partition, ASK_WITHIN);
            let (earliest, next) = asked.map_err(|error| ReadError::Failed(error.to_string().into()))?;
            Ok(Range { earliest: Offset(earliest), next: Offset(next) })
        })
    }

    fn since(&self, topic: Topic, partition: Partition, at: Arrived) -> BoxFuture<'_, Result<Offset, ReadError>> {
        let next = self.range(topic, partition);
        let found = self.ask(move |inner| inner.since(topic, partition, at).map_err(|error| ReadError::Failed(error.to_string().into())));
        Box::pin(async move {
            // asked for first: what comes in between is found
            let next = next.await?.next;
            Ok(found.await?.unwrap_or(next))
        })
    }

    fn healthy(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        self.ask(Inner::healthy)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let inner = self.inner.clone();
        Box::pin(async move {
            if tokio::task::spawn_blocking(move || inner.close()).await.is_err() {
                tracing::error!("the journal closed badly");
            }
        })
    }
}
