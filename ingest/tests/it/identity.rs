//! Who comes in, and who has to leave.

use schemas::{Micros, PatientId};
use store::registry::Assignment;

use crate::client::{Raw, connect, framed};
use crate::{GOOD, Served, VITALS, device, inputs, now, served};

async fn refused(served: &Served, level: u8, packet: &[u8]) -> (u8, String) {
    let mut raw = Raw::dial(served.address, level).await;
    raw.send(packet).await;
    let Some((0x20, body)) = raw.packet().await else { panic!("no connack") };
    assert_eq!(raw.packet().await, None, "closed");
    (body[1], body.get(6..).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default())
}

#[tokio::test]
async fn who_is_not_who_it_says_stays_outside() {
    let (served, _journal) = served().await;
    let right = served.password("ox").to_owned();
    let strap = served.password("strap").to_owned();
    let cases = [
        (Some("ox"), Some("wrong"), 0x86, 4, "wrong"),
        (Some("ox"), Some(strap.as_str()), 0x86, 4, "wrong"),
        (Some("ox"), None, 0x86, 4, "wrong"),
        (Some("toaster"), Some(right.as_str()), 0x86, 4, "wrong"),
        (Some("../ox"), Some(right.as_str()), 0x86, 4, "wrong"),
        (None, None, 0x86, 4, "a user name is required: the device's id"),
        (Some(""), Some(right.as_str()), 0x86, 4, "a user name is required"),
    ];
    for (user, password, v5, v3, says) in cases {
        // the client id is no user name
        let (code, said) = refused(&served, 5, &connect(5, "ox", user, password, 0)).await;
        assert!(code == v5 && said.contains(says), "{user:?}: {code:#x} {said}");
        assert_eq!(refused(&served, 4, &connect(4, "ox", user, password, 0)).await.0, v3, "{user:?}");
    }
    let will = framed(0x10, b"\x00\x04MQTT\x05\xc6\x00\x00\x00\x00\x01c\x00\x00\x01w\x00\x00\x00\x02ox\x00\x01x");
    let (code, said) = refused(&served, 5, &will).await;
    assert!(code == 0x83 && said.contains("Will"), "{code:#x} {said}");
    assert_eq!(refused(&served, 4, &framed(0x10, b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01c")).await.0, 1);
    served.stopped().await;
}

/// A Will in 3.1.1 cannot be refused with a reason; it is never published, and the device may work.
#[tokio::test]
async fn mqtt_3_with_a_will_comes_in() {
    let (served, journal) = served().await;
    let password = served.password("ox").to_owned();
    let mut raw = Raw::dial(served.address, 4).await;
    let mut body = b"\x00\x04MQTT\x04\xc6\x00\x00\x00\x01c\x00\x14v1/devices/ox/vitals\x00\x02{}\x00\x02ox".to_vec();
    body.extend_from_slice(&(password.len() as u16).to_be_bytes());
    body.extend_from_slice(password.as_bytes());
    raw.send(&framed(0x10, &body)).await;
    assert_eq!(raw.packet().await, Some((0x20, vec![0, 0])));
    drop(raw);
    let mut ox = served.open(4, "ox").await;
    ox.publish(1, 1, VITALS, GOOD).await;
    ox.acked(1).await;
    assert!(inputs(&journal).len() == 1 && crate::dead_letters(&journal).is_empty(), "the will was not published");
    served.stopped().await;
}

#[tokio::test]
async fn a_revoked_device_is_disconnected_and_stays_outside() {
    let (served, _journal) = served().await;
    let mut v5 = served.open(5, "ox").await;
    let mut replaced = served.open(5, "strap").await;
    let mut other = served.open(5, "hub").await;
    served.registered.store.revoke_device(&device("ox"), now()).await.unwrap();
    let fresh = served.registered.store.new_device_password(&device("strap"), now()).await.unwrap();
    v5.closed(0x87).await;
    replaced.closed(0x87).await;
    let (code, said) = refused(&served, 5, &connect(5, "c", Some("ox"), Some(served.password("ox")), 0)).await;
    assert_eq!((code, said.as_str()), (0x87, "this device is revoked"));
    assert_eq!(refused(&served, 4, &connect(4, "c", Some("ox"), Some(served.password("ox")), 0)).await.0, 5);
    assert_eq!(refused(&served, 5, &connect(5, "c", Some("strap"), Some(served.password("strap")), 0)).await.0, 0x86, "its password was replaced");
    let mut raw = Raw::dial(served.address, 5).await;
    raw.send(&connect(5, "c", Some("strap"), Some(&fresh), 0)).await;
    assert_eq!(raw.packet().await.unwrap().1[1], 0);
    other.silent().await;
    served.stopped().await;
}

#[tokio::test]
async fn a_second_connection_of_a_client_takes_over() {
    let (served, _journal) = served().await;
    for level in [4, 5] {
        let mut first = served.open(level, "ox").await;
        let mut second = served.open(level, "ox").await;
        first.closed(0x8e).await;
        second.silent().await;
    }
    served.stopped().await;
}

/// An assignment made while the device is connected counts from its next message on.
#[tokio::test]
async fn the_registry_is_followed() {
    let (served, journal) = served().await;
    let mut spare = served.open(5, "spare").await;
    let from = now() - Micros::hours(1);
    let assignment = Assignment { device: device("spare"), patient: PatientId::parse("uwe").unwrap(), from, until: None };
    served.registered.store.assign(&assignment).await.unwrap();
    crate::soon("the new assignment", async {
        loop {
            spare.publish(1, 1, "v1/devices/spare/vitals", GOOD).await;
            if spare.refused(1).await.0 == 0 {
                break;
            }
        }
    })
    .await;
    assert_eq!(inputs(&journal)[0].patient.as_str(), "uwe");
    served.stopped().await;
}

#[tokio::test]
async fn without_the_store_the_last_registry_stays_in_force() {
    let (served, journal) = served().await;
    let mut ox = served.open(5, "ox").await;
    served.registered.store.close().await;
    ox.publish(1, 1, VITALS, GOOD).await;
    ox.acked(1).await;
    let mut strap = served.open(4, "strap").await;
    strap.publish(1, 1, "v1/devices/strap/vitals", GOOD).await;
    strap.acked(1).await;
    assert_eq!(inputs(&journal).len(), 2);
    served.stopped().await;
}
