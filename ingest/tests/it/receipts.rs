//! I1 and I2: when an ack leaves, and what is durable by then.

use std::sync::Arc;

use ingest::Config;
use journal::AppendError;
use journal::memory::MemoryJournal;
use schemas::{Metric, Reason};

use crate::client::{Raw, connect, publish};
use crate::{BAD, GOOD, PARTITIONS, VITALS, config, dead_letters, inputs, serve, served, soon};

#[tokio::test]
async fn i1_no_ack_before_the_receipt_and_then_in_order() {
    let (served, journal) = served().await;
    for level in [4, 5] {
        let mut ox = served.open(level, "ox").await;
        let mut strap = served.open(level, "strap").await;
        let before = inputs(&journal).len();
        journal.hold();
        for id in [7, 3, 9] {
            ox.publish(1, id, VITALS, GOOD).await;
        }
        strap.publish(1, 1, "v1/devices/strap/vitals", GOOD).await;
        ox.silent().await;
        strap.silent().await;
        assert_eq!(inputs(&journal).len(), before, "nothing is durable");
        journal.release();
        for id in [7, 3, 9] {
            ox.acked(id).await;
        }
        strap.acked(1).await;
        assert_eq!(inputs(&journal).len(), before + 4, "all is durable");
    }
    served.stopped().await;
}

#[tokio::test]
async fn i1_a_failed_receipt_closes_without_ack() {
    let (served, journal) = served().await;
    let failures = [(AppendError::DiskFull, 0x97), (AppendError::Closed, 0x83), (AppendError::Failed("broken".into()), 0x83)];
    for (error, code) in failures {
        for level in [4, 5] {
            let mut ox = served.open(level, "ox").await;
            ox.publish(1, 1, VITALS, GOOD).await;
            ox.acked(1).await;
            let before = inputs(&journal).len();
            journal.fail_next(error.clone());
            ox.send(&[publish(level, 1, 2, VITALS, GOOD.as_bytes()), publish(level, 1, 3, VITALS, GOOD.as_bytes())].concat()).await;
            ox.closed(code).await;
            assert!(inputs(&journal).len() <= before + 1, "the second was not written");
        }
    }
    served.stopped().await;
}

/// One of several records of a message fails: the message is not acked, though the others are durable.
#[tokio::test]
async fn i1_every_record_of_a_message_counts() {
    let (served, journal) = served().await;
    let mut ox = served.open(5, "ox").await;
    journal.hold();
    ox.publish(1, 1, VITALS, &format!("[{GOOD},{BAD},{GOOD}]")).await;
    ox.silent().await;
    journal.release();
    assert_eq!(ox.refused(1).await.0, 0x99);
    journal.fail_next(AppendError::DiskFull);
    ox.publish(1, 2, VITALS, &format!("[{BAD},{GOOD}]")).await;
    ox.closed(0x97).await;
    served.stopped().await;
}

/// Who comes while there is no room would only wait: it is told to come again.
#[tokio::test]
async fn who_connects_while_there_is_no_room_is_refused() {
    let journal = MemoryJournal::new(PARTITIONS);
    let served = serve(Config { budget: 1000, ..config() }, Arc::new(journal.clone())).await;
    let mut ox = served.open(5, "ox").await;
    journal.hold();
    for id in 1..=3 {
        ox.publish(1, id, VITALS, GOOD).await;
    }
    ox.silent().await;
    for (level, code) in [(5, 0x97), (4, 3)] {
        let mut strap = Raw::dial(served.address, level).await;
        strap.send(&connect(level, "c", Some("strap"), Some(served.password("strap")), 60)).await;
        assert_eq!(strap.packet().await.expect("a connack").1[1], code);
        assert_eq!(strap.packet().await, None, "closed");
        let mut guessing = Raw::dial(served.address, level).await;
        guessing.send(&connect(level, "c", Some("strap"), Some("wrong"), 60)).await;
        assert_eq!(guessing.packet().await.expect("a connack").1[1], if level == 5 { 0x86 } else { 4 }, "who is nobody learns nothing");
    }
    journal.release();
    for id in 1..=3 {
        ox.acked(id).await;
    }
    served.open(5, "strap").await.silent().await;
    served.stopped().await;
}

#[tokio::test]
async fn i2_every_entry_is_an_input_or_a_dead_letter() {
    let (served, journal) = served().await;
    let mut ox = served.open(5, "ox").await;
    let payload = r#"[{"metric":"spo2","value":97},{"metric":"spo2","value":0.97},7,{"metric":"heart_rate","value":70},{"metric":"mood","value":1}]"#;
    ox.publish(1, 1, VITALS, payload).await;
    let (code, said) = ox.refused(1).await;
    assert_eq!(code, 0x99);
    assert!(said.starts_with("unit_mismatch: spo2 0.97") && said.ends_with("(and 2 more)"), "{said}");
    let metrics: Vec<_> = inputs(&journal).iter().map(|reading| reading.metric).collect();
    assert_eq!(metrics, [Metric::Spo2, Metric::HeartRate]);
    let dead: Vec<_> = dead_letters(&journal).iter().map(|dead| (dead.entry, dead.reason)).collect();
    assert_eq!(dead, [(1, Reason::UnitMismatch), (2, Reason::Malformed), (4, Reason::UnknownMetric)]);
    served.stopped().await;
}

#[tokio::test]
async fn at_qos_0_it_is_written_all_the_same() {
    let (served, journal) = served().await;
    for level in [4, 5] {
        let before = inputs(&journal).len();
        let mut ox = served.open(level, "ox").await;
        ox.publish(0, 0, VITALS, GOOD).await;
        ox.silent().await;
        assert_eq!(inputs(&journal).len(), before + 1);
    }
    served.stopped().await;
}

#[tokio::test]
async fn qos_2_of_mqtt_3_has_its_pubrec_after_the_receipt() {
    let (served, journal) = served().await;
    let mut ox = served.open(4, "ox").await;
    journal.hold();
    ox.publish(2, 5, VITALS, GOOD).await;
    ox.silent().await;
    journal.release();
    assert_eq!(ox.packet().await, Some((0x50, vec![0, 5])));
    ox.send(&[0x62, 2, 0, 5]).await;
    assert_eq!(ox.packet().await, Some((0x70, vec![0, 5])));
    assert_eq!(inputs(&journal).len(), 1);
    served.stopped().await;
}

#[tokio::test]
async fn mqtt_5_may_not_exceed_the_receive_maximum() {
    let (served, journal) = served().await;
    let mut ox = served.open(5, "ox").await;
    journal.hold();
    for id in 1..=32 {
        ox.publish(1, id, VITALS, GOOD).await;
    }
    ox.silent().await;
    ox.publish(1, 33, VITALS, GOOD).await;
    ox.closed(0x93).await;
    journal.release();
    served.stopped().await;
}

#[tokio::test]
async fn mqtt_3_is_not_read_while_32_are_in_flight() {
    let (served, journal) = served().await;
    let mut ox = served.open(4, "ox").await;
    journal.hold();
    let mut all: Vec<u8> = (1..=40).flat_map(|id| publish(4, 1, id, VITALS, GOOD.as_bytes())).collect();
    all.extend_from_slice(&[0xc0, 0]);
    ox.send(&all).await;
    // another device's round trip shows that the gateway had its time
    served.open(4, "strap").await.silent().await;
    journal.release();
    for id in 1..=32 {
        ox.acked(id).await;
    }
    let mut rest = Vec::new();
    for _ in 0..9 {
        rest.push(ox.packet().await.unwrap());
    }
    assert_eq!(rest.iter().filter(|(kind, _)| *kind == 0xd0).count(), 1);
    let acks: Vec<_> = rest.iter().filter(|(kind, _)| *kind == 0x40).map(|(_, body)| body[1]).collect();
    assert_eq!(acks, [33, 34, 35, 36, 37, 38, 39, 40]);
    served.stopped().await;
}

/// Neither a budget of the gateway that holds two messages nor a journal that holds less than one message loses or reorders anything.
#[tokio::test]
async fn when_room_is_missing_nothing_is_lost_or_reordered() {
    for (budget, room) in [(700, 1 << 20), (1 << 20, 400)] {
        let journal = MemoryJournal::with_budget(PARTITIONS, room);
        let served = serve(Config { budget, ..config() }, Arc::new(journal.clone())).await;
        let mut devices = Vec::new();
        for (level, id) in [(4, "ox"), (5, "strap")] {
            devices.push((served.open(level, id).await, format!("v1/devices/{id}/vitals")));
        }
        for round in 0..20 {
            journal.hold();
            for (device, topic) in &mut devices {
                for id in 1..=20_u16 {
                    let payload = format!("[{GOOD},{BAD},{GOOD},{GOOD}]");
                    device.publish(1, id, topic, &payload).await;
                }
            }
            // held receipts free the journal only now; what is appended later is answered at once
            journal.release();
            for (device, _) in &mut devices {
                for id in 1..=20 {
                    let code = device.refused(id).await.0;
                    assert_eq!(code, if device.level == 5 { 0x99 } else { 0 }, "round {round}");
                }
            }
        }
        assert_eq!((inputs(&journal).len(), dead_letters(&journal).len()), (20 * 2 * 20 * 3, 20 * 2 * 20));
        served.stopped().await;
    }
}

/// What was read before the end has its ack, and then the device is told.
#[tokio::test]
async fn drain_waits_for_the_receipts_of_what_was_read() {
    let (served, journal) = served().await;
    let mut v5 = served.open(5, "ox").await;
    let mut v3 = served.open(4, "strap").await;
    let idle = served.open(5, "hub").await;
    journal.hold();
    for id in 1..=3 {
        v5.publish(1, id, VITALS, GOOD).await;
        v3.publish(1, id, "v1/devices/strap/vitals", GOOD).await;
    }
    v5.silent().await;
    v3.silent().await;
    served.stop.cancel();
    // the idle connection is told at once, so the drain has begun
    let mut idle = idle;
    idle.closed(0x8b).await;
    v5.publish(1, 4, VITALS, GOOD).await;
    assert!(!served.running.is_finished(), "receipts are outstanding");
    journal.release();
    for id in 1..=3 {
        v5.acked(id).await;
        v3.acked(id).await;
    }
    v5.closed(0x8b).await;
    v3.closed(0x8b).await;
    soon("the end", served.running).await.unwrap().unwrap();
    assert_eq!(inputs(&journal).len(), 6, "what came after the end was not read");
}

/// Receipts that never come do not keep the gateway from ending, and are never acked.
#[tokio::test]
async fn drain_is_bounded() {
    let (served, journal) = served().await;
    let mut ox = served.open(5, "ox").await;
    journal.hold();
    ox.publish(1, 1, VITALS, GOOD).await;
    ox.silent().await;
    served.stop.cancel();
    soon("the end", served.running).await.unwrap().unwrap();
    assert_eq!(ox.packet().await, None, "neither an ack nor a word");
}
