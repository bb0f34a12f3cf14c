//! Standard Webhooks: a JSON body, the stable key as `webhook-id`, and a signature over key, time and body.

use base64::Engine as _;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client;
use serde::Serialize;
use sha2::Sha256;
use url::Url;

use super::{Delivered, Undelivered, http};
use crate::text::Message;
use crate::{AlertsError, Secret, now};

pub(super) struct Webhook {
    url: Url,
    secret: Option<Secret>,
    client: Client,
}

#[derive(Serialize)]
struct Body<'a> {
    /// `alert.page`, `alert.repage`, `alert.cleared`, `alert.withdrawn`, `alert.amended`
    r#type: String,
    /// When the alert was raised.
    timestamp: schemas::EventTime,
    data: &'a Message,
}

impl Webhook {
    pub fn new(channel: &str, config: &crate::Webhook, client: Client) -> Result<Self, AlertsError> {
        super::address(channel, &config.url)?;
        Ok(Self { url: config.url.clone(), secret: config.secret.clone(), client })
    }

    pub async fn deliver(&self, message: &Message) -> Delivered {
        let body = Body { r#type: format!("alert.{}", message.kind), timestamp: message.raised_at, data: message };
        let body: Bytes = serde_json::to_vec(&body).map_err(|error| Undelivered::for_good(error.to_string()))?.into();
        let sent_at = (now().0 / 1_000_000).to_string();
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &message.key)
            .header("webhook-timestamp", &sent_at);
        if let Some(secret) = &self.secret {
            request = request.header("webhook-signature", signature(secret, &message.key, &sent_at, &body)?);
        }
        http::send(request.body(body)).await?;
        Ok(None)
    }
}

fn signature(secret: &Secret, key: &str, sent_at: &str, body: &[u8]) -> Result<String, Undelivered> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).map_err(|error| Undelivered::now(error.to_string()))?;
    mac.update(format!("{key}.{sent_at}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())))
}
