//! Who is paged, how often, and when it ends: A2, A3, taking an alert and giving it back.

use std::time::Duration;

use journal::Topic;
use schemas::{Offset, Priority, Transition, TransitionKind};
use store::episodes::{State, What};
use store::notifications::State as Sending;

use crate::receiver::{Answer, Receiver};
use crate::{Fresh, LONG, P0, Running, SECRETS, arc, config, eventually, memory, now, paging, raised, read_all, say, sqlite, then, told};

crate::on_both! {
    a2_what_is_over_before_it_is_sent_is_paged_once
    a3_a_timer_survives_a_restart_and_fires_once_under_two
    taking_an_alert_ends_its_pages_and_giving_it_back_begins_them
    many_at_once_come_together
}

/// The mutants: a clearing that cancels every notification; one that pages and then says "over" as well.
async fn a2_what_is_over_before_it_is_sent_is_paged_once(fresh: Fresh) {
    let store = &fresh.store;
    let receiver = Receiver::start([]).await;
    let journal = memory();
    let (cleared, withdrawn, late) = (raised(1), raised(2), Transition { late: true, ..raised(3) });
    say(&journal, P0, &[cleared.clone(), withdrawn.clone(), late.clone(), then(&late, TransitionKind::Cleared, 3 + 1)]).await;
    say(&journal, P0, &[then(&cleared, TransitionKind::Cleared, 5), then(&withdrawn, TransitionKind::Withdrawn, 6)]).await;
    let running = Running::start(&paging(Duration::from_millis(50), &receiver.url), arc(&journal), store);
    for (t, state) in [(&cleared, State::Cleared), (&withdrawn, State::Withdrawn), (&late, State::Cleared)] {
        let page = eventually("the page", || async { told(store, t.alert, "page").await.pop().filter(|n| n.state == Sending::Sent) }).await;
        let episode = store.episode(t.alert).await.unwrap();
        assert_eq!((episode.state, episode.brief), (state, true));
        let received = receiver.under(&page.key);
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].json()["data"]["state"], state.as_str(), "the page says that it is over");
        assert!(told(store, t.alert, "repage").await.is_empty());
        assert!(store.timers(t.alert).await.unwrap().iter().all(|timer| timer.done));
    }
    // nothing is left to send: the page said it all
    eventually("nothing due", || async { store.next_notification().await.unwrap().is_none().then_some(()) }).await;
    running.stop().await;
    assert_eq!(receiver.received().len(), 3);
}

async fn a3_a_timer_survives_a_restart_and_fires_once_under_two(fresh: Fresh) {
    let store = &fresh.store;
    let receiver = Receiver::start([]).await;
    let journal = memory();
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let running = Running::start(&paging(Duration::from_secs(2), &receiver.url), arc(&journal), store);
    eventually("the page", || async { (receiver.received().len() == 1).then_some(()) }).await;
    running.stop().await;
    assert!(told(store, t.alert, "repage").await.is_empty(), "stopped before it was due");
    eventually("the timer is due", || async { (store.next_timer().await.unwrap()? <= now()).then_some(()) }).await;
    // from here on it fires once an hour, so a second re-page can only be a second firing of the same
    let two = [0, 1].map(|_| Running::start(&paging(LONG, &receiver.url), arc(&journal), store));
    eventually("the re-page sent", || async { told(store, t.alert, "repage").await.pop().filter(|n| n.state == Sending::Sent) }).await;
    for one in two {
        one.stop().await;
    }
    let repages = told(store, t.alert, "repage").await;
    assert_eq!(repages.len(), 1, "{repages:?}");
    assert_eq!(receiver.under(&repages[0].key).len(), 1);
    assert_ne!(repages[0].key, told(store, t.alert, "page").await[0].key, "a receiver that drops what it has must not drop the re-page");
    let history = store.history(t.alert).await.unwrap();
    assert_eq!(history.iter().filter(|entry| entry.what == What::Escalated).count(), 1);
    assert!(store.next_timer().await.unwrap().unwrap() > now(), "and the next one stands");
}

async fn taking_an_alert_ends_its_pages_and_giving_it_back_begins_them(fresh: Fresh) {
    let store = &fresh.store;
    let receiver = Receiver::start([]).await;
    let journal = memory();
    let running = Running::start(&paging(Duration::from_millis(300), &receiver.url), arc(&journal), store);
    let (taken, clock) = (raised(1), raised(2));
    say(&journal, P0, std::slice::from_ref(&taken)).await;
    eventually("a re-page", || async { told(store, taken.alert, "repage").await.into_iter().find(|n| n.state == Sending::Sent) }).await;
    store.take_alert(taken.alert, "silva", None, now(), None).await.unwrap();
    assert!(store.timers(taken.alert).await.unwrap().iter().all(|timer| timer.done));
    // what was on its way when it was taken may still arrive; nothing after it
    let on_its_way = told(store, taken.alert, "repage").await.len();
    say(&journal, P0, std::slice::from_ref(&clock)).await;
    eventually("two re-pages of another", || async {
        (told(store, clock.alert, "repage").await.iter().filter(|n| n.state == Sending::Sent).count() >= 2).then_some(())
    })
    .await;
    assert_eq!(told(store, taken.alert, "repage").await.len(), on_its_way, "somebody has it");
    let given_back = store.give_back_alert(taken.alert, "silva", now(), now()).await.unwrap();
    assert!(given_back.acknowledged.is_none());
    eventually("a re-page again", || async { (told(store, taken.alert, "repage").await.len() > on_its_way).then_some(()) }).await;
    let keys: Vec<String> = told(store, taken.alert, "repage").await.into_iter().map(|n| n.key).collect();
    assert!(keys.iter().enumerate().all(|(i, key)| !keys[..i].contains(key)), "each re-page has a key of its own");
    running.stop().await;
    // nobody can give back what was never escalated
    let low = Transition { priority: Priority::Low, ..raised(3) };
    say(&journal, P0, std::slice::from_ref(&low)).await;
    let running = Running::start(&paging(LONG, &receiver.url), arc(&journal), store);
    read_all(store, &journal).await;
    store.take_alert(low.alert, "silva", None, now(), None).await.unwrap();
    store.give_back_alert(low.alert, "silva", now(), now()).await.unwrap();
    assert!(store.timers(low.alert).await.unwrap().is_empty());
    running.stop().await;
}

/// A page that is taken before it left still leaves; its end is told where it was paged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_page_leaves_even_if_somebody_was_faster() {
    let fresh = sqlite().await.unwrap();
    let store = &fresh.store;
    let receiver = Receiver::start([Answer::Status(503)]).await;
    let journal = memory();
    let running = Running::start(&paging(LONG, &receiver.url), arc(&journal), store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    eventually("the first attempt", || async { (!receiver.received().is_empty()).then_some(()) }).await;
    store.take_alert(t.alert, "silva", None, now(), None).await.unwrap();
    let page = eventually("the page", || async { told(store, t.alert, "page").await.pop().filter(|n| n.state == Sending::Sent) }).await;
    let received = receiver.under(&page.key);
    assert!(received.len() == 2 && received[1].json()["data"]["taken"] == true);
    // withdrawn later: who was paged hears of it, under a key of its own
    say(&journal, P0, &[then(&t, TransitionKind::Cleared, 90)]).await;
    let over = eventually("its end", || async { told(store, t.alert, "cleared").await.pop().filter(|n| n.state == Sending::Sent) }).await;
    running.stop().await;
    assert_eq!(receiver.under(&over.key)[0].json()["type"], "alert.cleared");
    assert!(!store.episode(t.alert).await.unwrap().brief);
    for one in receiver.received() {
        let text = String::from_utf8_lossy(&one.raw).to_lowercase();
        assert!(SECRETS.iter().all(|secret| !text.contains(&secret.to_lowercase())), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_to_be_woken_is_not() {
    let fresh = sqlite().await.unwrap();
    let store = &fresh.store;
    let receiver = Receiver::start([]).await;
    let journal = memory();
    let running = Running::start(&paging(Duration::from_millis(100), &receiver.url), arc(&journal), store);
    let technical = Transition { technical: true, ..raised(1) };
    let inbox = Transition { late: true, pages: false, ..raised(2) };
    let test = Transition { pages: false, ..raised(3) };
    let low = Transition { priority: Priority::Low, ..raised(4) };
    let clock = raised(5);
    say(&journal, P0, &[technical.clone(), inbox.clone(), test.clone(), low.clone(), clock.clone()]).await;
    eventually("a third page of the one that is to wake", || async { (told(store, clock.alert, "repage").await.len() >= 2).then_some(()) }).await;
    running.stop().await;
    for quiet in [&technical, &inbox, &test] {
        assert!(store.notifications(quiet.alert).await.unwrap().is_empty());
        assert_eq!(store.episode(quiet.alert).await.unwrap().state, State::Open, "and yet it is shown");
        let note = store.history(quiet.alert).await.unwrap()[0].note.clone().unwrap();
        assert!(note.contains("nobody is paged"), "{note}");
    }
    assert!(store.episode(test.alert).await.unwrap().test && !store.episode(inbox.alert).await.unwrap().test);
    assert_eq!(store.notifications(low.alert).await.unwrap().len(), 1, "a low one is told once");
    assert!(store.timers(low.alert).await.unwrap().is_empty());
}

/// Retention was faster than we: what is left is read, and it is written down what was not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_noted_and_passed() {
    let fresh = sqlite().await.unwrap();
    let store = &fresh.store;
    let journal = memory();
    let alerts: Vec<_> = (0..8).map(raised).collect();
    say(&journal, P0, &alerts).await;
    journal.truncate(Topic::Alerts, P0, Offset(5));
    let running = Running::start(&config(LONG), arc(&journal), store);
    eventually("the newest", || async { store.episode(alerts[7].alert).await.ok() }).await;
    running.stop().await;
    assert!(store.episode(alerts[4].alert).await.is_err());
    assert!(store.meta("alerts.gap.0").await.unwrap().unwrap().ends_with(" 0 5"));
    assert_eq!(store.position(alerts::READER, Topic::Alerts.name(), P0).await.unwrap(), Offset(8));
}

/// A record that nobody can read must not stop those behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_stops_nothing() {
    let fresh = sqlite().await.unwrap();
    let journal = memory();
    let append = |value: &'static [u8]| journal::Appender::append(&journal, Topic::Alerts, P0, b"", value.into()).unwrap();
    append(b"\xff\xff\xff").await.unwrap();
    append(b"").await.unwrap();
    let t = Transition { rule_name: "a\0b".to_owned(), ..raised(1) };
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let running = Running::start(&config(LONG), arc(&journal), &fresh.store);
    let episode = eventually("the one behind", || async { fresh.store.episode(t.alert).await.ok() }).await;
    assert_eq!(episode.rule_name, "ab");
    running.stop().await;
}

/// The mutant: one that marks as sent what it did not name.
async fn many_at_once_come_together(fresh: Fresh) {
    let store = &fresh.store;
    let receiver = Receiver::start([]).await;
    let journal = memory();
    let storm: Vec<Transition> = (1..=40).map(|n| Transition { priority: if n % 10 == 0 { Priority::High } else { Priority::Medium }, ..raised(n) }).collect();
    say(&journal, P0, &storm).await;
    let config = alerts::Config { one_by_one: 5, ..paging(LONG, &receiver.url) };
    // all are due before the first is sent
    let running = Running::start(&config, arc(&journal), store);
    for t in &storm {
        eventually("the page", || async { told(store, t.alert, "page").await.pop().filter(|n| n.state == Sending::Sent) }).await;
    }
    running.stop().await;
    let (mut named, mut bundled) = (std::collections::BTreeMap::new(), 0);
    for message in receiver.received().iter() {
        let data = &message.json()["data"];
        let also = data["also"].as_array().cloned().unwrap_or_default();
        bundled += also.len();
        assert!(also.is_empty() || data["take_link"].is_null(), "it would take one of many");
        for one in std::iter::once(data).chain(&also) {
            *named.entry(one["alert"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    assert_eq!(named.len(), 40, "each is named");
    assert!(named.values().all(|times| *times == 1), "and once: {named:?}");
    assert!(bundled > 0 && receiver.received().len() < 20, "{} messages, {bundled} together", receiver.received().len());
    for t in &storm {
        assert!(store.timers(t.alert).await.unwrap().iter().any(|timer| !timer.done), "each is repeated until somebody takes it");
    }
}
