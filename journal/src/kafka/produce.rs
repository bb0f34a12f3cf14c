//! Appends: an idempotent producer that never gives up on a record, and answers its receipt from the delivery report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use schemas::{Offset, Partition};

use super::client::Watch;
use super::topics::MAX_BATCH;
use crate::budget::Budget;
use crate::{AppendError, Full, OFFSET_UNKNOWN, Receipt, ReceiptSender};

/// Measured on one broker that shared two cores with its clients: with 0 a lone append takes 0.7 ms instead of 2, but 5,000 a second wait
/// 10 ms instead of 5, because each is a request of its own; 5 makes all of them wait 7. At full load there is no difference.
const LINGER_MS: &str = "1";
const COMPRESSION: &str = "zstd";
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// A record's cost beside its bytes, for the budget.
const OVERHEAD: usize = 64;
/// Key and value together: a mebibyte, and what stands around it.
pub const MAX_RECORD: usize = (1 << 20) + (64 << 10);

pub struct Producer {
    client: ThreadedProducer<Deliveries>,
    budget: Arc<Budget>,
    closed: AtomicBool,
    /// Dropped last.
    _parting: Parting,
}

/// Ends the producer on a thread of its own: its end waits for threads of librdkafka. What had no receipt gets [`AppendError::Closed`].
struct Parting(Option<ThreadedProducer<Deliveries>>);

impl Drop for Parting {
    fn drop(&mut self) {
        if let Some(client) = self.0.take()
            && let Err(error) = std::thread::Builder::new().name("journal-parting".to_owned()).spawn(move || drop(client))
        {
            tracing::debug!(%error, "no thread to end the producer on; it ended here");
        }
    }
}

/// Travels with a record through librdkafka.
pub struct Pending {
    taken: usize,
    receipt: ReceiptSender,
}

pub struct Deliveries {
    watch: Watch,
    budget: Arc<Budget>,
}

impl Deliveries {
    pub fn watch(&self) -> &Watch {
        &self.watch
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.watch.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, pending: Self::DeliveryOpaque) {
        self.budget.give_back(pending.taken);
        pending.receipt.send(match delivery {
            Ok(message) => Ok(Offset(message.offset()).max(OFFSET_UNKNOWN)),
            Err((error, message)) => Err(failure(error, message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len))),
        });
    }
}

fn failure(error: &KafkaError, bytes: usize) -> AppendError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => AppendError::Closed,
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => AppendError::TooLarge { bytes, limit: MAX_RECORD },
        Some(code) => AppendError::Failed(format!("kafka: {code}").into()),
        None => AppendError::Failed(error.to_string().into()),
    }
}

impl Producer {
    pub fn new(mut config: ClientConfig, budget: usize) -> Result<Self, KafkaError> {
        let budget = Arc::new(Budget::new(budget));
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // we hold the device's PUBACK meanwhile: there is no good moment to give up
            .set("message.timeout.ms", "0")
            .set("linger.ms", LINGER_MS)
            .set("compression.type", COMPRESSION)
            .set("message.max.bytes", MAX_BATCH.to_string())
            // the budget is the bound; librdkafka's own must not be met before it
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", (budget.whole() / 512 + 8192).min(i32::MAX as usize).to_string());
        let client: ThreadedProducer<Deliveries> = config.create_with_context(Deliveries { watch: Watch::new("producer"), budget: budget.clone() })?;
        Ok(Self { _parting: Parting(Some(client.clone())), client, budget, closed: AtomicBool::new(false) })
    }

    pub fn client(&self) -> &rdkafka::client::Client<Deliveries> {
        self.client.client()
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn append(&self, topic: &str, partition: Partition, key: &[u8], value: &Bytes) -> Result<Receipt, Full> {
        let bytes = key.len() + value.len();
        let (receipt, answer) = Receipt::channel();
        if self.closed() {
            receipt.send(Err(AppendError::Closed));
            return Ok(answer);
        }
        if bytes > MAX_RECORD {
            receipt.send(Err(AppendError::TooLarge { bytes, limit: MAX_RECORD }));
            return Ok(answer);
        }
        let taken = self.budget.take(bytes + OVERHEAD)?;
        let record = BaseRecord::with_opaque_to(topic, Box::new(Pending { taken, receipt })).partition(partition.0 as i32).key(key).payload(&value[..]);
        let Err((error, record)) = self.client.send(record) else { return Ok(answer) };
        self.budget.give_back(taken);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
            return Err(Full);
        }
        record.delivery_opaque.receipt.send(Err(failure(&error, bytes)));
        Ok(answer)
    }

    /// Where a partition begins and ends. A leader that was elected just now may not know yet: it is asked again.
    pub fn watermarks(&self, topic: &str, partition: Partition, within: Duration) -> Result<(i64, i64), KafkaError> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.client().fetch_watermarks(topic, partition.0 as i32, left) {
                Err(_) if left > ASK_AGAIN => std::thread::sleep(ASK_AGAIN),
                answer => return answer,
            }
        }
    }

    pub fn flush(&self, within: Duration) -> Result<(), KafkaError> {
        self.client.flush(within)
    }

    /// Takes no appends any more, and waits for the receipts of those it took. Returns how many had none when the time was up.
    pub fn close(&self, within: Duration) -> usize {
        self.closed.store(true, Ordering::Release);
        if self.flush(within).is_ok() {
            return 0;
        }
        let left = usize::try_from(self.client.in_flight_count()).unwrap_or(0);
        self.client.purge(PurgeConfig::default().queue().inflight());
        // the purged ones are answered from here on
        if let Err(error) = self.client.flush(Duration::from_secs(1)) {
            tracing::debug!(%error, "some appends had no answer when the journal closed");
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use rdkafka::{Offset as Place, TopicPartitionList};

    use super::*;

    const TOPIC: &str = "vigil.inputs";
    const P0: Partition = Partition(0);
    const COUNT: i64 = 2000;

    type Cluster = MockCluster<'static, DefaultProducerContext>;

    fn cluster() -> (Cluster, ClientConfig) {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic(TOPIC, 1, 3).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("retry.backoff.ms", "5").set("reconnect.backoff.ms", "5");
        (cluster, config)
    }

    async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), work).await.unwrap_or_else(|_| panic!("{what} did not come within 60 s"))
    }

    fn stored(config: &ClientConfig, count: i64) -> Vec<i64> {
        let consumer: BaseConsumer = config.clone().set("group.id", "test").create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Place::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let (_, end) = consumer.fetch_watermarks(TOPIC, 0, Duration::from_secs(20)).unwrap();
        assert_eq!(end, count, "each once");
        let (mut stored, until) = (Vec::new(), Instant::now() + Duration::from_secs(60));
        while (stored.len() as i64) < count {
            assert!(Instant::now() < until, "{} of {count} came within 60 s", stored.len());
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                stored.push(i64::from_le_bytes(message.payload().unwrap().try_into().unwrap()));
            }
        }
        stored
    }

    /// Whatever a broker answers, or when it hangs up: each record once, in order, and the receipt says where.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn errors_of_brokers_neither_lose_nor_double_nor_reorder() {
        use RDKafkaRespErr::{
            RD_KAFKA_RESP_ERR__TRANSPORT as TRANSPORT, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS as NOT_ENOUGH_REPLICAS,
            RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as NOT_LEADER, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as TIMED_OUT,
        };
        for errors in
            [&[NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS][..], &[TIMED_OUT], &[TRANSPORT], &[TRANSPORT, NOT_ENOUGH_REPLICAS, TIMED_OUT, NOT_LEADER, TRANSPORT]]
        {
            let (cluster, config) = cluster();
            let producer = Producer::new(config.clone(), 64 << 20).unwrap();
            // never more than this without a receipt: batches are small, and several are in flight when an error comes
            let mut waiting = std::collections::VecDeque::new();
            let mut next = 0;
            for n in 0..COUNT {
                if n % 500 == 250 {
                    cluster.request_errors(RDKafkaApiKey::Produce, errors);
                }
                waiting.push_back(producer.append(TOPIC, P0, b"ada", &Bytes::copy_from_slice(&n.to_le_bytes())).unwrap());
                while waiting.len() > if n == COUNT - 1 { 0 } else { 40 } {
                    assert_eq!(soon("a receipt", waiting.pop_front().unwrap()).await.unwrap(), Offset(next), "{errors:?}");
                    next += 1;
                }
            }
            assert_eq!(stored(&config, COUNT), (0..COUNT).collect::<Vec<_>>(), "{errors:?}");
            assert_eq!(producer.budget().take(64 << 20), Ok(64 << 20), "every receipt gave its bytes back");
        }
    }

    /// A record that a broker refuses for good is told, and nothing after it is reordered or lost.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_cannot_be_repaired_is_said() {
        let (cluster, config) = cluster();
        let producer = Producer::new(config, 1 << 20).unwrap();
        let append = || producer.append(TOPIC, P0, b"ada", &Bytes::from_static(b"12345678")).unwrap();
        assert_eq!(soon("a receipt", append()).await.unwrap(), Offset(0));

        cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
        let refused = soon("a receipt", append()).await;
        assert!(matches!(&refused, Err(AppendError::Failed(_))), "{refused:?}");
        assert!(producer.client().fatal_error().is_some());
        // from now on nothing pretends to work
        assert!(matches!(soon("a receipt", append()).await, Err(AppendError::Failed(_))));
        assert_eq!(producer.budget().take(1 << 20), Ok(1 << 20), "every receipt gave its bytes back");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_close_that_cannot_flush_answers_every_receipt() {
        let (cluster, config) = cluster();
        let producer = Producer::new(config, 1 << 20).unwrap();
        let append = || producer.append(TOPIC, P0, b"ada", &Bytes::from_static(b"12345678")).unwrap();
        assert_eq!(soon("a receipt", append()).await.unwrap(), Offset(0));
        cluster.broker_down(-1).unwrap();
        let waiting = append();
        assert_eq!(producer.close(Duration::from_millis(200)), 1);
        assert!(matches!(soon("a receipt", waiting).await, Err(AppendError::Closed)));
        assert!(matches!(soon("a receipt", append()).await, Err(AppendError::Closed)));
    }
}
