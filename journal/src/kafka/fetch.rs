//! A reader's thread: `poll`s, and never waits for the reader longer than the group allows.
//!
//! Two consumers. One is the member of the group: it is told which partitions are ours and fetches nothing. The other is in no group
//! and fetches what the reader started, from where the reader said; partitions are added and removed one by one, and no rebalance
//! can move its offsets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use schemas::{Arrived, Offset, Partition};

use super::client::{Watch, lock};
use super::gather::{Gathered, arrived};
use super::hand::{Begin, Hand, Room};
use crate::{Assignment, Event, ReadError, Start};

const POLL: Duration = Duration::from_millis(100);
/// While the reader has yet to say where to start, its word should not wait for a poll.
const POLL_EXPECTING: Duration = Duration::from_millis(5);
/// A reader that is only busy for a moment is waited for; pausing costs what was fetched ahead.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a rebalance may wait until the reader has heard that it lost its partitions. Far below the session.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
const COMMIT_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const WATERMARKS_WITHIN: Duration = Duration::from_secs(2);

/// What the group decided, until the thread acts on it.
pub struct Membership {
    watch: Watch,
    hand: Arc<Hand>,
    decided: Mutex<Vec<Decision>>,
}

enum Decision {
    Ours(Vec<Partition>),
    NotOurs,
}

impl Membership {
    pub fn new(hand: Arc<Hand>) -> Self {
        Self { watch: Watch::new("group member"), hand, decided: Mutex::default() }
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.watch.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }
}

impl ConsumerContext for Membership {
    /// Eager: everything is revoked before anything is assigned. The group is answered with an empty assignment, because the other
    /// consumer fetches.
    fn rebalance(&self, member: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> =
            if list.count() == 0 { Vec::new() } else { list.elements().iter().map(|one| Partition(one.partition().unsigned_abs())).collect() };
        let answered = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            lock(&self.decided).push(Decision::Ours(partitions));
            member.assign(&TopicPartitionList::new())
        } else {
            if !partitions.is_empty() {
                self.hand.revoke(&partitions, HEARD_WITHIN);
            }
            lock(&self.decided).push(Decision::NotOurs);
            member.unassign()
        };
        if let Err(error) = answered {
            tracing::warn!(%error, "a rebalance could not be answered");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "progress was not stored; it only shows lag");
        }
    }
}

pub struct Fetcher {
    topic: String,
    hand: Arc<Hand>,
    member: Option<BaseConsumer<Membership>>,
    consumer: BaseConsumer<Watch>,
    places: BTreeMap<Partition, Place>,
    assignments: u64,
    paused: bool,
    committed: Instant,
    /// When to ask Kafka where the partitions begin and end: something was not where it should be.
    suspicion: Option<Instant>,
}

struct Place {
    assignment: Assignment,
    start: u64,
    /// What the reader gets next; `None` until it says so, and again when that is out of range.
    next: Option<Start>,
    fetched: bool,
    clock: Arrived,
    /// Kafka was asked whether this is within the log, and it is: what does not stand there, such as a transaction's marker, is no record.
    within: Option<Offset>,
}

impl Fetcher {
    /// Without a `member` it follows: the first `partitions` are its own from the beginning.
    pub fn new(topic: String, hand: Arc<Hand>, member: Option<BaseConsumer<Membership>>, consumer: BaseConsumer<Watch>, partitions: u32) -> Self {
        let follows = member.is_none();
        let mut fetcher =
            Self { topic, hand, member, consumer, places: BTreeMap::new(), assignments: 0, paused: false, committed: Instant::now(), suspicion: None };
        if follows {
            fetcher.ours((0..partitions).map(Partition).collect());
        }
        fetcher
    }

    pub fn run(mut self) {
        let ended = Ended(self.hand.clone());
        while !self.hand.ended() {
            if let Err(error) = self.turn() {
                tracing::error!(topic = self.topic, %error, "a reader ended");
                self.hand.end(ReadError::Failed(error.to_string().into()));
            }
        }
        self.commit();
        // first the group, so that others get the partitions at once
        drop(self.member.take());
        drop(self);
        drop(ended);
    }

    fn turn(&mut self) -> Result<(), KafkaError> {
        self.follow_the_group()?;
        self.obey()?;
        if self.suspicion.is_some_and(|due| due <= Instant::now()) {
            self.look_where_it_ends()?;
        }
        if self.committed.elapsed() >= COMMIT_EVERY {
            self.commit();
        }
        self.keep_pace()?;
        let expecting = self.places.values().any(|place| place.next.is_none());
        self.fetch(if self.paused {
            Duration::ZERO
        } else if expecting {
            POLL_EXPECTING
        } else {
            POLL
        })
    }

    fn follow_the_group(&mut self) -> Result<(), KafkaError> {
        let Some(member) = &self.member else { return Ok(()) };
        if let Some(Err(error)) = member.poll(Duration::ZERO) {
            member.context().watch.say(&format!("the group of {} is not answered: {error}", self.topic));
            fatal(error)?;
        }
        let decided = std::mem::take(&mut *lock(&member.context().decided));
        for decision in decided {
            match decision {
                Decision::Ours(partitions) => self.ours(partitions),
                Decision::NotOurs => {
                    // still a member of the old generation: what was done counts
                    self.commit();
                    let all: Vec<Partition> = self.places.keys().copied().collect();
                    self.stop(&all)?;
                    self.places.clear();
                }
            }
        }
        Ok(())
    }

    fn ours(&mut self, partitions: Vec<Partition>) {
        for partition in partitions {
            self.assignments += 1;
            let assignment = Assignment(self.assignments);
            self.places.insert(partition, Place { assignment, start: 0, next: None, fetched: false, clock: Arrived(i64::MIN), within: None });
            self.hand.give(Event::Assigned { partition, assignment }, 0, 0);
        }
    }

    fn obey(&mut self) -> Result<(), KafkaError> {
        // the last word counts
        let starts: BTreeMap<Partition, Begin> = self.hand.starts().into_iter().map(|begin| (begin.partition, begin)).collect();
        for begin in starts.into_values() {
            let Some(place) = self.places.get_mut(&begin.partition).filter(|place| place.assignment == begin.assignment) else { continue };
            place.start = begin.start;
            self.stop(&[begin.partition])?;
            self.begin(begin.partition, begin.from)?;
        }
        Ok(())
    }

    fn begin(&mut self, partition: Partition, from: Start) -> Result<(), KafkaError> {
        let Some(place) = self.places.get_mut(&partition) else { return Ok(()) };
        place.next = Some(from);
        let from = match from {
            Start::Earliest => rdkafka::Offset::Beginning,
            Start::Latest => rdkafka::Offset::End,
            Start::At(offset) if offset.0 >= 0 => rdkafka::Offset::Offset(offset.0),
            Start::At(_) => {
                self.suspicion = Some(Instant::now());
                return Ok(());
            }
        };
        place.fetched = true;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition.0 as i32, from)?;
        self.consumer.incremental_assign(&list)?;
        if self.paused {
            self.consumer.pause(&list)?;
        }
        Ok(())
    }

    /// Fetches nothing more of these. A pause would outlive it, so it is taken back first.
    fn stop(&mut self, partitions: &[Partition]) -> Result<(), KafkaError> {
        let list = self.fetched(partitions);
        if list.count() > 0 {
            self.consumer.resume(&list)?;
            self.consumer.incremental_unassign(&list)?;
        }
        for partition in partitions {
            if let Some(place) = self.places.get_mut(partition) {
                place.next = None;
                place.fetched = false;
            }
        }
        Ok(())
    }

    fn fetched(&self, among: &[Partition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(among.len());
        for partition in among.iter().filter(|partition| self.places.get(partition).is_some_and(|place| place.fetched)) {
            list.add_partition(&self.topic, partition.0 as i32);
        }
        list
    }

    /// Pauses when the reader does not keep up, and goes on when it does.
    fn keep_pace(&mut self) -> Result<(), KafkaError> {
        let full = if self.paused { !self.hand.wait_for(Room::Half, POLL) } else { !self.hand.wait_for(Room::Some, PATIENCE) };
        if full == self.paused {
            return Ok(());
        }
        let all: Vec<Partition> = self.places.keys().copied().collect();
        let list = self.fetched(&all);
        self.paused = full;
        if full { self.consumer.pause(&list) } else { self.consumer.resume(&list) }
    }

    fn commit(&mut self) {
        self.committed = Instant::now();
        let Some(member) = &self.member else { return };
        let mut list = TopicPartitionList::new();
        for (partition, next) in self.hand.done() {
            if self.places.contains_key(&partition)
                && let Err(error) = list.add_partition_offset(&self.topic, partition.0 as i32, rdkafka::Offset::Offset(next.0))
            {
                tracing::debug!(%error, "progress was not stored; it only shows lag");
            }
        }
        if list.count() > 0
            && let Err(error) = member.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "progress was not stored; it only shows lag");
        }
    }

    fn fetch(&mut self, wait: Duration) -> Result<(), KafkaError> {
        let mut gathered = Gathered::default();
        let mut wait = wait;
        while let Some(polled) = self.consumer.poll(wait) {
            wait = Duration::ZERO;
            match polled {
                Ok(message) => {
                    let partition = Partition(message.partition().unsigned_abs());
                    let Some(place) = self.places.get_mut(&partition) else { continue };
                    match place.next {
                        Some(Start::At(next)) if message.offset() > next.0 && place.within != Some(next) => {
                            self.suspicion.get_or_insert_with(Instant::now);
                            continue;
                        }
                        Some(Start::At(next)) if message.offset() < next.0 => continue,
                        None => continue,
                        Some(_) => {}
                    }
                    place.next = Some(Start::At(Offset(message.offset()).next()));
                    place.clock = place.clock.max(arrived(&message));
                    gathered.add(partition, place.clock, &message);
                    if gathered.full() {
                        break;
                    }
                }
                Err(error) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset) => {
                        self.suspicion.get_or_insert_with(Instant::now);
                    }
                    Some(RDKafkaErrorCode::LogTruncation) => return Err(error),
                    _ => {
                        // an ACL that was taken away, for one: nothing comes until somebody acts
                        self.consumer.context().say(&format!("reading {} is not answered: {error}", self.topic));
                        fatal(error)?;
                    }
                },
            }
        }
        for (partition, batch) in gathered.partitions {
            if let Some(place) = self.places.get(&partition) {
                let bytes = batch.bytes();
                self.hand.give(Event::Batch { partition, assignment: place.assignment, records: batch.records() }, place.start, bytes);
            }
        }
        Ok(())
    }

    /// librdkafka says that a partition cannot go on, not which: ask Kafka where each begins and ends, and go on where that is possible.
    fn look_where_it_ends(&mut self) -> Result<(), KafkaError> {
        self.suspicion = None;
        let places: Vec<(Partition, Start)> = self.places.iter().filter_map(|(partition, place)| Some((*partition, place.next?))).collect();
        for (partition, next) in places {
            let Start::At(wanted) = next else {
                self.stop(&[partition])?;
                self.begin(partition, next)?;
                continue;
            };
            let (earliest, end) = match self.consumer.fetch_watermarks(&self.topic, partition.0 as i32, WATERMARKS_WITHIN) {
                Ok(range) => range,
                Err(error) => {
                    tracing::debug!(%error, topic = self.topic, %partition, "where it begins and ends is not known yet");
                    self.suspicion = Some(Instant::now() + LOOK_AGAIN);
                    return Ok(());
                }
            };
            self.stop(&[partition])?;
            if (earliest..=end).contains(&wanted.0) {
                self.begin(partition, next)?;
                if let Some(place) = self.places.get_mut(&partition) {
                    place.within = Some(wanted);
                }
            } else if let Some(place) = self.places.get(&partition) {
                self.hand.give(Event::OutOfRange { partition, wanted, earliest: Offset(earliest) }, place.start, 0);
            }
        }
        Ok(())
    }
}

/// Whatever ends the thread, the reader hears of it.
struct Ended(Arc<Hand>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Everything that is not for good is tried again by librdkafka.
fn fatal(error: KafkaError) -> Result<(), KafkaError> {
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) { Err(error) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use futures::FutureExt as _;
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

    use super::*;
    use crate::Reader;
    use crate::kafka::hand::KafkaReader;
    use crate::reading::BATCH_RECORDS;

    const TOPIC: &str = "vigil.inputs";
    const COUNT: i64 = 30_000;

    async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), work).await.unwrap_or_else(|_| panic!("{what} did not come within 60 s"))
    }

    /// What reads a log of [`COUNT`] records in its only partition.
    fn fetcher(config: &ClientConfig, hand: &Arc<Hand>) -> Fetcher {
        let consumer: BaseConsumer<Watch> = config.create_with_context(Watch::new("reader")).unwrap();
        Fetcher::new(TOPIC.to_owned(), hand.clone(), None, consumer, 1)
    }

    fn log() -> (MockCluster<'static, DefaultProducerContext>, ClientConfig) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let producer: BaseProducer = config.create().unwrap();
        for n in 0..COUNT {
            producer.send(BaseRecord::<(), _>::to(TOPIC).partition(0).payload(&n.to_le_bytes())).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
        config.set("group.id", "test").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        (cluster, config)
    }

    async fn started(hand: &Arc<Hand>) -> KafkaReader {
        let mut reader = KafkaReader::new(hand.clone(), false);
        assert!(matches!(soon("an assignment", reader.next()).await, Ok(Event::Assigned { .. })));
        reader.start(Partition(0), Start::Earliest);
        reader
    }

    async fn reading(config: &ClientConfig, hand: &Arc<Hand>) -> KafkaReader {
        let fetcher = fetcher(config, hand);
        std::thread::spawn(move || fetcher.run());
        started(hand).await
    }

    async fn read_all(mut reader: KafkaReader) {
        let mut next = 0;
        while next < COUNT {
            let Event::Batch { records, .. } = soon("a batch", reader.next()).await.unwrap() else { panic!("only batches come") };
            for record in records {
                assert_eq!((record.offset, record.value), (Offset(next), bytes::Bytes::copy_from_slice(&next.to_le_bytes())));
                next += 1;
            }
        }
    }

    /// Memory is bounded by the room of the hand and one batch, however much there is; and nothing is lost by pausing.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_that_takes_nothing_is_given_no_more_than_it_has_room_for() {
        const ROOM: usize = 2000;
        let (_cluster, config) = log();
        let hand = Arc::new(Hand::new(usize::MAX, ROOM));
        let idle = reading(&config, &hand).await;
        soon("more than there is room for", async {
            while hand.waiting_records() <= ROOM {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // in this time another one reads everything
        read_all(reading(&config, &Arc::new(Hand::new(usize::MAX, usize::MAX))).await).await;
        let waiting = hand.waiting_records();
        assert!(waiting <= ROOM + BATCH_RECORDS, "{waiting}");
        read_all(idle).await;
    }

    /// A partition that was lost while it was paused comes back: librdkafka would remember the pause.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pause_does_not_outlive_its_partition() {
        let (_cluster, config) = log();
        let hand = Arc::new(Hand::new(usize::MAX, 2000));
        let mut fetcher = fetcher(&config, &hand);
        let mut reader = started(&hand).await;
        let until = Instant::now() + Duration::from_secs(60);
        let turns = |fetcher: &mut Fetcher, done: &dyn Fn(&Fetcher) -> bool| {
            while !done(fetcher) {
                assert!(Instant::now() < until, "it did not come within 60 s");
                fetcher.turn().unwrap();
            }
        };
        turns(&mut fetcher, &|fetcher| fetcher.paused);
        fetcher.stop(&[Partition(0)]).unwrap();
        while reader.next().now_or_never().is_some() {}
        turns(&mut fetcher, &|fetcher| !fetcher.paused);
        fetcher.begin(Partition(0), Start::Earliest).unwrap();
        turns(&mut fetcher, &|fetcher| fetcher.hand.waiting_records() > 0);
    }
}
