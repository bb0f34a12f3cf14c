//! A client library against the gateway, on the journal that real installations use.

use std::collections::HashSet;
use std::sync::Arc;

use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::{Event as Read, Journal, Mode, Record, Start, Topic};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::{AsyncClient, Event, MqttOptions, PublishOptions};
use schemas::{DeadLetter, Input};

use crate::{PARTITIONS, Served, config, serve, soon};

const MESSAGES: usize = 2000;

pub async fn all(journal: &dyn Journal, topic: Topic) -> Vec<Record> {
    let mut expected = 0;
    for partition in 0..PARTITIONS {
        expected += journal.range(topic, schemas::Partition(partition)).await.unwrap().next.0 as usize;
    }
    let mut reader = journal.reader(topic, Mode::Follow).unwrap();
    let mut records = Vec::new();
    while records.len() < expected {
        match soon("a record", reader.next()).await.unwrap() {
            Read::Assigned { partition, .. } => reader.start(partition, Start::Earliest),
            Read::Batch { records: batch, .. } => records.extend(batch),
            other => panic!("{other:?}"),
        }
    }
    records
}

/// Publishes and counts the acks: (success, refused).
async fn device(served: &Served, id: &str, payload: impl Fn(usize) -> String) -> (usize, usize) {
    let mut options = MqttOptions::new(id, ("127.0.0.1", served.address.port()));
    options.set_credentials(id, served.password(id).to_owned()).set_keep_alive(30);
    let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
    let topic = format!("v1/devices/{id}/vitals");
    let payloads: Vec<_> = (0..MESSAGES).map(payload).collect();
    let sending = tokio::spawn(async move {
        for payload in payloads {
            client.publish(topic.clone(), payload, PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
        }
        client
    });
    let (mut accepted, mut refused) = (0, 0);
    while accepted + refused < MESSAGES {
        if let Event::Incoming(Packet::PubAck(ack)) = soon("an event", events.poll()).await.unwrap() {
            match ack.reason {
                PubAckReason::Success => accepted += 1,
                PubAckReason::PayloadFormatInvalid => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    drop(sending.await.unwrap());
    (accepted, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acked_is_in_the_journal_also_after_it_was_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = EmbeddedConfig::new(folder.path().join("journal.db"), "test", PARTITIONS);
    let journal = Arc::new(EmbeddedJournal::open(&embedded).unwrap());
    let served = serve(config(), journal.clone()).await;
    let payload = |i: usize| {
        let metric = if i % 10 == 9 { "mood" } else { "heart_rate" };
        format!(r#"{{"metric":"{metric}","value":70,"seq":{i}}}"#)
    };
    let (ox, strap) = tokio::join!(device(&served, "ox", payload), device(&served, "strap", payload));
    assert_eq!([ox, strap], [(MESSAGES * 9 / 10, MESSAGES / 10); 2]);
    served.stopped().await;
    journal.close().await;
    drop(journal);
    let journal = EmbeddedJournal::open(&embedded).unwrap();
    let mut seen = HashSet::new();
    for record in all(&journal, Topic::Inputs).await {
        let Input::Reading(reading) = Input::decode(&record.value).unwrap() else { panic!("no reading") };
        seen.insert((reading.device.to_string(), reading.seq.unwrap()));
    }
    assert_eq!(seen.len(), 2 * MESSAGES * 9 / 10, "every reading once");
    let dead = all(&journal, Topic::DeadLetters).await;
    assert_eq!(dead.len(), 2 * MESSAGES / 10);
    assert!(dead.iter().all(|record| DeadLetter::decode(&record.value).unwrap().payload.starts_with(b"{\"metric\":\"mood\"")));
    soon("the end", journal.close()).await;
}
