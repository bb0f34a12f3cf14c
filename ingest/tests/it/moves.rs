//! An assignment that is changed afterwards: where the readings are then.

use std::collections::BTreeMap;

use journal::memory::MemoryJournal;
use journal::{Appender as _, Topic};
use schemas::{DeviceId, EventTime, Input, Micros, Partition, PatientId, Void, partition_of};
use store::registry::Assignment;

use crate::client::Raw;
use crate::{PARTITIONS, Served, dead_letters, device, inputs, now, served, soon};

/// Publishes a reading of so many minutes ago, and answers when it was measured.
async fn measured(raw: &mut Raw, id: &str, packet_id: u16, minutes_ago: i64, value: u32) -> EventTime {
    let millis = (now() - Micros::minutes(minutes_ago)).0 / 1000;
    raw.publish(1, packet_id, &format!("v1/devices/{id}/vitals"), &format!(r#"{{"metric":"spo2","value":{value},"measured_at":{millis}}}"#)).await;
    EventTime(millis * 1000)
}

fn patient(id: &str) -> PatientId {
    PatientId::parse(id).unwrap()
}

/// From `at` on the device is worn by this patient, or by nobody.
async fn assign(served: &Served, id: &DeviceId, to: Option<&str>, at: EventTime) {
    let store = &served.registered.store;
    for assignment in store.assignments_of_device(id).await.unwrap() {
        if assignment.until.is_none_or(|until| until > at) {
            store.end_assignment(id, at.max(assignment.from)).await.unwrap();
        }
    }
    if let Some(to) = to {
        store.assign(&Assignment { device: id.clone(), patient: patient(to), from: at, until: None }).await.unwrap();
    }
    store.ask_move(id, at, now()).await.unwrap();
    soon("the move", async {
        while !store.moves_due(EventTime::MAX).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Values by patient and time, as the engine would have them: void and append applied in the order of each partition.
fn standing(journal: &MemoryJournal) -> BTreeMap<(String, EventTime), f64> {
    let mut voided = BTreeMap::new();
    let mut standing = BTreeMap::new();
    for record in (0..PARTITIONS).flat_map(|partition| journal.records(Topic::Inputs, Partition(partition))) {
        match Input::decode(&record.value).unwrap() {
            Input::Reading(reading) => {
                standing.insert((reading.patient.clone(), reading.id), reading);
            }
            Input::Void(void) => {
                voided.insert((void.patient.clone(), void.reading), void.moved_to.as_ref() != Some(&void.patient));
            }
            other => panic!("{other:?}"),
        }
    }
    standing.retain(|key, _| voided.get(key) != Some(&true));
    standing.into_values().map(|reading| ((reading.patient.to_string(), reading.at), reading.value)).collect()
}

#[tokio::test]
async fn readings_follow_a_corrected_assignment_there_and_back() {
    let (served, journal) = served().await;
    let ox = device("ox");
    let mut raw = served.open(5, "ox").await;
    let mut times = Vec::new();
    for (packet_id, minutes_ago) in [(1, 60), (2, 40), (3, 20)] {
        times.push(measured(&mut raw, "ox", packet_id, minutes_ago, 90 + u32::from(packet_id)).await);
        raw.acked(packet_id).await;
    }
    let with = |whose: [&str; 3]| -> BTreeMap<(String, EventTime), f64> {
        whose
            .iter()
            .zip(&times)
            .zip([91.0, 92.0, 93.0])
            .filter(|((who, _), _)| !who.is_empty())
            .map(|((who, at), value)| (((*who).to_owned(), *at), value))
            .collect()
    };
    assert_eq!(standing(&journal), with(["ada", "ada", "ada"]));
    assign(&served, &ox, Some("uwe"), now() - Micros::minutes(50)).await;
    assert_eq!(standing(&journal), with(["ada", "uwe", "uwe"]));
    // who asks twice changes nothing
    let appended = journal.records(Topic::Inputs, Partition(partition_of(b"uwe", PARTITIONS).0)).len();
    assign(&served, &ox, Some("uwe"), now() - Micros::minutes(50)).await;
    assert_eq!(journal.records(Topic::Inputs, Partition(partition_of(b"uwe", PARTITIONS).0)).len(), appended);
    assign(&served, &ox, None, now() - Micros::minutes(30)).await;
    assert_eq!(standing(&journal), with(["ada", "uwe", ""]));
    // back to who had it first
    assign(&served, &ox, Some("ada"), now() - Micros::minutes(50)).await;
    assert_eq!(standing(&journal), with(["ada", "ada", "ada"]));
    served.stopped().await;
}

#[tokio::test]
async fn what_a_person_voided_stays_void() {
    let (served, journal) = served().await;
    let mut raw = served.open(5, "ox").await;
    measured(&mut raw, "ox", 1, 20, 91).await;
    raw.acked(1).await;
    let reading = inputs(&journal).remove(0);
    let void = Void {
        reading: reading.id,
        patient: reading.patient.clone(),
        metric: reading.metric,
        at: reading.at,
        reason: "finger".to_owned(),
        author: "silva".to_owned(),
        moved_to: None,
    };
    let key = reading.patient.as_bytes();
    journal.append(Topic::Inputs, partition_of(key, PARTITIONS), key, Input::Void(void).encode()).unwrap().await.unwrap();
    assign(&served, &device("ox"), Some("uwe"), now() - Micros::minutes(50)).await;
    assert!(standing(&journal).is_empty());
    served.stopped().await;
}

#[tokio::test]
async fn what_was_refused_because_nobody_wore_it_is_taken_when_somebody_did() {
    let (served, journal) = served().await;
    let mut raw = served.open(5, "spare").await;
    let before = measured(&mut raw, "spare", 1, 60, 91).await;
    assert_eq!(raw.refused(1).await.0, 0x83);
    let since = measured(&mut raw, "spare", 2, 20, 92).await;
    assert_eq!(raw.refused(2).await.0, 0x83);
    // the device sends again what it was refused
    raw.publish(1, 3, "v1/devices/spare/vitals", &format!(r#"{{"metric":"spo2","value":92,"measured_at":{}}}"#, since.0 / 1000)).await;
    assert_eq!(raw.refused(3).await.0, 0x83);
    assert_eq!(dead_letters(&journal).len(), 3);
    for _ in 0..2 {
        assign(&served, &device("spare"), Some("ada"), now() - Micros::minutes(50)).await;
        let taken: Vec<_> = inputs(&journal).into_iter().map(|reading| (reading.patient.to_string(), reading.at, reading.value)).collect();
        assert_eq!(taken, [("ada".to_owned(), since, 92.0)], "once, and not what was measured before: {before}");
    }
    served.stopped().await;
}
