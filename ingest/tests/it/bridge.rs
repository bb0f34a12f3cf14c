//! The bridge against a real mosquitto: what the broker kept arrives, whatever is restarted, killed or away.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingest::{Bridge, Config, Gateway, GatewayError, RECEIVE_MAXIMUM, TopicFilter};
use journal::memory::MemoryJournal;
use journal::{AppendError, Topic};
use rumqttc::QoS;
use schemas::{Partition, Private, Reason};

use crate::broker::{Broker, Publisher, numbers, reading, until};
use crate::{BAD, GOOD, PARTITIONS, Served, config, dead_letters, device, inputs, registered, serve};

const CUFF: &str = "v1/devices/cuff/vitals";
/// In mosquitto's log.
const DELIVERED: &str = "Sending PUBLISH to bridge-of-the-test";
const ACKED: &str = "Received PUBACK from bridge-of-the-test";
const PINGED: &str = "Received PINGREQ from bridge-of-the-test";
const SUBSCRIBED: &str = "Sending SUBACK to bridge-of-the-test";

fn bridge(broker: &Broker) -> Bridge {
    Bridge {
        name: "test".to_owned(),
        host: broker.address.ip().to_string(),
        port: broker.address.port(),
        ca: None,
        user: String::new(),
        password: None,
        client_id: "bridge-of-the-test".to_owned(),
        topics: vec![TopicFilter::parse("v1/devices/+/vitals/#").unwrap()],
        hub: device("hub"),
        session: Duration::from_secs(3600),
        keep_alive: Duration::from_secs(1),
    }
}

async fn bridged_by(bridge: Bridge, journal: &MemoryJournal) -> Served {
    serve(Config { bridges: vec![bridge], ..config() }, Arc::new(journal.clone())).await
}

/// A gateway with a bridge that has subscribed.
async fn bridged(broker: &Broker, journal: &MemoryJournal) -> Served {
    let before = broker.said(SUBSCRIBED);
    let served = bridged_by(bridge(broker), journal).await;
    broker.says(SUBSCRIBED, before + 1).await;
    served
}

/// Ends it as SIGKILL would: no drain, no DISCONNECT. What it had appended and not acknowledged is sent again.
async fn killed(served: Served) {
    served.running.abort();
    assert!(served.running.await.unwrap_err().is_cancelled());
}

/// Records, looked at often and so not decoded.
fn stored(journal: &MemoryJournal) -> usize {
    (0..PARTITIONS).map(|p| journal.records(Topic::Inputs, Partition(p)).len()).sum()
}

/// Waits until the readings 0 to `all` are here, some of them perhaps more than once.
async fn all_here(journal: &MemoryJournal, all: usize) {
    until("every reading", || stored(journal) >= all && numbers(&inputs(journal)).len() == all).await;
    println!("{} came again", stored(journal) - all);
}

/// A log line of this crate that holds `what`, at its level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Of this thread, on which the whole test runs.
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let to = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::INFO).with_writer(move || to.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
    async fn says(&self, level: &str, what: &str) {
        until(what, || self.text().lines().any(|line| line.contains(level) && line.contains(what))).await;
    }
}

#[tokio::test]
async fn i1_the_broker_has_its_puback_after_the_receipt() {
    let Some(broker) = Broker::start().await else { return };
    let held = MemoryJournal::new(PARTITIONS);
    held.hold();
    let first = bridged(&broker, &held).await;
    let publisher = Publisher::connect(&broker);
    publisher.readings(CUFF, 0..50).await;
    broker.says(DELIVERED, 50).await;
    // an ack before the receipt would have been sent before these
    broker.says(PINGED, broker.said(PINGED) + 2).await;
    assert_eq!((broker.said(ACKED), inputs(&held).len()), (0, 0));
    killed(first).await;

    let journal = MemoryJournal::new(PARTITIONS);
    let second = bridged(&broker, &journal).await;
    broker.says(ACKED, 50).await;
    let readings = inputs(&journal);
    assert_eq!((readings.len(), numbers(&readings).len()), (50, 50), "all of them were the broker's still");
    assert!(readings.iter().all(|reading| reading.device == device("cuff") && reading.patient.as_str() == "ada"));
    second.stopped().await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_broker_is_restarted() {
    const ALL: usize = 2000;
    let Some(mut broker) = Broker::start().await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    let served = bridged(&broker, &journal).await;
    let publisher = Publisher::connect(&broker);
    let publishing = async {
        publisher.readings(CUFF, 0..ALL).await;
    };
    let restarting = async {
        for share in 1..=3 {
            until("a share of the readings", || stored(&journal) >= share * ALL / 5).await;
            broker.stop();
            broker.again().await;
        }
    };
    tokio::join!(publishing, restarting);
    all_here(&journal, ALL).await;
    served.stopped().await;
}

/// The broker is killed: what it had written down is here, and the publisher sends the rest again.
#[tokio::test]
async fn what_the_broker_wrote_down_outlives_its_death() {
    let Some(mut broker) = Broker::start().await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    killed(bridged(&broker, &journal).await).await;
    let publisher = Publisher::connect(&broker);
    publisher.readings(CUFF, 0..500).await;
    assert!(inputs(&journal).is_empty());
    broker.save().await;
    broker.kill();
    broker.again().await;
    let served = bridged(&broker, &journal).await;
    all_here(&journal, 500).await;
    served.stopped().await;
}

/// What it had appended when it died, and what was not durable, is lost with it; the broker has it still.
#[tokio::test]
async fn nothing_is_lost_when_the_bridge_is_killed_again_and_again() {
    const LIVES: usize = 4;
    let Some(broker) = Broker::start().await else { return };
    let publisher = Publisher::connect(&broker);
    let mut readings = Vec::new();
    for life in 0..LIVES {
        let journal = MemoryJournal::new(PARTITIONS);
        let served = bridged(&broker, &journal).await;
        let first = life * 300;
        publisher.readings(CUFF, first..first + 200).await;
        // those of the last life's end come first
        until("what is durable", || stored(&journal) >= if life == 0 { 200 } else { 300 }).await;
        journal.hold();
        let before = broker.said(DELIVERED);
        publisher.readings(CUFF, first + 200..first + 300).await;
        broker.says(DELIVERED, before + 100).await;
        killed(served).await;
        readings.extend(inputs(&journal));
    }
    let journal = MemoryJournal::new(PARTITIONS);
    let last = bridged(&broker, &journal).await;
    until("the rest", || stored(&journal) >= 100).await;
    readings.extend(inputs(&journal));
    assert_eq!(numbers(&readings).len(), LIVES * 300);
    println!("{} came again", readings.len() - LIVES * 300);
    last.stopped().await;
}

/// For so many seconds, or as many as `VIGIL_TEST_OUTAGE` says, the journal takes nothing: the broker keeps all but a window of messages, the connection stays, and everything arrives when it is back.
#[tokio::test]
async fn while_the_journal_is_away_a_window_is_held_and_no_more() {
    const ALL: usize = 1500;
    let outage = std::env::var("VIGIL_TEST_OUTAGE").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(4);
    // room for everything that may come, and for less than one message
    for room in [64 << 20, 200] {
        let Some(broker) = Broker::start().await else { return };
        let journal = MemoryJournal::with_budget(PARTITIONS, room);
        journal.hold();
        let served = bridged(&broker, &journal).await;
        let publisher = Publisher::connect(&broker);
        publisher.readings(CUFF, 0..ALL).await;
        let window = usize::from(RECEIVE_MAXIMUM);
        broker.says(DELIVERED, window).await;
        // keep alive is a second here, and the broker gives up after one and a half
        let pings = broker.said(PINGED);
        for second in 1..=outage {
            broker.says(PINGED, pings + second).await;
        }
        assert_eq!((broker.said(DELIVERED), broker.said(ACKED)), (window, 0));
        journal.release();
        all_here(&journal, ALL).await;
        broker.says(ACKED, ALL).await;
        assert_eq!((inputs(&journal).len(), broker.said(SUBSCRIBED)), (ALL, 1), "on one connection, each once");
        served.stopped().await;
    }
}

/// mosquitto without a limit of its own forgets the bridge's: it is read no further than there is room, and nothing is lost.
#[tokio::test]
async fn a_broker_that_floods_is_read_as_there_is_room() {
    const ALL: usize = 1500;
    let Some(broker) = Broker::start_with("allow_anonymous true\nmax_inflight_messages 0\n").await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    let (log, _guard) = Log::listen();
    journal.hold();
    let served = bridged(&broker, &journal).await;
    Publisher::connect(&broker).readings(CUFF, 0..ALL).await;
    broker.says(DELIVERED, usize::from(RECEIVE_MAXIMUM)).await;
    // with the first acks it begins
    journal.release();
    journal.hold();
    log.says("WARN", "the broker sends more than the bridge's Receive Maximum").await;
    journal.release();
    broker.says(ACKED, ALL).await;
    all_here(&journal, ALL).await;
    served.stopped().await;
}

#[tokio::test]
async fn what_it_may_not_speak_for_is_a_dead_letter() {
    let Some(broker) = Broker::start().await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    let served = bridged(&broker, &journal).await;
    let publisher = Publisher::connect(&broker);
    for (topic, payload) in [
        ("v1/devices/ox/vitals", GOOD),
        ("v1/devices/toaster/vitals", GOOD),
        (CUFF, BAD),
        (CUFF, "not JSON"),
        (CUFF, ""),
        (CUFF, "[]"),
        ("v1/devices/cuff/vitals/morse", GOOD),
    ] {
        publisher.publish(topic, payload).await;
    }
    publisher.publish(CUFF, GOOD).await;
    broker.says(ACKED, 8).await;
    let dead = dead_letters(&journal);
    let reasons: Vec<_> = dead.iter().map(|dead| dead.reason).collect();
    let expected = [Reason::NotAllowed, Reason::UnknownDevice, Reason::UnknownMetric, Reason::Malformed, Reason::Empty, Reason::Empty, Reason::UnknownFormat];
    assert_eq!(reasons, expected, "{dead:?}");
    assert!(dead.iter().all(|dead| dead.device == "hub"));
    assert_eq!((inputs(&journal).len(), broker.said(SUBSCRIBED)), (1, 1), "the connection stayed");
    served.stopped().await;
}

#[tokio::test]
async fn a_failed_receipt_is_no_ack_and_the_message_comes_again() {
    let Some(broker) = Broker::start().await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    let served = bridged(&broker, &journal).await;
    let publisher = Publisher::connect(&broker);
    for (n, error) in [AppendError::DiskFull, AppendError::Failed("broken".into())].into_iter().enumerate() {
        journal.fail_next(error);
        publisher.readings(CUFF, 10 * n..10 * n + 10).await;
        broker.says(SUBSCRIBED, n + 2).await;
        all_here(&journal, 10 * n + 10).await;
    }
    served.stopped().await;
}

/// Receipts of a connection that is gone are no acks on the next one, though the broker uses the same packet identifiers there.
#[tokio::test]
async fn no_ack_outlives_its_connection() {
    let Some(mut broker) = Broker::start().await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    journal.hold();
    let served = bridged(&broker, &journal).await;
    let publisher = Publisher::connect(&broker);
    publisher.readings(CUFF, 0..20).await;
    broker.says(DELIVERED, 20).await;
    broker.says(PINGED, broker.said(PINGED) + 1).await;
    broker.stop();
    // the receipts of the first connection come now, those of the second are held
    journal.release();
    journal.hold();
    assert_eq!(inputs(&journal).len(), 20, "appended by the first connection");
    broker.again().await;
    broker.says(DELIVERED, 20).await;
    broker.says(PINGED, broker.said(PINGED) + 2).await;
    // the client library refuses an ack for what did not come on its connection, at the price of the connection
    assert_eq!((broker.said(ACKED), broker.said("Sending CONNACK to bridge-of-the-test")), (0, 1), "nothing of this connection is durable");
    journal.release();
    broker.says(ACKED, 20).await;
    let readings = inputs(&journal);
    assert_eq!((readings.len(), numbers(&readings).len()), (40, 20), "twice, under the same ids");
    served.stopped().await;
}

#[tokio::test]
async fn a_drain_acknowledges_what_was_taken_and_keeps_the_session() {
    let Some(broker) = Broker::start().await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    journal.hold();
    let served = bridged(&broker, &journal).await;
    let publisher = Publisher::connect(&broker);
    publisher.readings(CUFF, 0..20).await;
    broker.says(DELIVERED, 20).await;
    broker.says(PINGED, broker.said(PINGED) + 1).await;
    served.stop.cancel();
    // the devices' connections are told when the drain has begun
    let address = served.address;
    until("the drain", || std::net::TcpStream::connect(address).is_err()).await;
    assert_eq!(broker.said(ACKED), 0);
    journal.release();
    served.running.await.unwrap().unwrap();
    broker.says("Received DISCONNECT from bridge-of-the-test", 1).await;
    assert_eq!((broker.said(ACKED), inputs(&journal).len()), (20, 20));

    publisher.readings(CUFF, 20..40).await;
    let again = bridged(&broker, &journal).await;
    all_here(&journal, 40).await;
    assert_eq!(inputs(&journal).len(), 40, "none of it twice");
    again.stopped().await;
}

#[tokio::test]
async fn a_wrong_password_is_said_and_tried_again() {
    let Some(broker) = Broker::start_with("allow_anonymous false\npassword_file FOLDER/passwords\n").await else { return };
    let (log, _guard) = Log::listen();
    let journal = MemoryJournal::new(PARTITIONS);
    let wanted = Bridge { user: "vigil".to_owned(), password: Some(Private::new("secret".to_owned().into())), ..bridge(&broker) };
    let served = bridged_by(wanted, &journal).await;
    log.says("ERROR", "correct ingest.bridge.user and ingest.bridge.password_file").await;
    assert!(!log.text().contains("secret"));
    broker.password("vigil", "secret");
    broker.says(SUBSCRIBED, 1).await;
    served.stopped().await;
}

#[tokio::test]
async fn a_session_that_the_broker_forgot_is_said() {
    let Some(mut broker) = Broker::start().await else { return };
    let (log, _guard) = Log::listen();
    let journal = MemoryJournal::new(PARTITIONS);
    let served = bridged(&broker, &journal).await;
    broker.stop();
    std::fs::remove_file(broker.kept()).unwrap();
    log.says("WARN", "the bridge is not connected and tries again").await;
    broker.again().await;
    log.says("WARN", "what it kept meanwhile is lost to us").await;
    Publisher::connect(&broker).publish(CUFF, &reading(1)).await;
    until("a reading", || inputs(&journal).len() == 1).await;
    served.stopped().await;
}

/// At QoS 0 a publisher is promised nothing; what comes is stored. A broker that grants only that is refused.
#[tokio::test]
async fn qos_0_is_stored_and_a_broker_that_grants_no_more_is_refused() {
    let Some(broker) = Broker::start().await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    let served = bridged(&broker, &journal).await;
    let publisher = Publisher::connect(&broker);
    publisher.send(QoS::AtMostOnce, CUFF, &reading(1)).await;
    publisher.send(QoS::ExactlyOnce, CUFF, &reading(2)).await;
    until("both", || numbers(&inputs(&journal)).len() == 2).await;
    broker.says(ACKED, 1).await;
    served.stopped().await;

    let Some(broker) = Broker::start_with("max_qos 0\nallow_anonymous true\n").await else { return };
    let (log, _guard) = Log::listen();
    let served = bridged_by(bridge(&broker), &journal).await;
    log.says("ERROR", "the broker grants QoS 0 only").await;
    served.stopped().await;
}

#[tokio::test]
async fn a_hub_that_is_revoked_reads_no_more() {
    let Some(broker) = Broker::start().await else { return };
    let (log, _guard) = Log::listen();
    let journal = MemoryJournal::new(PARTITIONS);
    let served = bridged(&broker, &journal).await;
    served.registered.store.revoke_device(&device("hub"), crate::now()).await.unwrap();
    log.says("ERROR", "device `hub` (ingest.bridge.hub) is not registered, or revoked").await;
    Publisher::connect(&broker).publish(CUFF, GOOD).await;
    assert_eq!(broker.said(DELIVERED), 0, "it is the broker's still");
    served.stopped().await;
}

#[tokio::test]
async fn over_tls_to_the_authority_that_is_named() {
    let keys = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (keys.path().join("c.pem"), keys.path().join("k.pem"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let listener = format!("allow_anonymous true\ncertfile {}\nkeyfile {}\n", certificate.display(), key.display());
    let Some(broker) = Broker::start_with(&listener).await else { return };
    let journal = MemoryJournal::new(PARTITIONS);
    let served = bridged_by(Bridge { ca: Some(certificate), ..bridge(&broker) }, &journal).await;
    broker.says(SUBSCRIBED, 1).await;
    served.stopped().await;

    let (log, _guard) = Log::listen();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let stranger = keys.path().join("stranger.pem");
    std::fs::write(&stranger, other.cert.pem()).unwrap();
    let served = bridged_by(Bridge { ca: Some(stranger), ..bridge(&broker) }, &journal).await;
    log.says("WARN", "the broker cannot be reached at ingest.bridge.address").await;
    assert_eq!(broker.said(SUBSCRIBED), 1);
    served.stopped().await;
}

#[tokio::test]
async fn a_bad_authority_names_the_key_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "nothing").unwrap();
    for ca in [nothing, folder.path().join("absent.pem")] {
        let bridge = Bridge {
            name: "test".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 1,
            ca: Some(ca),
            user: String::new(),
            password: None,
            client_id: "c".to_owned(),
            topics: Vec::new(),
            hub: device("hub"),
            session: Duration::from_secs(1),
            keep_alive: Duration::from_secs(1),
        };
        let bound = Gateway::bind(Config { bridges: vec![bridge], ..config() }, Arc::new(MemoryJournal::new(1)), registered().await.store).await;
        let Err(error @ GatewayError::Pem { .. }) = bound else { panic!("it was bound") };
        assert!(error.to_string().starts_with("ingest.bridge.ca = "), "{error}");
    }
}
