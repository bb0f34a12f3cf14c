//! J1 on Kafka: the broker is killed with SIGKILL while records are under way, and comes back. A broker of its own, by `dev/kafka`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use journal::kafka::KafkaJournal;
use journal::{Appender, Event, Full, Journal, Mode, Start, Topic};
use schemas::{Offset, Partition};

use crate::{kafka_address, kafka_config, number, soon};

struct Broker {
    folder: tempfile::TempDir,
    address: String,
}

impl Broker {
    fn new() -> Self {
        let mut broker = Self { folder: tempfile::tempdir().unwrap(), address: String::new() };
        broker.address = broker.dev("up");
        broker
    }

    fn dev(&self, what: &str) -> String {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dev/kafka");
        let done = Command::new(script).arg(what).env("VIGIL_DEV_DIR", self.folder.path()).output().unwrap();
        assert!(done.status.success(), "dev/kafka {what}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.dev("down");
    }
}

/// Appends numbers to a partition until it is told to stop, and then waits for every receipt. Offset and number are the same.
async fn append_on(journal: KafkaJournal, partition: Partition, acknowledged: Arc<AtomicI64>, stop: Arc<AtomicBool>) -> i64 {
    let check = async |receipt: journal::Receipt, n: i64| {
        let offset = tokio::time::timeout(Duration::from_secs(180), receipt).await.expect("every append gets its receipt in the end").unwrap();
        assert_eq!(offset, Offset(n), "in order, none lost, none doubled");
        acknowledged.store(n, Ordering::Release);
    };
    let mut waiting = std::collections::VecDeque::new();
    let mut n = 0;
    while !stop.load(Ordering::Acquire) {
        match journal.append(Topic::Inputs, partition, b"ada", (n as u32).to_le_bytes().to_vec().into()) {
            Ok(receipt) => {
                waiting.push_back((n, receipt));
                n += 1;
            }
            Err(Full) => tokio::time::timeout(Duration::from_secs(180), journal.ready()).await.expect("room again"),
        }
        // small batches, several of them in flight
        while waiting.len() > 200 {
            let (n, receipt) = waiting.pop_front().unwrap();
            check(receipt, n).await;
        }
    }
    for (n, receipt) in waiting {
        check(receipt, n).await;
    }
    n
}

async fn passes(acknowledged: &[Arc<AtomicI64>; 2], count: i64) {
    let from: Vec<i64> = acknowledged.iter().map(|one| one.load(Ordering::Acquire)).collect();
    soon("progress", async {
        while acknowledged.iter().zip(&from).any(|(one, from)| one.load(Ordering::Acquire) < from + count) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j1_a_killed_broker_costs_nothing() {
    if kafka_address().is_none() {
        return;
    }
    let seed = std::env::var("VIGIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    println!("VIGIL_TEST_SEED={seed}");
    let mut random = seed;
    let broker = tokio::task::spawn_blocking(Broker::new).await.unwrap();
    let mut config = kafka_config(&broker.address, 2);
    config.budget = 4 << 20;
    let journal = KafkaJournal::open(&config).unwrap();
    let mut reader = journal.reader(Topic::Inputs, Mode::Group("processor".to_owned())).unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = [(); 2].map(|()| Arc::new(AtomicI64::new(-1)));
    let appending = [0, 1].map(|p| tokio::spawn(append_on(journal.clone(), Partition(p), acknowledged[p as usize].clone(), stop.clone())));
    // reads along; after a rebalance from where it was
    let (seen, done) = (Arc::new([(); 2].map(|()| AtomicI64::new(0))), Arc::new(AtomicBool::new(false)));
    let reading = tokio::spawn({
        let (seen, done) = (seen.clone(), done.clone());
        async move {
            while !done.load(Ordering::Acquire) {
                let Ok(event) = tokio::time::timeout(Duration::from_millis(100), reader.next()).await else { continue };
                match event.unwrap() {
                    Event::Assigned { partition, .. } => reader.start(partition, Start::At(Offset(seen[partition.0 as usize].load(Ordering::Acquire)))),
                    Event::Batch { partition, records, .. } => {
                        for record in records {
                            let expected = seen[partition.0 as usize].fetch_add(1, Ordering::AcqRel);
                            assert_eq!((record.offset, i64::from(number(&record))), (Offset(expected), expected), "each once, in order");
                        }
                    }
                    Event::Revoked { .. } => {}
                    Event::OutOfRange { partition, wanted, .. } => panic!("{partition}: {wanted} is out of range"),
                }
            }
        }
    });

    for round in 0..3 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        passes(&acknowledged, 1000 + (random >> 33) as i64 % 2000).await;
        broker.dev("kill9");
        if round == 0 {
            assert!(soon("an answer", journal.healthy()).await.is_err(), "a broker that is dead is not healthy");
            // appends wait, and are refused when the budget is used up
            soon("a full budget", async {
                let mut kept = Vec::new();
                while let Ok(receipt) = journal.append(Topic::Windows, Partition(0), b"ada", vec![7; 64 << 10].into()) {
                    kept.push(receipt);
                    assert!(kept.len() <= 64, "the budget has no end");
                }
                for receipt in &mut kept {
                    assert!(futures::poll!(receipt).is_pending(), "acknowledged by a dead broker");
                }
            })
            .await;
        }
        assert_eq!(broker.dev("start"), broker.address);
    }
    passes(&acknowledged, 1000).await;
    soon("health", async {
        while journal.healthy().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    stop.store(true, Ordering::Release);
    for (p, appending) in appending.into_iter().enumerate() {
        let appended = appending.await.unwrap();
        assert_eq!(journal.range(Topic::Inputs, Partition(p as u32)).await.unwrap().next, Offset(appended));
        soon("the reader", async {
            while seen[p].load(Ordering::Acquire) < appended && !reading.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(seen[p].load(Ordering::Acquire), appended);
    }
    done.store(true, Ordering::Release);
    reading.await.unwrap();
    soon("the end", journal.close()).await;
}

/// Closing while Kafka is away: every receipt is answered, nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_closes_without_its_broker() {
    if kafka_address().is_none() {
        return;
    }
    let broker = tokio::task::spawn_blocking(Broker::new).await.unwrap();
    let journal = KafkaJournal::open(&kafka_config(&broker.address, 1)).unwrap();
    let mut reader = journal.reader(Topic::Inputs, Mode::Group("processor".to_owned())).unwrap();
    crate::assigned(&mut *reader).await;
    broker.dev("kill9");
    let receipt = crate::append(&journal, Partition(0), vec![1]);
    soon("the end", journal.close()).await;
    assert!(matches!(soon("a receipt", receipt).await, Err(journal::AppendError::Closed)));
    assert!(matches!(soon("the end of a reader", reader.next()).await, Err(journal::ReadError::Closed)));
}
