//! PagerDuty by its Events API v2: trigger, acknowledge and resolve under one `dedup_key`, the alert's id, so that one alert is one incident.

use reqwest::Client;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::{Delivered, Undelivered, http};
use crate::AlertsError;
use crate::config::PagerDuty as Config;
use crate::episode::{ACKNOWLEDGED, AMENDED, CLEARED, WITHDRAWN};
use crate::text::Message;

pub(super) struct PagerDuty {
    url: Url,
    routing_key: Zeroizing<String>,
    client: Client,
}

impl PagerDuty {
    pub fn new(channel: &str, config: &Config, client: Client) -> Result<Self, AlertsError> {
        super::address(channel, &config.url)?;
        if config.routing_key.trim().is_empty() {
            return Err(AlertsError::Channel { channel: channel.to_owned(), why: "it has no routing_key_file: the integration's key stands in it".to_owned() });
        }
        Ok(Self { url: config.url.clone(), routing_key: Zeroizing::new(config.routing_key.trim().to_owned()), client })
    }

    pub async fn deliver(&self, message: &Message) -> Delivered {
        let action = match message.kind.as_str() {
            CLEARED | WITHDRAWN => "resolve",
            ACKNOWLEDGED => "acknowledge",
            // it has no word for that, and a trigger would open an incident that somebody has closed
            AMENDED => return Ok(Some("not told: PagerDuty has no word for it".to_owned())),
            _ => "trigger",
        };
        if message.reopens && action == "trigger" {
            // an incident that is acknowledged there rings no more: a new one does
            self.event("resolve", message).await?;
        }
        self.event(action, message).await
    }

    async fn event(&self, action: &str, message: &Message) -> Delivered {
        let body = event(&self.routing_key, action, message).to_string();
        let answer = http::send(self.client.post(self.url.clone()).header("content-type", "application/json").body(body)).await?;
        let answer: Value = serde_json::from_str(&answer).map_err(|_| Undelivered::now("its answer is not that of PagerDuty's Events API v2"))?;
        Ok(answer["dedup_key"].as_str().map(|key| format!("dedup_key {key}")))
    }
}

fn event(routing_key: &str, action: &str, message: &Message) -> Value {
    let mut event = json!({"routing_key": routing_key, "event_action": action, "dedup_key": message.alert.to_string()});
    if action == "trigger" {
        event["client"] = "Vigil".into();
        event["client_url"] = message.link.as_str().into();
        event["payload"] = json!({
            "summary": message.line(),
            "source": "vigil",
            "severity": match message.priority {
                schemas::Priority::High => "critical",
                schemas::Priority::Medium => "error",
                schemas::Priority::Low => "warning",
            },
            "timestamp": message.raised_at,
            "group": message.ward,
            "custom_details": {"code": message.code, "page": message.number, "key": message.key},
        });
        let links = message.take.iter().map(|href| json!({"href": href, "text": "Take it"}));
        event["links"] = links.chain([json!({"href": message.link, "text": "See it in Vigil"})]).collect();
    }
    event
}
