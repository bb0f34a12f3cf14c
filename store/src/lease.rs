//! A lease in the store's meta: who holds it does a thing that one is enough for. It keeps no promise by itself: two holders at once,
//! after a pause of one, must be harmless.

use crate::{Store, StoreError, Tx};
use schemas::{EventTime, Micros};

/// Takes or renews the lease `what` until `now + length`; `false`: someone else holds it.
pub async fn take(tx: &mut Tx<'_>, what: &str, owner: &str, now: EventTime, length: Micros) -> Result<bool, StoreError> {
    let name = format!("lease.{what}");
    let held = tx.meta(&name).await?;
    if let Some((holder, until)) = held.as_deref().and_then(read)
        && holder != owner
        && until > now
    {
        return Ok(false);
    }
    tx.set_meta(&name, &format!("{owner} {}", (now + length).0)).await?;
    Ok(true)
}

/// Gives it back, so that the next one need not wait for its end.
pub async fn release(store: &Store, what: &str, owner: &str) -> Result<(), StoreError> {
    store
        .transaction(|tx| {
            Box::pin(async move {
                let name = format!("lease.{what}");
                let held = tx.meta(&name).await?;
                if held.as_deref().and_then(read).is_some_and(|(holder, _)| holder == owner) {
                    tx.set_meta(&name, &format!("{owner} 0")).await?;
                }
                Ok(())
            })
        })
        .await
}

fn read(text: &str) -> Option<(&str, EventTime)> {
    let (holder, until) = text.split_once(' ')?;
    Some((holder, EventTime(until.parse().ok()?)))
}
