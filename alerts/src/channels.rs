//! Where pages go. A channel has a name, under which its notifications stand in the store, and a guard before it: a receiver that is broken,
//! or has had enough, holds up nobody's page.

mod alertmanager;
mod guard;
pub(crate) mod heartbeat;
mod http;
mod mail;
mod pagerduty;
mod sms;
mod webhook;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::text::Message;
use crate::{AlertsError, Config};
use guard::{Guard, Told};

pub(crate) use guard::{Held, Turned};

/// To connect.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// For one attempt, connecting included.
pub(crate) const TOTAL: Duration = Duration::from_secs(15);
/// Short messages cost money, and a telephone that rings once a second is switched off.
const SMS_PER_MINUTE: u32 = 30;

/// An attempt that did not arrive, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undelivered {
    /// In words that name no patient; at most 200 characters.
    pub why: String,
    /// No attempt will ever arrive.
    pub for_good: bool,
    /// The receiver wants nothing before.
    pub after: Option<Duration>,
}

impl Undelivered {
    fn now(why: impl AsRef<str>) -> Self {
        Self { why: short(why.as_ref()), for_good: false, after: None }
    }
    fn for_good(why: impl AsRef<str>) -> Self {
        Self { for_good: true, ..Self::now(why) }
    }
}

/// What the receiver answered, such as its own number for the message.
pub(crate) type Delivered = Result<Option<String>, Undelivered>;

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// `mended`: the channel was broken before.
    Arrived { receipt: Option<String>, mended: bool },
    /// `broken`: the channel has just become so.
    Failed { undelivered: Undelivered, broken: bool },
    /// It was not tried.
    Held(Held),
    /// No channel of this name is configured here.
    Unknown,
}

pub(crate) struct Channels(BTreeMap<String, (Channel, Mutex<Guard>)>);

enum Channel {
    Webhook(webhook::Webhook),
    Mail(mail::Mail),
    Sms(sms::Sms),
    PagerDuty(pagerduty::PagerDuty),
    Alertmanager(alertmanager::Alertmanager),
}

impl Channels {
    pub fn new(config: &Config) -> Result<Self, AlertsError> {
        let mut channels = BTreeMap::new();
        let now = Instant::now();
        let mut add = |name: String, channel, per_minute| match channels.insert(name.clone(), (channel, Mutex::new(Guard::new(per_minute, now)))) {
            None => Ok(()),
            Some(_) => Err(AlertsError::Channel { channel: name, why: "it is there twice: give each its own name".to_owned() }),
        };
        let speaks_http = !(config.webhooks.is_empty() && config.sms.is_empty() && config.pagerduty.is_empty() && config.alertmanagers.is_empty());
        if speaks_http {
            let client = http::client()?;
            for webhook in &config.webhooks {
                let name = format!("webhook:{}", webhook.name);
                add(name.clone(), Channel::Webhook(webhook::Webhook::new(&name, webhook, client.clone())?), 0)?;
            }
            for service in &config.sms {
                for sms in sms::Sms::all(service, &client)? {
                    add(format!("sms:{}", sms.to()), Channel::Sms(sms), service.per_minute.unwrap_or(SMS_PER_MINUTE))?;
                }
            }
            for pager in &config.pagerduty {
                let name = format!("pagerduty:{}", pager.name);
                add(name.clone(), Channel::PagerDuty(pagerduty::PagerDuty::new(&name, pager, client.clone())?), 0)?;
            }
            for one in &config.alertmanagers {
                let name = format!("alertmanager:{}", one.name);
                add(name.clone(), Channel::Alertmanager(alertmanager::Alertmanager::new(&name, one, client.clone())?), 0)?;
            }
        }
        if let Some(smtp) = &config.smtp {
            for mail in mail::Mail::all(smtp)? {
                add(format!("mail:{}", mail.to()), Channel::Mail(mail), 0)?;
            }
        }
        Ok(Self(channels))
    }

    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Those that are broken now.
    pub fn broken(&self) -> Vec<String> {
        let broken = |(_, guard): &&(Channel, Mutex<Guard>)| guard.lock().unwrap_or_else(PoisonError::into_inner).broken();
        self.0.iter().filter(|(_, one)| broken(one)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether it keeps an alert open until it is told that it is over, even when its page said so.
    pub fn keeps_open(channel: &str) -> bool {
        channel.starts_with("pagerduty:")
    }

    /// One attempt, if the guard lets it through.
    pub async fn attempt(&self, channel: &str, message: &Message) -> Attempt {
        let Some((_, guard)) = self.0.get(channel) else { return Attempt::Unknown };
        let guard = || guard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(held) = guard().enter(Instant::now()) {
            return Attempt::Held(held);
        }
        let delivered = self.deliver(channel, message).await;
        let told = match &delivered {
            Ok(_) => Told::Works,
            // the message or its receiver was refused, and the channel answered
            Err(undelivered) if undelivered.for_good => Told::Works,
            Err(Undelivered { after: Some(after), .. }) => Told::Away(*after),
            Err(_) => Told::Fails,
        };
        let turned = guard().heard(told, Instant::now());
        match delivered {
            Ok(receipt) => Attempt::Arrived { receipt: receipt.as_deref().map(short), mended: turned == Some(Turned::Mended) },
            Err(undelivered) => Attempt::Failed { undelivered, broken: turned == Some(Turned::Broken) },
        }
    }

    /// One attempt, whatever the guard says.
    pub async fn deliver(&self, channel: &str, message: &Message) -> Delivered {
        let attempt = async {
            match self.0.get(channel).map(|(channel, _)| channel) {
                Some(Channel::Webhook(webhook)) => webhook.deliver(message).await,
                Some(Channel::Mail(mail)) => mail.deliver(message).await,
                Some(Channel::Sms(sms)) => sms.deliver(message).await,
                Some(Channel::PagerDuty(pager)) => pager.deliver(message).await,
                Some(Channel::Alertmanager(one)) => one.deliver(message).await,
                None => Err(Undelivered::now("no channel of this name is configured here")),
            }
        };
        tokio::time::timeout(TOTAL, attempt).await.unwrap_or_else(|_| Err(Undelivered::now(format!("no answer within {} s", TOTAL.as_secs()))))
    }
}

fn address(channel: &str, url: &Url) -> Result<(), AlertsError> {
    match url.scheme() {
        "http" | "https" => Ok(()),
        _ => Err(AlertsError::Channel { channel: channel.to_owned(), why: "its address starts with https:// (or http://)".to_owned() }),
    }
}
