//! A fleet that comes back with a backlog, and a device that measures now.

use schemas::{DeviceId, Micros};

use crate::client::{connect, publish};
use crate::{Served, client::Raw, device, inputs, now, served};

/// As many as may send a backlog at the same time.
const TURNS: usize = 4;

async fn another(served: &Served, client: &str, device: &str) -> Raw {
    let mut raw = Raw::dial(served.address, 5).await;
    raw.send(&connect(5, client, Some(device), Some(served.password(device)), 60)).await;
    assert_eq!(raw.packet().await.expect("a connack").1[1], 0);
    raw
}

/// Readings of so many minutes ago, in packets 1, 2, ….
async fn send(raw: &mut Raw, id: &str, minutes_ago: &[i64]) {
    for (minutes, packet_id) in minutes_ago.iter().zip(1..) {
        let measured_at = (now() - Micros::minutes(*minutes)).0 / 1000;
        let payload = format!(r#"{{"metric":"spo2","value":97,"measured_at":{measured_at}}}"#);
        raw.send(&publish(5, 1, packet_id, &format!("v1/devices/{id}/vitals"), payload.as_bytes())).await;
    }
}

#[tokio::test]
async fn a_backlog_waits_its_turn_and_a_live_reading_does_not() {
    let (served, journal) = served().await;
    journal.hold();
    let mut fleet = Vec::new();
    for n in 0..TURNS {
        let mut ox = another(&served, &format!("c{n}"), "ox").await;
        // what it is shows with its first message; from the second on it needs a turn
        send(&mut ox, "ox", &[600 - n as i64, 500 - n as i64]).await;
        ox.silent().await;
        fleet.push(ox);
    }
    let mut late = another(&served, "late", "strap").await;
    send(&mut late, "strap", &[400, 300]).await;
    let mut live = another(&served, "live", "strap").await;
    send(&mut live, "strap", &[0]).await;
    live.silent().await;
    journal.release();
    live.acked(1).await;
    for raw in fleet.iter_mut().chain([&mut late]) {
        raw.acked(1).await;
        raw.acked(2).await;
    }
    let strap: DeviceId = device("strap");
    let ages: Vec<_> = inputs(&journal).iter().filter(|reading| reading.device == strap).map(|reading| (now() - reading.at).as_seconds() / 3600).collect();
    assert_eq!(ages.len(), 3);
    let place = |hours| ages.iter().position(|age| *age == hours).unwrap();
    assert!(place(0) < place(5), "hours ago, as they were taken: {ages:?}");
    served.stopped().await;
}
