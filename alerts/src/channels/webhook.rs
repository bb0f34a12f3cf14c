//! Standard Webhooks: a JSON body, the stable key as `webhook-id`, and a signature over key, time and body.

use base64::Engine as _;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, StatusCode, redirect};
use serde::Serialize;
use sha2::Sha256;
use url::Url;

use super::{CONNECT, TOTAL, Undelivered};
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

pub(super) fn client() -> Result<Client, AlertsError> {
    // without a provider the client would panic
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(AlertsError::NoTlsProvider);
    }
    let client = Client::builder()
        .connect_timeout(CONNECT)
        .timeout(TOTAL)
        // a redirect would hand the signed page to whoever the answer names
        .redirect(redirect::Policy::none())
        .user_agent(concat!("vigil/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(|error| AlertsError::Channel { channel: "webhooks".to_owned(), why: error.to_string() })
}

impl Webhook {
    pub fn new(channel: &str, config: &crate::Webhook, client: Client) -> Result<Self, AlertsError> {
        if !matches!(config.url.scheme(), "http" | "https") {
            return Err(AlertsError::Channel { channel: channel.to_owned(), why: "its address starts with https:// (or http://)".to_owned() });
        }
        Ok(Self { url: config.url.clone(), secret: config.secret.clone(), client })
    }

    pub async fn deliver(&self, message: &Message) -> Result<(), Undelivered> {
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
        // the error's own text holds the address, which may hold a token
        let answer = request.body(body).send().await.map_err(|error| Undelivered::now(reason(&error.without_url())))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(Undelivered::for_good("answered 410: the receiver wants no more")),
            status => Err(Undelivered::now(format!("answered {}", status.as_u16()))),
        }
    }
}

fn signature(secret: &Secret, key: &str, sent_at: &str, body: &[u8]) -> Result<String, Undelivered> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).map_err(|error| Undelivered::now(error.to_string()))?;
    mac.update(format!("{key}.{sent_at}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())))
}

/// The outermost error says only that sending failed; the innermost says why.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_timeout() { format!("no answer in time: {cause}") } else { cause.to_string() }
}
