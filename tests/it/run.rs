//! A whole run: an installation, its processes, a recording played to them by devices that remember every PUBACK, and what it left.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use journal::Journal;
use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::kafka::{KafkaConfig, KafkaJournal};
use schemas::Micros;
use serde_json::Value;

use crate::driven::{EACH, ONE, PATIENCE, Process, Serving, done, edit, install};
use crate::evidence;

/// A run of the whole recording, and what it left.
pub struct Run {
    pub topics: evidence::Topics,
    pub ledger: Vec<evidence::Published>,
    pub store: store::Store,
    /// From the first publish to the last PUBACK.
    pub took: Duration,
}

/// What the devices publish, how many hours of it in an hour (0: as fast as the PUBACKs come), and where it goes.
pub struct Plan<'a> {
    pub recording: &'a Path,
    pub speed: f64,
    /// A broker's address; `None`: one process on an embedded journal.
    pub kafka: Option<&'a str>,
    /// A webhook that is paged, and again after so long.
    pub pager: Option<(&'a str, Micros)>,
}

/// Publishes the whole recording; `disturb` is called over and over meanwhile.
pub async fn play(folder: &Path, plan: &Plan<'_>, mut disturb: impl FnMut(&mut Serving) -> bool) -> Run {
    let kafka = plan.kafka;
    let more: &[&str] = match &kafka {
        Some(address) => &["--kafka", address, "--development"],
        None => &[],
    };
    let config = install(folder, more);
    let prefix = format!("{}.", folder.file_name().unwrap().to_str().unwrap());
    edit(Path::new(&config), &[("prefix = \"\"", &format!("prefix = \"{prefix}\""))]);
    if let Some((url, again)) = plan.pager {
        let again = format!("repage_after = \"{} s\"", again.0 / 1_000_000);
        let hook =
            ("enabled = false\nname = \"pager\"\nurl = \"https://pager.example/hooks/vigil\"", &*format!("enabled = true\nname = \"pager\"\nurl = \"{url}\""));
        edit(Path::new(&config), &[hook, ("repage_after = \"5 min\"", &again), ("one_by_one = 10 ", "one_by_one = 100000 ")]);
    }
    let recording = plan.recording.to_str().unwrap();
    let hub: Value = serde_json::from_str(&done(&["device", "import", recording, "--config", &config, "--format", "ndjson"])).unwrap();
    let ledger = folder.join("ledger.ndjson");
    let mut serving = Serving::start(&config, if kafka.is_some() { EACH } else { ONE });
    let (mqtt, password) = (serving.mqtt.clone(), hub["password"].as_str().unwrap());
    let speed = format!("{:.1}", plan.speed);
    let mut arguments = vec!["replay", recording, "--to", &mqtt, "--user", "replay-hub", "--password", password, "--speed", &speed];
    arguments.extend(["--end", "2026-06-01T00:00:00Z", "--ledger", ledger.to_str().unwrap()]);
    let began = Instant::now();
    let mut devices = Process::start(&arguments);
    while disturb(&mut serving) {
        assert!(devices.failed().is_none(), "the devices gave up: {:?}; the server said {:?}", devices.rest(), serving.rest());
    }
    let status = devices.end_within(Duration::from_secs(1200));
    assert!(status.success(), "{:?}", devices.rest());
    let took = began.elapsed();
    let store = store::Store::open(&format!("sqlite:{}", folder.join("data/vigil.db").display())).await.unwrap();
    loop {
        serving.stop();
        let journal = open(folder, &config, kafka, &prefix);
        let topics = evidence::topics(&journal, &folder.join("data/lake")).await;
        let caught_up = evidence::caught_up(&topics, &journal, &store).await;
        journal.close().await;
        drop(journal);
        if caught_up {
            return Run { topics, ledger: evidence::ledger(&ledger), store, took };
        }
        // what was acknowledged at the very end waits in the log for whoever comes next
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        serving = Serving::start(&config, if kafka.is_some() { EACH } else { ONE });
        sung(&store, started).await;
    }
}

/// A canary that was fed after `since` has come through every partition, and so has what stands before it in the log.
async fn sung(store: &store::Store, since: i64) {
    let began = Instant::now();
    loop {
        let heard = store.metas("canary_at.").await.unwrap();
        if heard.len() == 4 && heard.iter().all(|(_, at)| at.parse::<i64>().unwrap() > since) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "no canary came through");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn installation(config: &str) -> String {
    let text: toml::Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
    text["installation"].as_str().unwrap().to_owned()
}

pub fn open(folder: &Path, config: &str, kafka: Option<&str>, prefix: &str) -> Arc<dyn Journal> {
    let installation = installation(config);
    match kafka {
        None => Arc::new(EmbeddedJournal::open(&EmbeddedConfig::new(folder.join("data/journal.db"), installation, 4)).unwrap()),
        Some(bootstrap) => {
            let config = KafkaConfig { prefix: prefix.to_owned(), development: true, ..KafkaConfig::new(bootstrap, installation, 4) };
            Arc::new(KafkaJournal::open(&config).unwrap())
        }
    }
}
