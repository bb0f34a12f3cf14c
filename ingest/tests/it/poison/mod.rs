//! One message in ten is poison: all are acknowledged, and inputs and dead letters are exactly as many as they must be.

pub mod messages;

use std::collections::HashMap;
use std::sync::Arc;

use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::{Journal, Topic};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use schemas::DeadLetter;

use crate::client::publish;
use crate::durable::all;
use crate::{GOOD, VITALS, config, serve};

const MESSAGES: usize = 3000;
/// At most so many without ack: less than MQTT 5's Receive Maximum.
const WINDOW: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_percent_poison_falls_into_exactly_as_many_dead_letters() {
    let seed = std::env::var("VIGIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("VIGIL_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let poison = messages::all();
    // every kind at least once, one message in ten in all
    let mut order: Vec<Option<usize>> =
        (0..MESSAGES).map(|n| (n < MESSAGES / 10).then(|| if n < poison.len() { n } else { rng.random_range(0..poison.len()) })).collect();
    order.shuffle(&mut rng);

    let folder = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&EmbeddedConfig::new(folder.path().join("journal.db"), "i".to_owned(), crate::PARTITIONS)).unwrap();
    let journal: Arc<dyn Journal> = Arc::new(journal);
    let served = serve(config(), journal.clone()).await;
    let mut ox = served.open(5, "ox").await;
    let (mut inputs, mut dead) = (0, 0);
    let mut reasons = HashMap::<&str, usize>::new();
    let mut acks = 0;
    for (number, kind) in order.iter().enumerate() {
        let id = u16::try_from(number).unwrap() + 1;
        let packet = match kind {
            None => publish(5, 1, id, VITALS, GOOD.as_bytes()),
            Some(kind) => publish(5, 1, id, &poison[*kind].topic.replace("{}", "ox"), &poison[*kind].payload),
        };
        ox.send(&packet).await;
        inputs += kind.map_or(1, |kind| poison[kind].inputs);
        dead += kind.map_or(0, |kind| poison[kind].dead_letters);
        let until = if number + 1 == MESSAGES { MESSAGES } else { (number + 1).saturating_sub(WINDOW) };
        while acks < until {
            let (code, said) = ox.refused(u16::try_from(acks).unwrap() + 1).await;
            let what = order[acks].map(|kind| poison[kind].what);
            assert_eq!(code >= 0x80, what.is_some(), "{what:?}: {code:#04x} {said}");
            acks += 1;
        }
    }
    assert_eq!(all(&*journal, Topic::Inputs).await.len(), inputs);
    let letters = all(&*journal, Topic::DeadLetters).await;
    for letter in &letters {
        *reasons.entry(DeadLetter::decode(&letter.value).unwrap().reason.as_str()).or_default() += 1;
    }
    println!("{MESSAGES} messages, {inputs} inputs, {dead} dead letters: {reasons:?}");
    assert_eq!(letters.len(), dead);
    served.stopped().await;
    journal.close().await;
}
