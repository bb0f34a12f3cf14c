//! A1: whatever is killed, split, rebalanced or read twice, the store ends as if one process had read everything once.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::{Journal, Topic};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{AlertId, Cause, Offset, Partition, Priority, Transition, TransitionKind};
use store::Store;
use store::episodes::{Episode, EpisodeFilter, What};

use crate::receiver::Receiver;
use crate::spy::Spy;
use crate::{Fresh, LONG, PARTITIONS, Running, arc, memory, paging, raised, read_all, say, sqlite, then};

crate::on_both! { a1_two_consumers_end_as_one }

/// What one partition says: alerts that begin, change and end in any order, and stretches that are said again as after a recovery.
fn stream(random: &mut StdRng, partition: Partition) -> Vec<Transition> {
    let mut said: Vec<Transition> = Vec::new();
    let mut open: Vec<Transition> = Vec::new();
    for n in 0..random.random_range(15..40) {
        // the same inputs' offsets in each partition, told apart by it
        let offset = n * 10 + i64::from(partition.0);
        let next = match open.len() {
            0 => 0,
            _ => random.random_range(0..5),
        };
        let transition = match next {
            0 | 1 => Transition {
                priority: [Priority::Low, Priority::Medium, Priority::High][random.random_range(0..3)],
                technical: random.random_bool(0.1),
                late: random.random_bool(0.2),
                pages: random.random_bool(0.9),
                ..raised(offset)
            },
            2 => {
                let of = &open[random.random_range(0..open.len())];
                Transition { holds: random.random_bool(0.5), summary: format!("amended {n}"), ..then(of, TransitionKind::Amended, offset) }
            }
            _ => {
                let of = open.swap_remove(random.random_range(0..open.len()));
                then(&of, [TransitionKind::Cleared, TransitionKind::Withdrawn][random.random_range(0..2)], offset)
            }
        };
        if transition.kind == TransitionKind::Raised {
            open.push(transition.clone());
        }
        said.push(transition);
        if random.random_bool(0.1) {
            let from = random.random_range(0..said.len());
            said.extend_from_within(from..);
        }
    }
    said
}

/// All that must be the same: who is paged about what and under which key, what happened when, every version.
#[derive(Debug, PartialEq)]
struct Told {
    episodes: Vec<Episode>,
    history: BTreeMap<AlertId, Vec<(What, i64, Option<String>)>>,
    notifications: Vec<(String, String, String, String)>,
    timers: Vec<(String, String, bool)>,
    positions: Vec<Offset>,
}

async fn told(store: &Store) -> Told {
    let (mut episodes, more) = store.episodes(&EpisodeFilter::default(), None, 500).await.unwrap();
    assert!(more.is_none());
    episodes.sort_by_key(|e| e.alert);
    let mut told = Told { episodes, history: BTreeMap::new(), notifications: Vec::new(), timers: Vec::new(), positions: Vec::new() };
    for alert in told.episodes.iter().map(|e| e.alert) {
        // deliveries happen when they happen
        let ours = |what: What| !matches!(what, What::Paged | What::PageFailed);
        let history = store.history(alert).await.unwrap().into_iter().filter(|entry| ours(entry.what));
        told.history.insert(alert, history.map(|entry| (entry.what, entry.at.0, entry.note)).collect());
        told.notifications.extend(store.notifications(alert).await.unwrap().into_iter().map(|n| (n.id, n.kind, n.channel, n.key)));
        told.timers.extend(store.timers(alert).await.unwrap().into_iter().map(|timer| (timer.id, timer.kind, timer.done)));
    }
    told.notifications.sort();
    told.timers.sort();
    for partition in (0..PARTITIONS).map(Partition) {
        told.positions.push(store.position(alerts::READER, Topic::Alerts.name(), partition).await.unwrap());
    }
    told
}

async fn a1_two_consumers_end_as_one(fresh: Fresh) {
    let seed: u64 = std::env::var("VIGIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}: VIGIL_TEST_SEED={seed} repeats it");
    let mut random = StdRng::seed_from_u64(seed);
    let receiver = Receiver::start([]).await;
    let config = paging(LONG, &receiver.url);
    let streams: Vec<Vec<Transition>> = (0..PARTITIONS).map(|p| stream(&mut random, Partition(p))).collect();

    let golden = {
        let fresh = sqlite().await.unwrap();
        let journal = memory();
        for (p, stream) in streams.iter().enumerate() {
            say(&journal, Partition(p as u32), stream).await;
        }
        let running = Running::start(&config, arc(&journal), &fresh.store);
        read_all(&fresh.store, &journal).await;
        running.stop().await;
        told(&fresh.store).await
    };
    let causes: usize = streams.iter().flatten().map(|t| (t.alert, t.cause)).collect::<std::collections::BTreeSet<(AlertId, Cause)>>().len();
    let versions: u64 = golden.episodes.iter().map(|e| e.version).sum();
    assert_eq!(versions, causes as u64, "each cause once, and every one");

    let journal = memory();
    journal.split_batches(random.random_range(1..6));
    let mut running: Vec<Running> = Vec::new();
    let spies: [Arc<dyn Journal>; 2] = [Spy::new(&journal, false), Spy::new(&journal, true)];
    let mut next = vec![0; streams.len()];
    while next.iter().zip(&streams).any(|(next, stream)| *next < stream.len()) {
        for (p, stream) in streams.iter().enumerate() {
            let to = (next[p] + random.random_range(0..6)).min(stream.len());
            say(&journal, Partition(p as u32), &stream[next[p]..to]).await;
            next[p] = to;
        }
        match random.random_range(0..4) {
            0 if running.len() < 2 => running.push(Running::start(&config, spies[random.random_range(0..2)].clone(), &fresh.store)),
            1 if !running.is_empty() => running.swap_remove(random.random_range(0..running.len())).kill().await,
            2 => journal.rebalance(),
            _ => tokio::time::sleep(std::time::Duration::from_millis(random.random_range(0..20))).await,
        }
    }
    while running.len() < 2 {
        running.push(Running::start(&config, spies[1].clone(), &fresh.store));
    }
    read_all(&fresh.store, &journal).await;
    for one in running {
        one.stop().await;
    }
    assert_eq!(told(&fresh.store).await, golden);
}
