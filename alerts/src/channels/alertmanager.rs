//! Prometheus Alertmanager by its API v2: the alert is handed over with its end, and handed over again when it is over.

use reqwest::Client;
use schemas::{EventTime, Micros, Priority};
use serde_json::{Value, json};
use url::Url;

use super::{Delivered, http};
use crate::config::Alertmanager as Config;
use crate::episode::{ACKNOWLEDGED, CLEARED, WITHDRAWN};
use crate::text::Message;
use crate::{AlertsError, now};

/// An alert that is open stands there for so long, unless it is told before that it is over.
const STANDS: Micros = Micros::hours(24);
/// One that was over before it could be told: long enough to be sent on from there.
const BRIEFLY: Micros = Micros::minutes(5);

pub(super) struct Alertmanager {
    url: Url,
    config: Config,
    client: Client,
}

impl Alertmanager {
    pub fn new(channel: &str, config: &Config, client: Client) -> Result<Self, AlertsError> {
        super::address(channel, &config.url)?;
        let mut url = config.url.clone();
        url.set_path(&format!("{}/api/v2/alerts", config.url.path().trim_end_matches('/')));
        Ok(Self { url, config: config.clone(), client })
    }

    pub async fn deliver(&self, message: &Message) -> Delivered {
        if message.kind == ACKNOWLEDGED {
            return Ok(None);
        }
        let body = json!([alert(message, now())]).to_string();
        let mut request = self.client.post(self.url.clone()).header("content-type", "application/json");
        request = match &self.config.password {
            Some(token) if self.config.user.is_empty() => request.bearer_auth(token.as_str()),
            Some(password) => request.basic_auth(&self.config.user, Some(password.as_str())),
            None => request,
        };
        http::send(request.body(body)).await?;
        Ok(None)
    }
}

/// The labels say which alert it is, so they are the same from its first word to its last.
fn alert(message: &Message, now: EventTime) -> Value {
    let ends = match message.kind.as_str() {
        CLEARED | WITHDRAWN => now.max(message.raised_at + Micros(1000)),
        _ if message.says_over() => now + BRIEFLY,
        _ => now + STANDS,
    };
    json!({
        "labels": {
            "alertname": if message.technical { "VigilTechnicalAlarm" } else { "VigilPatientAlert" },
            "alert": message.alert,
            "code": message.code,
            "severity": match message.priority {
                Priority::High => "critical",
                Priority::Medium => "warning",
                Priority::Low => "info",
            },
            "ward": message.ward,
        },
        "annotations": {"summary": message.line(), "take": message.take.as_deref().unwrap_or_default()},
        "startsAt": message.raised_at,
        "endsAt": ends,
        "generatorURL": message.link,
    })
}
