//! Notifications that are due, sent through their channels under a lease.
//!
//! A process that dies while it sends leaves a lease that runs out; another sends again under the same key. What fails is tried again
//! with growing pauses until [`GIVE_UP`], and goes on to the person's next channel at once; whichever is first to arrive ends the others.
//! The history of the alert says when a page arrived, when one first failed, and when one was given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use schemas::{EventTime, Micros, Priority};
use store::episodes::{Episode, Hop, What};
use store::links::{Link, LinkKey};
use store::notifications::Notification;
use store::{Store, StoreError, Tx};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::channels::{Attempt, Channels, Held, Undelivered};
use crate::episode::{CLEARED, PAGE, WITHDRAWN, notification};
use crate::escalation::{GIVE_UP, Turn, backoff, fall_through, is_page, reopens, turn};
use crate::storm::Storm;
use crate::text::{Message, many, message};
use crate::{AlertsError, names, now, until};

const POLL: Duration = Duration::from_secs(1);
/// Longer than [`crate::channels::TOTAL`] and the transactions around it.
const LEASE: Micros = Micros::seconds(30);
/// Being sent at once: a receiver that hangs holds its few for 15 s each, and the others go on.
const AT_ONCE: usize = 256;
/// A page that its channel holds up for longer goes on to the next.
const PATIENCE: Micros = Micros::seconds(10);
/// No receiver sends a page away for longer.
const LONGEST_AWAY: Micros = Micros::minutes(5);
/// A link is good for as long as its page may arrive, and a while after.
const LINK: Micros = Micros::hours(26);
/// What is being sent at shutdown has this long; then its lease runs out and another process sends it again.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Sender {
    store: Store,
    owner: String,
    channels: Arc<Channels>,
    dashboard_url: Arc<str>,
    /// So many pages a minute come one by one.
    alone: u32,
    /// Read once.
    link_key: Arc<OnceCell<LinkKey>>,
}

impl Sender {
    pub fn new(store: Store, owner: String, channels: Arc<Channels>, dashboard_url: String, alone: u32) -> Self {
        Self { store, owner, channels, dashboard_url: dashboard_url.into(), alone, link_key: Arc::default() }
    }

    pub async fn run(self, stop: CancellationToken) -> Result<(), AlertsError> {
        let mut flying = JoinSet::new();
        let outcome = self.send_all(&mut flying, &stop).await;
        let drained = tokio::time::timeout(DRAIN, async { while flying.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::info!(pending = flying.len(), "notifications were being sent at shutdown; they are sent again under the same key");
        }
        outcome
    }

    async fn send_all(&self, flying: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), AlertsError> {
        let mut changes = self.store.changes();
        let mut storm = Storm::new(self.alone);
        loop {
            changes.mark_unchanged();
            while flying.try_join_next().is_some() {}
            let room = AT_ONCE - flying.len().min(AT_ONCE);
            // a look that only reads: a claim is a commit, and would wake everyone who waits for one
            let pause = match self.store.next_notification().await? {
                Some(at) if room > 0 => until(at, POLL),
                _ => POLL,
            };
            if pause.is_zero() {
                let limit = u32::try_from(room).unwrap_or(u32::MAX);
                let claimed = self.store.claim_notifications(&self.owner, now(), LEASE, limit).await?;
                for together in self.shared(&mut storm, claimed).await? {
                    let sender = self.clone();
                    flying.spawn(async move { sender.send(together).await });
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // its sender lives as long as our store does
                Ok(()) = changes.changed() => {}
                Some(_) = flying.join_next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What is sent at once, each of it as one message.
    async fn shared(&self, storm: &mut Storm, claimed: Vec<Notification>) -> Result<Vec<Vec<Notification>>, StoreError> {
        // a channel that keeps an incident for each alert puts them together itself
        let (pages, others): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|n| is_page(n) && !Channels::keeps_open(&n.channel));
        let mut shared: Vec<Vec<_>> = others.into_iter().map(|n| vec![n]).collect();
        let mut receivers: BTreeMap<(String, Option<String>), Vec<Notification>> = BTreeMap::new();
        for n in pages {
            receivers.entry((n.channel.clone(), n.person.clone())).or_default().push(n);
        }
        for mut pages in receivers.into_values() {
            if pages.len() > 1 {
                let mut urgent = Vec::with_capacity(pages.len());
                for n in pages {
                    urgent.push((std::cmp::Reverse(self.store.episode(n.alert).await?.priority), n));
                }
                urgent.sort_by_key(|(priority, _)| *priority);
                pages = urgent.into_iter().map(|(_, n)| n).collect();
            }
            let share = storm.share(pages, now());
            shared.extend(share.alone.into_iter().map(|n| vec![n]));
            shared.extend(share.together);
            if let Some((until, later)) = share.later {
                for n in later {
                    self.store.notification_held(&n.id, &self.owner, None, now(), until).await?;
                }
            }
        }
        Ok(shared)
    }

    async fn send(&self, together: Vec<Notification>) {
        if let Err(error) = self.attempt(&together).await {
            // its lease runs out, and it is sent again under the same key
            let alerts: Vec<String> = together.iter().map(|n| n.alert.to_string()).collect();
            tracing::error!(alerts = alerts.join(" "), %error, "a notification could not be recorded");
        }
    }

    async fn attempt(&self, together: &[Notification]) -> Result<(), StoreError> {
        let mut pages = Vec::with_capacity(together.len());
        for n in together {
            pages.extend(self.page(n).await?);
        }
        let Some(Page { n: first, message, .. }) = pages.first() else { return Ok(()) };
        let all = (pages.len() > 1).then(|| many(pages.iter().map(|page| &page.message), &self.dashboard_url)).flatten();
        let began = now();
        let attempt = self.channels.attempt(&first.channel, all.as_ref().unwrap_or(message)).await;
        match &attempt {
            Attempt::Arrived { mended: true, .. } => tracing::info!(channel = %first.channel, "a channel that was broken works again"),
            Attempt::Failed { undelivered, broken: true } => {
                tracing::error!(channel = %first.channel, why = undelivered.why, "a channel is broken: its pages go on to people's next channels");
            }
            _ => {}
        }
        for page in &pages {
            let n = page.n;
            match &attempt {
                Attempt::Arrived { receipt, .. } => self.arrived(page, receipt.as_deref(), began, pages.len() - 1).await?,
                Attempt::Failed { undelivered, .. } => self.failed(n, undelivered.clone(), Some(began)).await?,
                Attempt::Held(held) => self.held(n, held.clone()).await?,
                Attempt::Unknown => {
                    // another process of a newer configuration may know it: it stays due
                    let why = "no channel of this name is configured here".to_owned();
                    self.failed(n, Undelivered { why, for_good: false, after: None }, None).await?;
                }
            }
        }
        Ok(())
    }

    /// What it says, if it is still to be said.
    async fn page<'a>(&self, n: &'a Notification) -> Result<Option<Page<'a>>, StoreError> {
        let episode = self.store.episode(n.alert).await?;
        let told = self.store.notifications(n.alert).await?;
        match turn(n, &episode, &told, now()) {
            Turn::Send => {}
            Turn::Wait(until) => {
                self.store.notification_held(&n.id, &self.owner, None, now(), until).await?;
                return Ok(None);
            }
            Turn::Drop(why) => {
                self.store.notification_cancelled(&n.id, &self.owner, why, now()).await?;
                return Ok(None);
            }
            Turn::GoOn(why) => {
                self.goes_on_instead(n, &why).await?;
                return Ok(None);
            }
        }
        let ward = match self.store.patient(&episode.patient).await {
            Ok(patient) => Some(self.store.ward(&patient.ward).await?),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let mut message = message(n, &episode, ward.as_ref(), &self.dashboard_url);
        message.reopens = reopens(n, &told);
        if is_page(n) {
            let key = self.link_key.get_or_try_init(|| self.store.link_key()).await?;
            let token = Link::new(n.alert, &n.id, n.created_at + LINK).sign(key);
            message.take = Some(format!("{}/take/{token}", self.dashboard_url.trim_end_matches('/')));
        }
        Ok(Some(Page { n, episode, message }))
    }

    /// `others`: how many it arrived together with.
    async fn arrived(&self, page: &Page<'_>, receipt: Option<&str>, began: EventTime, others: usize) -> Result<(), StoreError> {
        let Page { n, episode, message } = page;
        let (owner, now) = (&self.owner, now());
        let by = if others > 0 { format!("{}, in one page with {others} others", n.channel) } else { n.channel.clone() };
        let by = &by;
        let recorded = self
            .store
            .transaction(|tx| {
                Box::pin(async move {
                    if !tx.notification_sent(&n.id, owner, receipt, now).await? {
                        return Ok(None);
                    }
                    if is_page(n) {
                        tx.add_history(n.alert, now, What::Paged, None, Some(by)).await?;
                        tx.stamp(n.alert, Hop::Attempted, began).await?;
                        tx.stamp(n.alert, Hop::Delivered, now).await?;
                    }
                    if n.kind == PAGE && message.says_over() && !Channels::keeps_open(&n.channel) {
                        for other in tx.notifications(n.alert).await? {
                            if other.channel == n.channel && [CLEARED, WITHDRAWN].contains(&other.kind.as_str()) {
                                tx.cancel_notification(&other.id, "the page said so", now).await?;
                            }
                        }
                    }
                    tx.hops(n.alert).await.map(Some)
                })
            })
            .await?;
        let Some(hops) = recorded else {
            tracing::warn!(alert = %n.alert, channel = %n.channel, "a notification was sent after its lease was over: the receiver may get it twice, under one key");
            return Ok(());
        };
        counter!(names::SENT, "channel" => n.channel.clone(), "kind" => n.kind.clone()).increment(1);
        if n.kind == PAGE {
            let delay = (now - episode.heard_at.as_event()).0.max(0) as f64 / 1e6;
            histogram!(names::DELAY, "priority" => word(episode.priority)).record(delay);
            if hops.delivered == Some(now) && !hops.late {
                for (hop, span) in hops.spans() {
                    histogram!(names::HOP, "hop" => hop).record(span.0 as f64 / 1e6);
                }
            }
        }
        Ok(())
    }

    /// `began`: when it was handed to the channel; `None`: there is none.
    async fn failed(&self, n: &Notification, undelivered: Undelivered, began: Option<EventTime>) -> Result<(), StoreError> {
        let (owner, now) = (&self.owner, now());
        let Undelivered { why, for_good, after } = &undelivered;
        let given_up = *for_good || now - n.created_at >= GIVE_UP;
        let after = after.map_or(Micros::ZERO, |after| micros(after).min(LONGEST_AWAY));
        let again = now + backoff(n.attempts, rand::random()).max(after);
        let next = self.next(n, began.is_none(), now);
        let note = format!("{}: {why}{}{}", n.channel, if given_up { "; given up" } else { "; tried again" }, goes_on(&next));
        let (note, next) = (&note, &next);
        self.store
            .transaction(|tx| {
                Box::pin(async move {
                    let mine = match given_up {
                        true => tx.notification_failed(&n.id, owner, why, now).await?,
                        false => tx.notification_retry(&n.id, owner, why, now, again).await?,
                    };
                    if !mine {
                        return Ok(());
                    }
                    if let Some(began) = began.filter(|_| is_page(n)) {
                        tx.stamp(n.alert, Hop::Attempted, began).await?;
                    }
                    let went_on = go_on(tx, n, next).await?;
                    // each of a day's attempts would bury the rest of the history
                    if is_page(n) && (given_up || n.attempts == 1 || went_on) {
                        tx.add_history(n.alert, now, What::PageFailed, None, Some(note)).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        counter!(names::FAILED, "channel" => n.channel.clone(), "final" => if given_up { "yes" } else { "no" }).increment(1);
        if given_up {
            tracing::error!(alert = %n.alert, channel = %n.channel, kind = %n.kind, attempts = n.attempts, why, "a notification is given up");
        } else {
            tracing::warn!(alert = %n.alert, channel = %n.channel, kind = %n.kind, attempts = n.attempts, again_at = %again, why, "a notification was not delivered");
        }
        Ok(())
    }

    /// Not tried: it waits for its channel, and a page that would wait long goes on to the person's next one.
    async fn held(&self, n: &Notification, held: Held) -> Result<(), StoreError> {
        let (owner, now) = (&self.owner, now());
        let wait = micros(held.again);
        let given_up = now - n.created_at >= GIVE_UP;
        // not all at once when it opens again
        let again = now + wait + Micros((wait.0 as f64 * 0.1 * rand::random::<f64>()) as i64 + 1000);
        let next = if wait > PATIENCE { self.next(n, false, now) } else { Vec::new() };
        let note = format!("{}: {}{}", n.channel, held.why, goes_on(&next));
        let (note, next, why) = (&note, &next, held.why);
        self.store
            .transaction(|tx| {
                Box::pin(async move {
                    let mine = match given_up {
                        true => tx.notification_failed(&n.id, owner, why, now).await?,
                        false => tx.notification_held(&n.id, owner, (wait > PATIENCE).then_some(why), now, again).await?,
                    };
                    if mine && go_on(tx, n, next).await? {
                        tx.add_history(n.alert, now, What::PageFailed, None, Some(note)).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        counter!(names::HELD, "channel" => n.channel.clone()).increment(1);
        tracing::debug!(alert = %n.alert, channel = %n.channel, why, again_at = %again, "a notification is held");
        Ok(())
    }

    /// Its channel is failing with the same page for another person, who waits for it; this one has others to go on to.
    async fn goes_on_instead(&self, n: &Notification, why: &str) -> Result<(), StoreError> {
        let (owner, now) = (&self.owner, now());
        let next = self.next(n, false, now);
        let next = &next;
        self.store
            .transaction(|tx| {
                Box::pin(async move {
                    if !next.is_empty() {
                        if tx.notification_cancelled(&n.id, owner, why, now).await? {
                            go_on(tx, n, next).await?;
                        }
                        return Ok(());
                    }
                    // nobody else to try: it waits with the other, and the channel gets it once
                    tx.notification_held(&n.id, owner, Some(why), now, now + PATIENCE).await.map(drop)
                })
            })
            .await
    }

    /// Where a page that was not delivered is sent now: to the person's next channel; from a channel that is gone from the configuration, and
    /// with none left to go on to, to everybody who can be reached.
    fn next(&self, n: &Notification, unknown: bool, now: EventTime) -> Vec<Notification> {
        match fall_through(n, now) {
            _ if !is_page(n) => Vec::new(),
            Some(next) => vec![next],
            None if unknown => self.channels.names().iter().map(|channel| notification(n.alert, &n.kind, &n.key, channel, now)).collect(),
            None => Vec::new(),
        }
    }
}

/// One that is to be sent, and what it says.
struct Page<'a> {
    n: &'a Notification,
    episode: Episode,
    message: Message,
}

/// Whether it was the first time.
async fn go_on(tx: &mut Tx<'_>, n: &Notification, next: &[Notification]) -> Result<bool, StoreError> {
    let mut went_on = false;
    for next in next {
        went_on |= tx.add_notification(next).await?;
    }
    if went_on {
        tx.notification_went_on(&n.id).await?;
    }
    Ok(went_on)
}

fn goes_on(next: &[Notification]) -> String {
    match next {
        [] => String::new(),
        [one] => format!("; on to {}", one.channel),
        many => format!("; on to all {} channels there are", many.len()),
    }
}

fn micros(duration: Duration) -> Micros {
    Micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

const fn word(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "high",
        Priority::Medium => "medium",
        Priority::Low => "low",
    }
}

// a lease that ends during an attempt would send everything twice
const _: () = assert!(LEASE.0 as u128 > crate::channels::TOTAL.as_micros() + 5_000_000);
