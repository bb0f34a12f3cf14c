//! The canary: fed to every partition, in turn whoever feeds, and heard without making an alert.

use journal::Topic;
use schemas::{CANARY_RULE, EventTime, Input, Metric, Micros, Partition, RuleId, Transition, TransitionKind, canary_patient};
use store::episodes::EpisodeFilter;

use crate::{Fresh, LONG, P0, PARTITIONS, Running, arc, config, eventually, memory, raised, read_all, say, then};

crate::on_both! {
    the_canary_is_fed_to_every_partition_in_turn
    the_canary_is_heard_and_makes_no_alert
    a_rule_on_trial_makes_no_alert
}

fn sung(journal: &journal::memory::MemoryJournal, partition: Partition) -> Vec<f64> {
    let inputs = journal.records(Topic::Inputs, partition).into_iter();
    inputs
        .filter_map(|record| match Input::decode(&record.value).unwrap() {
            Input::Reading(r) if r.metric == Metric::Canary => {
                assert_eq!(r.patient, canary_patient(partition, PARTITIONS).unwrap());
                assert_eq!(record.key, r.patient.as_bytes());
                assert!(r.at == r.received_at && r.at == r.stamped_at && !r.test);
                Some(r.value)
            }
            _ => None,
        })
        .collect()
}

async fn the_canary_is_fed_to_every_partition_in_turn(fresh: Fresh) {
    let journal = memory();
    // each start feeds at once, because the one before gave its lease back
    for times in 1..=3 {
        let running = Running::start(&config(LONG), arc(&journal), &fresh.store);
        for partition in (0..PARTITIONS).map(Partition) {
            let values = eventually("the canary", || async { Some(sung(&journal, partition)).filter(|values| values.len() == times) }).await;
            assert_eq!(values, [1.0, 0.0, 1.0][..times]);
        }
        running.stop().await;
    }
}

async fn the_canary_is_heard_and_makes_no_alert(fresh: Fresh) {
    let store = &fresh.store;
    let journal = memory();
    let at = EventTime(1_795_168_800_000_000);
    let rule = RuleId::parse(CANARY_RULE).unwrap();
    let up = Transition { rule, at, patient: canary_patient(P0, PARTITIONS).unwrap(), ..raised(1) };
    let older = Transition { at: at - Micros::seconds(60), ..then(&up, TransitionKind::Cleared, 3) };
    let alert = raised(2);
    say(&journal, P0, &[up.clone(), alert.clone()]).await;
    let running = Running::start(&config(LONG), arc(&journal), store);
    read_all(store, &journal).await;
    assert_eq!(store.meta("canary_at.0").await.unwrap(), Some(at.0.to_string()));
    // a replay of an older one never turns it back
    say(&journal, P0, &[older]).await;
    read_all(store, &journal).await;
    assert_eq!(store.meta("canary_at.0").await.unwrap(), Some(at.0.to_string()));
    let newer = Transition { at: at + Micros::seconds(30), ..then(&up, TransitionKind::Cleared, 4) };
    say(&journal, P0, &[newer]).await;
    read_all(store, &journal).await;
    assert_eq!(store.meta("canary_at.0").await.unwrap(), Some((at + Micros::seconds(30)).0.to_string()));
    assert_eq!(store.meta("canary_at.1").await.unwrap(), None);
    running.stop().await;
    let (episodes, _) = store.episodes(&EpisodeFilter::default(), None, 10).await.unwrap();
    assert_eq!(episodes.iter().map(|e| e.alert).collect::<Vec<_>>(), [alert.alert]);
}

async fn a_rule_on_trial_makes_no_alert(fresh: Fresh) {
    let store = &fresh.store;
    let journal = memory();
    let trial = Transition { shadow: true, ..raised(1) };
    let live = raised(2);
    say(&journal, P0, &[trial, live.clone()]).await;
    let running = Running::start(&config(LONG), arc(&journal), store);
    read_all(store, &journal).await;
    running.stop().await;
    let (episodes, _) = store.episodes(&EpisodeFilter::default(), None, 10).await.unwrap();
    assert_eq!(episodes.iter().map(|episode| episode.alert).collect::<Vec<_>>(), [live.alert]);
}
