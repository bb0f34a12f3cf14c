//! What only Kafka promises, and refuses.

use std::time::{Duration, Instant};

use journal::kafka::{KafkaConfig, KafkaJournal};
use journal::{Event, Journal, Mode, OpenError, Start, Topic};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, TopicPartitionList};
use schemas::{Offset, Partition};

use crate::{P0, append_all, assigned, kafka_address, kafka_config, read, soon};

fn client(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.bootstrap);
    client
}

fn admin(config: &KafkaConfig) -> AdminClient<DefaultClientContext> {
    client(config).create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))
}

fn inputs(config: &KafkaConfig) -> String {
    format!("{}vigil.inputs", config.prefix)
}

pub async fn delete_records(config: &KafkaConfig, partition: Partition, before: Offset) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&inputs(config), partition.0 as i32, rdkafka::Offset::Offset(before.0)).unwrap();
    let admin = admin(config);
    let deleted = soon("the deletion of records", admin.delete_records(&list, &options())).await.unwrap();
    deleted.elements()[0].error().unwrap();
}

async fn make(config: &KafkaConfig, settings: &[(&str, &str)]) {
    let name = inputs(config);
    let topic = settings.iter().fold(NewTopic::new(&name, config.partitions as i32, TopicReplication::Fixed(1)), |topic, (key, value)| topic.set(key, value));
    let admin = admin(config);
    for made in soon("a topic", admin.create_topics([&topic], &options())).await.unwrap() {
        made.unwrap();
    }
}

fn refused(config: &KafkaConfig) -> OpenError {
    KafkaJournal::open(config).err().expect("it must not open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_installation_and_another_number_of_partitions_are_refused_by_name() {
    let Some(address) = kafka_address() else { return };
    let config = kafka_config(&address, 2);
    let journal = KafkaJournal::open(&config).unwrap();
    append_all(&journal, P0, 0..3).await;

    let mut other = config.clone();
    other.installation = "elsewhere".to_owned();
    match refused(&other) {
        OpenError::OtherInstallation { found, expected, path } => {
            assert_eq!((found.as_str(), expected.as_str()), ("test", "elsewhere"));
            assert!(path.contains("vigil.meta"), "{path}");
        }
        other => panic!("{other}"),
    }
    let mut wider = config.clone();
    wider.partitions = 8;
    assert!(matches!(refused(&wider), OpenError::Partitions { found: 2, expected: 8 }));

    // the same one opens as often as it likes, also at once
    let again = KafkaJournal::open(&config).unwrap();
    assert_eq!(append_all(&again, P0, 3..4).await, [Offset(3)]);
}

/// Whoever opens first at the same moment: there is one installation afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_that_come_at_once_do_not_both_get_the_topics() {
    let Some(address) = kafka_address() else { return };
    let config = kafka_config(&address, 1);
    let opening: Vec<_> = ["one", "two", "three"]
        .map(|installation| {
            let mut config = config.clone();
            config.installation = installation.to_owned();
            std::thread::spawn(move || KafkaJournal::open(&config))
        })
        .into();
    let opened: Vec<_> = opening.into_iter().map(|opening| opening.join().unwrap()).collect();
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1);
    for error in opened.into_iter().filter_map(Result::err) {
        assert!(matches!(error, OpenError::OtherInstallation { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_nobody_are_not_taken_over() {
    let Some(address) = kafka_address() else { return };
    let config = kafka_config(&address, 1);
    let journal = KafkaJournal::open(&config).unwrap();
    append_all(&journal, P0, 0..1).await;
    soon("the end", journal.close()).await;
    let admin = admin(&config);
    let meta = format!("{}vigil.meta", config.prefix);
    for gone in soon("the deletion of a topic", admin.delete_topics(&[&meta], &options())).await.unwrap() {
        gone.unwrap();
    }
    let error = refused(&config);
    assert!(matches!(error, OpenError::NotAJournal { .. }) && error.to_string().contains("vigil.meta"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_safe_is_refused_with_the_remedy() {
    let Some(address) = kafka_address() else { return };
    // one broker cannot replicate
    let mut config = kafka_config(&address, 1);
    config.development = false;
    match refused(&config) {
        OpenError::Unsafe { topic, reason } => {
            assert!(topic.ends_with("vigil.meta") && reason.contains("replication of 3") && reason.contains("journal.development"), "{topic}: {reason}");
        }
        other => panic!("{other}"),
    }
    // what nothing works without is refused in development as well
    let config = kafka_config(&address, 1);
    make(&config, &[("cleanup.policy", "compact"), ("max.message.bytes", "2097152")]).await;
    match refused(&config) {
        OpenError::Unsafe { topic, reason } => {
            assert!(topic.ends_with("vigil.inputs") && reason.contains("--add-config cleanup.policy=delete"), "{topic}: {reason}");
        }
        other => panic!("{other}"),
    }
    // the rest is only warned of
    let config = kafka_config(&address, 1);
    make(&config, &[("message.timestamp.type", "CreateTime"), ("max.message.bytes", "2097152")]).await;
    append_all(&KafkaJournal::open(&config).unwrap(), P0, 0..1).await;
    // a topic of another width
    let config = kafka_config(&address, 1);
    make(&KafkaConfig { partitions: 3, ..config.clone() }, &[]).await;
    assert!(matches!(refused(&config), OpenError::Partitions { found: 3, expected: 1 }));
}

#[test]
fn nobody_at_the_address_is_said_in_time() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let begun = Instant::now();
    match refused(&KafkaConfig::new(&address, "test", 1)) {
        OpenError::Unreachable { address: named, reason } => assert!(named == address && reason.contains("refused"), "{named}: {reason}"),
        other => panic!("{other}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_property_that_does_not_exist_is_named() {
    let mut config = KafkaConfig::new("127.0.0.1:1", "test", 1);
    config.properties = vec![("no.such.property".to_owned(), "1".to_owned())];
    let error = refused(&config);
    assert!(error.to_string().contains("no.such.property"), "{error}");
}

/// What a reader is done with shows as the group's progress, so that the usual tools show its lag. Off by one shows as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_committed_for_lag() {
    let Some(address) = kafka_address() else { return };
    let config = kafka_config(&address, 1);
    let journal = KafkaJournal::open(&config).unwrap();
    append_all(&journal, P0, 0..5).await;
    let mut reader = journal.reader(Topic::Inputs, Mode::Group("processor".to_owned())).unwrap();
    assert_eq!(read(&mut *reader, P0, Start::Earliest, 5).await.len(), 5);
    let group = format!("{}vigil.test.processor.inputs", config.prefix);
    let consumer: BaseConsumer = client(&config).set("group.id", &group).create().unwrap();
    let committed = || {
        let mut list = TopicPartitionList::new();
        list.add_partition(&inputs(&config), 0);
        consumer.committed_offsets(list, Duration::from_secs(20)).unwrap().elements()[0].offset()
    };
    assert_eq!(committed(), rdkafka::Offset::Invalid);
    reader.done(P0, Offset(3));
    soon("the commit", async {
        while committed() != rdkafka::Offset::Offset(3) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // the last word leaves with the reader
    reader.done(P0, Offset(5));
    drop(reader);
    soon("the last commit", async {
        while committed() != rdkafka::Offset::Offset(5) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Long before its session would have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_reader_leaves_its_group_at_once() {
    let Some(address) = kafka_address() else { return };
    let journal = KafkaJournal::open(&kafka_config(&address, 1)).unwrap();
    let group = || Mode::Group("processor".to_owned());
    let mut first = journal.reader(Topic::Inputs, group()).unwrap();
    assert_eq!(assigned(&mut *first).await, P0);
    let mut second = journal.reader(Topic::Inputs, group()).unwrap();
    // whoever has the only partition now
    let first_has_it = soon("an assignment after the rebalance", async {
        loop {
            tokio::select! {
                event = first.next() => if let Event::Assigned { .. } = event.unwrap() { break true },
                event = second.next() => if let Event::Assigned { .. } = event.unwrap() { break false },
            }
        }
    })
    .await;
    let (leaving, mut staying) = if first_has_it { (first, second) } else { (second, first) };
    let begun = Instant::now();
    drop(leaving);
    assert_eq!(assigned(&mut *staying).await, P0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let begun = Instant::now();
    soon("the end", journal.close()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Markers of transactions take offsets and are no records: a reader passes them, however often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_passes_offsets_at_which_there_is_no_record() {
    let Some(address) = kafka_address() else { return };
    let config = kafka_config(&address, 1);
    let journal = KafkaJournal::open(&config).unwrap();
    let mut properties = client(&config);
    let other: BaseProducer = properties.set("transactional.id", &config.prefix).create().unwrap();
    let within = Duration::from_secs(30);
    other.init_transactions(within).unwrap();
    for n in 0..3_u32 {
        append_all(&journal, P0, 2 * n..2 * n + 1).await;
        other.begin_transaction().unwrap();
        let value = (2 * n + 1).to_le_bytes();
        other.send(BaseRecord::to(&inputs(&config)).partition(0).key("ada").payload(&value)).map_err(|(error, _)| error).unwrap();
        other.commit_transaction(within).unwrap();
    }
    // what was committed is read once its marker stands, which may be after the commit was answered
    let mut early = journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    read(&mut *early, P0, Start::Earliest, 6).await;
    append_all(&journal, P0, 6..7).await;
    let mut reader = journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    let records = read(&mut *reader, P0, Start::Earliest, 7).await;
    assert_eq!(records.iter().map(crate::number).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
    assert_eq!(records.last().unwrap().offset, Offset(9), "three markers lie between");
}

#[test]
fn a_property_that_a_promise_rests_on_is_refused_by_name() {
    for key in ["enable.idempotence", "request.required.acks", "delivery.timeout.ms", "metadata.broker.list", "transactional.id", "isolation.level"] {
        let properties = vec![("security.protocol".to_owned(), "plaintext".to_owned()), (key.to_owned(), "1".to_owned())];
        let config = KafkaConfig { properties, ..KafkaConfig::new("127.0.0.1:1", "one", 1) };
        let OpenError::Property { key: named } = refused(&config) else { panic!("{key} is not refused") };
        assert_eq!(named, key);
    }
}
