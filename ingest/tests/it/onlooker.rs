//! Whoever looks on sees what each connection does, and says whom the gateway knows.

use std::sync::{Arc, Mutex};

use ingest::{Config, Onlooker, Sight};
use journal::AppendError;
use journal::memory::MemoryJournal;
use store::registry::RegistryView;

use crate::client::{Raw, connect};
use crate::{BAD, GOOD, PARTITIONS, VITALS, config, inputs, serve, soon};

const VERDICTS: &str = "v1/devices/ox/verdicts";

/// Writes down what it sees, and knows `ox` alone.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(u64, String)>>);

impl Notes {
    fn of(&self, connection: u64) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|(of, _)| *of == connection).map(|(_, note)| note.clone()).collect()
    }

    async fn until_ended(&self, connection: u64) -> Vec<String> {
        soon("the end", async {
            while !self.of(connection).last().is_some_and(|last| last.starts_with("ended") || last.starts_with("refused") || last.starts_with("stranger")) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.of(connection)
    }
}

impl Onlooker for Notes {
    fn registry(&self, mut whole: RegistryView) -> RegistryView {
        whole.devices.retain(|device| device.id.as_str() == "ox");
        whole
    }

    fn see(&self, connection: u64, sight: Sight<'_>) {
        let note = match sight {
            Sight::Arrived { tls } => format!("arrived tls={tls}"),
            Sight::Stranger { detail } => format!("stranger {detail}"),
            Sight::Refused { user, .. } => format!("refused {user}"),
            Sight::Connected(greeting) => {
                format!("{} mqtt_5={} {} {} s", greeting.device, greeting.mqtt_5, greeting.client, greeting.keep_alive.unwrap_or_default().as_secs())
            }
            Sight::Published(published) => format!("published {} qos={} {}", published.topic, published.qos, published.decided.len()),
            Sight::Acknowledged => "acknowledged".to_owned(),
            Sight::Subscribed => "subscribed".to_owned(),
            Sight::Pinged => "pinged".to_owned(),
            Sight::Ended { reason, .. } => format!("ended {reason}"),
        };
        self.0.lock().unwrap().push((connection, note));
    }
}

#[tokio::test]
async fn an_onlooker_sees_what_each_connection_does_and_says_who_is_known() {
    let (notes, journal) = (Arc::new(Notes::default()), MemoryJournal::new(PARTITIONS));
    let served = serve(Config { onlooker: Some(notes.clone()), ..config() }, Arc::new(journal.clone())).await;
    for (connection, level) in [(0, 4), (1, 5)] {
        let mut ox = served.open(level, "ox").await;
        assert_eq!(ox.subscribe(&[VERDICTS]).await, [0]);
        ox.verdict(VERDICTS).await;
        ox.publish(1, 7, VITALS, GOOD).await;
        ox.acked(7).await;
        ox.publish(0, 0, VITALS, &format!("[{GOOD},{BAD}]")).await;
        ox.verdict(VERDICTS).await;
        ox.send(&[0xc0, 0]).await;
        assert_eq!(ox.packet().await.unwrap().0, 0xd0);
        journal.fail_next(AppendError::DiskFull);
        ox.publish(1, 8, VITALS, GOOD).await;
        assert!(ox.packet().await.is_none_or(|(kind, _)| kind == 0xe0), "no ack");
        let seen = notes.until_ended(connection).await;
        let hello = format!("ox mqtt_5={} c 60 s", level == 5);
        let publish = "published v1/devices/ox/vitals";
        let first = format!("{publish} qos=1 1");
        let expected = ["arrived tls=false", &hello, "subscribed", &first, "acknowledged", &format!("{publish} qos=0 2"), "pinged", &first, "ended receipt"];
        assert_eq!(seen, expected);
    }
    assert_eq!(inputs(&journal).len(), 4, "what it looks at is stored as ever");

    let mut strap = Raw::dial(served.address, 5).await;
    strap.send(&connect(5, "c", Some("strap"), Some(served.password("strap")), 60)).await;
    assert_ne!(strap.packet().await.unwrap().1[1], 0);
    assert_eq!(notes.until_ended(2).await, ["arrived tls=false", "refused strap"]);
    let mut nobody = Raw::dial(served.address, 5).await;
    nobody.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(notes.until_ended(3).await, ["arrived tls=false", "stranger what came is no CONNECT"]);
    served.stopped().await;
}
