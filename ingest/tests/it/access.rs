//! What let strangers through other brokers, tried here: another's readings under one's own name, one's own under another's, and whatever
//! outlives a revocation.

use journal::memory::MemoryJournal;
use schemas::Reason;

use crate::client::{Raw, connect, framed, publish, subscribe};
use crate::{GOOD, Served, VITALS, dead_letters, device, inputs, now, served};

/// ThingsBoard's topic, whose payload names the device.
const GATEWAY: &str = "v1/gateway/telemetry";

fn gateway(device: &str) -> String {
    format!(r#"{{"{device}":[{{"ts":{},"values":{{"heartRate":70}}}}]}}"#, now().0 / 1000)
}

/// What the attacker, who owns `strap`, sends to be `ox`, and what it is answered in MQTT 3.1.1 and 5.
struct Bypass {
    what: String,
    bytes: [Vec<u8>; 2],
    answers: [String; 2],
}

fn bypass(what: &str, bytes: impl Fn(u8) -> Vec<u8>, v3: &str, v5: &str) -> Bypass {
    Bypass { what: what.to_owned(), bytes: [bytes(4), bytes(5)], answers: [v3.to_owned(), v5.to_owned()] }
}

/// A CONNECT with a Will at QoS 1, that of a device that vanishes at once.
fn with_will(level: u8, topic: &str, user: &str, password: &str) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT".to_vec();
    body.extend_from_slice(&[level, 0b1100_1110, 0, 60]);
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    body.extend_from_slice(properties);
    body.extend_from_slice(b"\x00\x04will");
    body.extend_from_slice(properties);
    for part in [topic, GOOD, user, password] {
        body.extend_from_slice(&(part.len() as u16).to_be_bytes());
        body.extend_from_slice(part.as_bytes());
    }
    framed(0x10, &body)
}

fn bypasses(own: &str) -> Vec<Bypass> {
    let enter = |level, client: &str| connect(level, client, Some("strap"), Some(own), 60);
    let to_victim = |level| publish(level, 1, 1, VITALS, GOOD.as_bytes());
    let mut all = vec![
        bypass("anonymous", |level| [connect(level, "ox", None, None, 60), to_victim(level)].concat(), "CONNACK 0x04, closed", "CONNACK 0x86, closed"),
        bypass(
            "an empty user name",
            |level| [connect(level, "ox", Some(""), Some(own), 60), to_victim(level)].concat(),
            "CONNACK 0x04, closed",
            "CONNACK 0x86, closed",
        ),
        bypass(
            "an empty user name and password",
            |level| [connect(level, "ox", Some(""), Some(""), 60), to_victim(level)].concat(),
            "CONNACK 0x04, closed",
            "CONNACK 0x86, closed",
        ),
        bypass(
            "a password without a user name",
            |level| [connect(level, "ox", None, Some(own), 60), to_victim(level)].concat(),
            "closed",
            "CONNACK 0x86, closed",
        ),
        bypass(
            "the victim's name without password",
            |level| [connect(level, "ox", Some("ox"), None, 60), to_victim(level)].concat(),
            "CONNACK 0x04, closed",
            "CONNACK 0x86, closed",
        ),
        bypass(
            "the victim's name, an empty password",
            |level| [connect(level, "ox", Some("ox"), Some(""), 60), to_victim(level)].concat(),
            "CONNACK 0x04, closed",
            "CONNACK 0x86, closed",
        ),
        bypass(
            "the victim's name, the own password",
            |level| [connect(level, "ox", Some("ox"), Some(own), 60), to_victim(level)].concat(),
            "CONNACK 0x04, closed",
            "CONNACK 0x86, closed",
        ),
        bypass("a publish before the connect", |level| [to_victim(level), enter(level, "a")].concat(), "closed", "closed"),
        bypass("a publish behind the goodbye", |level| [enter(level, "a"), vec![0xe0, 0], to_victim(level)].concat(), "CONNACK 0, closed", "CONNACK 0, closed"),
        bypass(
            "a second connect with the victim's name",
            |level| [enter(level, "a"), connect(level, "ox", Some("ox"), Some(own), 60), to_victim(level)].concat(),
            "CONNACK 0, closed",
            "CONNACK 0, DISCONNECT 0x82, closed",
        ),
        bypass(
            "an authentication exchange",
            |level| [enter(level, "a"), framed(0xf0, b"\x18\x08\x15\x00\x05PLAIN"), to_victim(level)].concat(),
            "CONNACK 0, closed",
            "CONNACK 0, DISCONNECT 0x82, closed",
        ),
        bypass("a will to the victim's topic", |level| with_will(level, VITALS, "strap", own), "CONNACK 0", "CONNACK 0x83, closed"),
        bypass("a will to the victim's verdicts", |level| with_will(level, "v1/devices/ox/verdicts", "strap", own), "CONNACK 0", "CONNACK 0x83, closed"),
        bypass("a will without credentials", |level| with_will(level, VITALS, "", ""), "CONNACK 0x04, closed", "CONNACK 0x83, closed"),
        bypass(
            "the own topic, the victim in the payload",
            |level| {
                let named = r#"{"device":"ox","patient":"ada","metric":"spo2","value":97}"#;
                [enter(level, "a"), publish(level, 1, 1, "v1/devices/strap/vitals", named.as_bytes())].concat()
            },
            "CONNACK 0, PUBACK",
            "CONNACK 0, PUBACK 0x99",
        ),
        bypass(
            "a gateway's payload that names the victim",
            |level| [enter(level, "a"), publish(level, 1, 1, GATEWAY, gateway("ox").as_bytes())].concat(),
            "CONNACK 0, PUBACK",
            "CONNACK 0, PUBACK 0x87",
        ),
        bypass(
            "QoS 2, released",
            |level| [enter(level, "a"), publish(level, 2, 1, VITALS, GOOD.as_bytes()), vec![0x62, 2, 0, 1]].concat(),
            "CONNACK 0, PUBCOMP, PUBREC",
            "CONNACK 0, DISCONNECT 0x9b, closed",
        ),
        bypass(
            "a release of what was never sent",
            |level| [enter(level, "a"), vec![0x62, 2, 0, 1]].concat(),
            "CONNACK 0, PUBCOMP",
            "CONNACK 0, DISCONNECT 0x82, closed",
        ),
    ];
    // a device's name is no pattern, and no path
    for user in ["+", "#", "*", "%", "o+", "o%", "ox/", "/ox", "../ox", "strap/../ox", "OX", " ox", "strap,ox", "$SYS", "o\u{445}"] {
        let attack = |level| [connect(level, "ox", Some(user), Some(own), 60), to_victim(level)].concat();
        all.push(bypass(&format!("the user name {user:?}"), attack, "CONNACK 0x04, closed", "CONNACK 0x86, closed"));
    }
    let attack = |level| [connect(level, "ox", Some("ox\0"), Some(own), 60), to_victim(level)].concat();
    all.push(bypass("NUL in the user name", attack, "CONNACK 0x04, closed", "CONNACK 0x86, closed"));
    // a client id gives no rights: the victim's is "c", and whoever brings it with other credentials takes over nothing
    for client in ["c", "ox", "#", "+", "+/ox", "v1/devices/ox", "$SYS", "\u{2028}"] {
        let attack = |level| [enter(level, client), to_victim(level)].concat();
        all.push(bypass(&format!("the client id {client:?}"), attack, "CONNACK 0, PUBACK", "CONNACK 0, PUBACK 0x87"));
    }
    // topics that lead to the victim for whoever compares, cleans or matches them carelessly
    for (topic, v5) in [
        (VITALS, "PUBACK 0x87"),
        ("v1/devices/ox/vitals/senml", "PUBACK 0x87"),
        ("v1/devices/ox/verdicts", "PUBACK 0x83"),
        ("v1/devices/strap/../ox/vitals", "PUBACK 0x83"),
        ("v1/devices/strap/vitals/../../ox/vitals", "PUBACK 0x99"),
        ("/v1/devices/ox/vitals", "PUBACK 0x83"),
        ("v1//devices/ox/vitals", "PUBACK 0x83"),
        ("V1/DEVICES/OX/VITALS", "PUBACK 0x83"),
        ("v1/devices/ox/vitals/", "PUBACK 0x99"),
        ("v1/devices//vitals", "PUBACK 0x87"),
        ("v1/devices/o%78/vitals", "PUBACK 0x87"),
        ("$share/g/v1/devices/ox/vitals", "PUBACK 0x83"),
        ("$SYS/broker/clients", "PUBACK 0x83"),
        ("$SYS/../v1/devices/ox/vitals", "PUBACK 0x83"),
        ("tele/ox/SENSOR", "PUBACK 0x87"),
        ("zigbee2mqtt/ox", "PUBACK 0x87"),
    ] {
        let attack = |level| [enter(level, "a"), publish(level, 1, 1, topic, GOOD.as_bytes())].concat();
        all.push(bypass(&format!("a publish to {topic}"), attack, "CONNACK 0, PUBACK", &format!("CONNACK 0, {v5}")));
    }
    for topic in ["v1/devices/+/vitals", "v1/devices/#", "#"] {
        let attack = |level| [enter(level, "a"), publish(level, 1, 1, topic, GOOD.as_bytes())].concat();
        all.push(bypass(&format!("a publish to {topic}"), attack, "CONNACK 0, closed", "CONNACK 0, DISCONNECT 0x90, closed"));
    }
    for (filter, v5) in [
        ("#", "0xa2"),
        ("+/#", "0xa2"),
        ("v1/devices/+/verdicts", "0xa2"),
        ("v1/devices/ox/verdicts", "0x87"),
        ("v1/devices/strap/../ox/verdicts", "0x87"),
        ("v1/devices/ox/verdicts/", "0x87"),
        (VITALS, "0x87"),
        ("$SYS/#", "0xa2"),
        ("$SYS/broker/clients/connected", "0x87"),
        ("$share/g/#", "0x9e"),
        ("$share/g/v1/devices/ox/verdicts", "0x9e"),
        ("$queue/v1/devices/ox/verdicts", "0x87"),
        ("$local/v1/devices/ox/verdicts", "0x87"),
        ("$delayed/1/v1/devices/ox/vitals", "0x87"),
    ] {
        let attack = |level| [enter(level, "a"), subscribe(level, 1, &[filter])].concat();
        all.push(bypass(&format!("a subscription to {filter}"), attack, "CONNACK 0, SUBACK 0x80", &format!("CONNACK 0, SUBACK {v5}")));
    }
    all
}

#[tokio::test]
async fn no_bypass_reaches_another_device() {
    let (served, journal) = served().await;
    let mut victim = served.open(5, "ox").await;
    assert_eq!(victim.subscribe(&["v1/devices/ox/verdicts"]).await, [0]);
    victim.verdict("v1/devices/ox/verdicts").await;
    let mut differ = Vec::new();
    for Bypass { what, bytes, answers } in bypasses(served.password("strap")) {
        for (level, bytes, expected) in [(4, &bytes[0], &answers[0]), (5, &bytes[1], &answers[1])] {
            let mut attacker = Raw::dial(served.address, level).await;
            let said = attacker.answers(bytes).await;
            if said != *expected {
                differ.push(format!("{what}, MQTT {level}: {said}; expected {expected}"));
            }
            // without a goodbye: now a will would be published
            drop(attacker);
            victim.silent().await;
            let reached: Vec<_> = inputs(&journal).into_iter().filter(|reading| reading.device == device("ox") || reading.patient.as_str() == "ada").collect();
            assert!(reached.is_empty(), "{what}, MQTT {level}: {reached:?}");
            let dead = dead_letters(&journal);
            assert!(dead.iter().all(|dead| dead.device == "strap"), "{what}, MQTT {level}: {dead:?}");
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    // and who is who it says comes through, in the same words
    victim.publish(1, 1, VITALS, GOOD).await;
    victim.acked(1).await;
    victim.publish(1, 2, "tele/ox/SENSOR", r#"{"MLX90614":{"OBJTMP":36.6},"TempUnit":"C"}"#).await;
    victim.acked(2).await;
    let mut hub = served.open(5, "hub").await;
    hub.publish(1, 1, GATEWAY, &gateway("cuff")).await;
    hub.acked(1).await;
    let readings = inputs(&journal);
    assert_eq!(readings.iter().filter(|reading| reading.patient.as_str() == "ada").count(), 3);
    served.stopped().await;
}

/// Publishes more than the gateway takes while no receipt comes, and answers how many it can have taken.
async fn in_flight(served: &Served, journal: &MemoryJournal, level: u8, qos: u8, name: &str, topic: &str) -> (Raw, usize) {
    let mut attacker = served.open(level, name).await;
    journal.hold();
    // 32 are taken; in MQTT 5 one more would end the connection by itself, at QoS 0 it is 256
    let sent = match (level, qos) {
        (_, 0) => 300,
        (4, _) => 40,
        _ => 32,
    };
    let all: Vec<u8> = (1..=sent).flat_map(|id| publish(level, qos, id, topic, GOOD.as_bytes())).collect();
    attacker.send(&all).await;
    (attacker, if qos == 0 { 256 } else { 32 })
}

/// What was taken before a revocation stands; what waited, and what comes after, does not.
#[tokio::test]
async fn nothing_is_taken_across_a_revocation() {
    for (level, qos, name, topic) in [
        (4, 0, "ox", VITALS),
        (4, 1, "ox", VITALS),
        (4, 2, "ox", VITALS),
        (5, 0, "ox", VITALS),
        (5, 1, "ox", VITALS),
        (4, 2, "hub", "v1/devices/cuff/vitals"),
        (5, 1, "hub", "v1/devices/cuff/vitals"),
    ] {
        let what = format!("MQTT {level}, QoS {qos}, {name}");
        let (served, journal) = served().await;
        let (mut attacker, taken) = in_flight(&served, &journal, level, qos, name, topic).await;
        served.registered.store.revoke_device(&device(name), now()).await.unwrap();
        attacker.closed(0x87).await;
        journal.release();
        // the receipts are here by the time another device has its ack
        let mut other = served.open(level, "strap").await;
        other.publish(1, 1, "v1/devices/strap/vitals", GOOD).await;
        other.acked(1).await;
        let stored = || inputs(&journal).iter().filter(|reading| reading.patient.as_str() == "ada").count();
        assert_eq!(stored(), taken, "{what}");

        let password = served.password(name);
        let again = [connect(level, "c", Some(name), Some(password), 60), vec![0x62, 2, 0, 1], publish(level, qos, 99, topic, GOOD.as_bytes())];
        let said = Raw::dial(served.address, level).await.answers(&again.concat()).await;
        assert_eq!(said, if level == 5 { "CONNACK 0x87, closed" } else { "CONNACK 0x05, closed" }, "{what}");
        assert_eq!(stored(), taken, "{what}: after the revocation");
        served.stopped().await;
    }
}

/// The hub is who it says, and no longer has a right to speak for this one.
#[tokio::test]
async fn a_hub_does_not_speak_for_a_device_that_is_revoked() {
    let (served, journal) = served().await;
    let mut hub = served.open(5, "hub").await;
    served.registered.store.revoke_device(&device("cuff"), now()).await.unwrap();
    let mut taken = 0;
    crate::soon("the revocation", async {
        loop {
            hub.publish(1, 1, "v1/devices/cuff/vitals", GOOD).await;
            match hub.refused(1).await.0 {
                0 => taken += 1,
                code => break assert_eq!(code, 0x87),
            }
        }
    })
    .await;
    assert_eq!(inputs(&journal).len(), taken, "what was acknowledged before, and nothing since");
    let dead = dead_letters(&journal);
    assert!(dead.len() == 1 && dead[0].reason == Reason::NotAllowed, "{dead:?}");
    served.stopped().await;
}
