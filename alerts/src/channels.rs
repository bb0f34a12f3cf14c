//! Where pages go. A channel has a name, under which its notifications stand in the store.

mod mail;
mod webhook;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::text::Message;
use crate::{AlertsError, Config};

/// To connect.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// For one attempt, connecting included.
pub(crate) const TOTAL: Duration = Duration::from_secs(15);

/// An attempt that did not arrive, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undelivered {
    /// In words that name no patient; at most 200 characters.
    pub why: String,
    /// No attempt will ever arrive.
    pub for_good: bool,
}

impl Undelivered {
    fn now(why: impl AsRef<str>) -> Self {
        Self { why: short(why.as_ref()), for_good: false }
    }
    fn for_good(why: impl AsRef<str>) -> Self {
        Self { why: short(why.as_ref()), for_good: true }
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

pub(crate) struct Channels(BTreeMap<String, Channel>);

enum Channel {
    Webhook(webhook::Webhook),
    Mail(mail::Mail),
}

impl Channels {
    pub fn new(config: &Config) -> Result<Self, AlertsError> {
        let mut channels = BTreeMap::new();
        let mut add = |name: String, channel| match channels.insert(name.clone(), channel) {
            None => Ok(()),
            Some(_) => Err(AlertsError::Channel { channel: name, why: "it is there twice: give each its own name".to_owned() }),
        };
        if !config.webhooks.is_empty() {
            let client = webhook::client()?;
            for webhook in &config.webhooks {
                let name = format!("webhook:{}", webhook.name);
                add(name.clone(), Channel::Webhook(webhook::Webhook::new(&name, webhook, client.clone())?))?;
            }
        }
        if let Some(smtp) = &config.smtp {
            for mail in mail::Mail::all(smtp)? {
                add(format!("mail:{}", mail.to()), Channel::Mail(mail))?;
            }
        }
        Ok(Self(channels))
    }

    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub async fn deliver(&self, channel: &str, message: &Message) -> Result<(), Undelivered> {
        let attempt = async {
            match self.0.get(channel) {
                Some(Channel::Webhook(webhook)) => webhook.deliver(message).await,
                Some(Channel::Mail(mail)) => mail.deliver(message).await,
                // another process of a newer configuration may know it
                None => Err(Undelivered::now("no channel of this name is configured here")),
            }
        };
        tokio::time::timeout(TOTAL, attempt).await.unwrap_or_else(|_| Err(Undelivered::now(format!("no answer within {} s", TOTAL.as_secs()))))
    }
}
