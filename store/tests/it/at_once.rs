//! Several at once: what must happen once, happens once.

use schemas::{AlertId, Micros, Offset, Partition};
use store::StoreError;
use store::timers::Timer;

use crate::{Fresh, at};

crate::on_both! {
    a1_of_two_consumers_one_does_the_batch
    a3_a_timer_is_claimed_once_until_its_lease_ends
    a_transaction_that_fails_leaves_nothing
}

/// Both read the same position and try every batch; the work of each batch is done once, with the position.
async fn a1_of_two_consumers_one_does_the_batch(fresh: Fresh) {
    const BATCHES: i64 = 30;
    let consumer = |name: &'static str, store: store::Store| async move {
        let mut mine = 0;
        for _ in 0..BATCHES * 8 {
            let old = store.position("alerts", "vigil.alerts", Partition(0)).await.unwrap();
            if old.0 == BATCHES {
                break;
            }
            let did = store
                .transaction(|tx| {
                    Box::pin(async move {
                        if !tx.advance("alerts", "vigil.alerts", Partition(0), old, old.next()).await? {
                            return Ok(false);
                        }
                        // the batch's own work, which a second run would double
                        let count: i64 = tx.meta("worked").await?.and_then(|text| text.parse().ok()).unwrap_or(0);
                        tx.set_meta("worked", &(count + 1).to_string()).await?;
                        tx.set_meta(&format!("batch-{old}"), name).await?;
                        Ok(true)
                    })
                })
                .await;
            match did {
                Ok(did) => mine += i64::from(did),
                Err(StoreError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        mine
    };
    let (one, two) = tokio::join!(tokio::spawn(consumer("one", fresh.store.clone())), tokio::spawn(consumer("two", fresh.store.clone())));
    assert_eq!(one.unwrap() + two.unwrap(), BATCHES);
    assert_eq!(fresh.store.position("alerts", "vigil.alerts", Partition(0)).await.unwrap(), Offset(BATCHES));
    assert_eq!(fresh.store.meta("worked").await.unwrap().as_deref(), Some("30"));
}

async fn a3_a_timer_is_claimed_once_until_its_lease_ends(fresh: Fresh) {
    let store = &fresh.store;
    crate::ward(store).await;
    store.upsert_episode(&crate::state::episode(1, 0, store::episodes::State::Open)).await.unwrap();
    let lease = Micros::seconds(30);
    let timer = Timer::new("repage-1".to_owned(), AlertId([7; 16]), "repage", at(10));
    assert!(store.add_timer(&timer).await.unwrap());
    assert!(!store.add_timer(&timer).await.unwrap(), "the same id again adds nothing");
    assert!(store.claim_timers("one", at(9), lease, 10).await.unwrap().is_empty(), "not due yet");
    let (one, two) = tokio::join!(store.claim_timers("one", at(10), lease, 10), store.claim_timers("two", at(10), lease, 10));
    assert_eq!(one.unwrap().len() + two.unwrap().len(), 1);
    let owner = store.timers(AlertId([7; 16])).await.unwrap()[0].lease_owner.clone().unwrap();
    let other = if owner == "one" { "two" } else { "one" };
    assert!(!store.finish_timer("repage-1", other).await.unwrap(), "only its owner finishes it");
    // the owner died: after the lease another one takes it
    assert_eq!(store.claim_timers(other, at(41), lease, 10).await.unwrap().len(), 1);
    assert!(store.finish_timer("repage-1", other).await.unwrap());
    assert!(store.claim_timers(&owner, at(999), lease, 10).await.unwrap().is_empty(), "fired once");
}

async fn a_transaction_that_fails_leaves_nothing(fresh: Fresh) {
    let failed: Result<(), StoreError> = fresh
        .store
        .transaction(|tx| {
            Box::pin(async move {
                tx.set_meta("half", "done").await?;
                tx.advance("alerts", "vigil.alerts", Partition(0), Offset(0), Offset(5)).await?;
                Err(StoreError::Conflict("on purpose"))
            })
        })
        .await;
    assert!(matches!(failed, Err(StoreError::Conflict("on purpose"))));
    assert_eq!(fresh.store.meta("half").await.unwrap(), None);
    assert_eq!(fresh.store.position("alerts", "vigil.alerts", Partition(0)).await.unwrap(), Offset(0));
    // what was committed is there for who opens it next
    fresh.store.set_meta("whole", "done").await.unwrap();
    fresh.store.close().await;
    let again = store::Store::open(&fresh.url).await.unwrap();
    assert_eq!(again.meta("whole").await.unwrap().as_deref(), Some("done"));
    let id = again.installation().await.unwrap().id;
    assert!(again.expect_installation(&id).await.is_ok());
    assert!(matches!(again.expect_installation("elsewhere").await, Err(StoreError::OtherInstallation { .. })));
}
