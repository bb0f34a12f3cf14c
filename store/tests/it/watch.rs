//! What a dashboard keeps in sight, and how it learns that something changed.

use schemas::{AlertId, Arrived, Micros, Priority};
use store::episodes::{Episode, State};

use crate::state::episode;
use crate::{Fresh, NOW, at, ward};

const DAY: i64 = 86_400;

fn one(n: u8, state: State, priority: Priority, days_ago: i64) -> Episode {
    Episode { alert: AlertId([n; 16]), priority, heard_at: Arrived(at(-days_ago * DAY).0), ..episode(i64::from(n), 0, state) }
}

crate::on_both! { what_somebody_may_have_to_see_is_watched every_change_shows_in_the_stamp names_are_found_by_their_beginning }

async fn what_somebody_may_have_to_see_is_watched(fresh: Fresh) {
    let store = &fresh.store;
    ward(store).await;
    let all = [
        (one(1, State::Open, Priority::Low, 400), true),
        (one(2, State::Cleared, Priority::Low, 0), true),
        (one(3, State::Cleared, Priority::Low, 2), false),
        (one(4, State::Cleared, Priority::High, 400), true),
        (one(5, State::Withdrawn, Priority::High, 2), false),
        (one(6, State::Withdrawn, Priority::Medium, 0), true),
        (one(7, State::Cleared, Priority::High, 3), false),
    ];
    for (episode, _) in &all {
        store.upsert_episode(episode).await.unwrap();
    }
    store.take_alert(all[6].0.alert, "ito", None, NOW, None).await.unwrap();
    let from = Arrived((NOW - Micros::seconds(DAY)).0);
    let mut watched = store.watched_episodes(from).await.unwrap();
    watched.sort_unstable();
    let expected: Vec<(AlertId, u64)> = all.iter().filter(|(_, seen)| *seen).map(|(episode, _)| (episode.alert, 1)).collect();
    assert_eq!(watched, expected);

    let wanted: Vec<AlertId> = all.iter().map(|(episode, _)| episode.alert).chain([AlertId([99; 16])]).collect();
    let found = store.episodes_by_id(&wanted).await.unwrap();
    assert_eq!(found.len(), all.len());
    assert!(found.iter().any(|episode| episode.alert == all[6].0.alert && episode.acknowledged.is_some() && episode.version == 2));
    let many: Vec<AlertId> = (0..=255).chain(0..=255).map(|n| AlertId([n; 16])).collect();
    assert!(store.episodes_by_id(&many).await.unwrap().len() >= all.len(), "more than one statement holds");
    assert!(store.episodes_by_id(&[]).await.unwrap().is_empty());
}

async fn every_change_shows_in_the_stamp(fresh: Fresh) {
    let store = &fresh.store;
    ward(store).await;
    let from = Arrived((NOW - Micros::seconds(DAY)).0);
    let mut stamps = vec![store.watched_stamp(from).await.unwrap()];
    let open = one(1, State::Open, Priority::High, 0);
    store.upsert_episode(&open).await.unwrap();
    stamps.push(store.watched_stamp(from).await.unwrap());
    store.take_alert(open.alert, "ito", None, NOW, None).await.unwrap();
    stamps.push(store.watched_stamp(from).await.unwrap());
    store.give_back_alert(open.alert, "ito", NOW, NOW).await.unwrap();
    stamps.push(store.watched_stamp(from).await.unwrap());
    // one that leaves as another comes
    let mut ended = one(2, State::Open, Priority::Low, 40);
    store.upsert_episode(&ended).await.unwrap();
    stamps.push(store.watched_stamp(from).await.unwrap());
    ended.state = State::Cleared;
    ended.cause.ordinal = 1;
    store.upsert_episode(&ended).await.unwrap();
    store.upsert_episode(&Episode { heard_at: Arrived(NOW.0 + 17), ..one(3, State::Open, Priority::Low, 0) }).await.unwrap();
    stamps.push(store.watched_stamp(from).await.unwrap());
    for (n, stamp) in stamps.iter().enumerate() {
        assert!(!stamps[..n].contains(stamp), "{n}: {stamps:?}");
    }
    assert_eq!(stamps[5], store.watched_stamp(from).await.unwrap(), "and nothing else does");
}

async fn names_are_found_by_their_beginning(fresh: Fresh) {
    let store = &fresh.store;
    for (name, value) in [("canary_at.1", "b"), ("canary_at.0", "a"), ("canaryXat.2", "no"), ("canary_at", "no"), ("Canary_at.3", "no")] {
        store.set_meta(name, value).await.unwrap();
    }
    let found = store.metas("canary_at.").await.unwrap();
    assert_eq!(found, [("canary_at.0".to_owned(), "a".to_owned()), ("canary_at.1".to_owned(), "b".to_owned())]);
    assert!(store.metas("no%").await.unwrap().is_empty());
}
