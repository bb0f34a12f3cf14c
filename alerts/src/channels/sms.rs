//! A short message by somebody's HTTP interface: a form whose fields are written in the configuration, as Twilio and most others take it.

use reqwest::Client;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::{Delivered, http};
use crate::config::Sms as Config;
use crate::text::Message;
use crate::{AlertsError, config};

/// Of a link's length and a line's: what two messages of the network hold.
const LONGEST: usize = 300;

pub(super) struct Sms {
    config: Config,
    to: String,
    client: Client,
}

impl Sms {
    /// One for each number.
    pub fn all(config: &Config, client: &Client) -> Result<Vec<Self>, AlertsError> {
        let channel = format!("sms by {}", config.name);
        super::address(&channel, &config.url)?;
        let wrong = |why: &str| AlertsError::Channel { channel: channel.clone(), why: why.to_owned() };
        if config.to.is_empty() {
            return Err(wrong("it has no number in `to`"));
        }
        for needed in ["{to}", "{text}"] {
            if !config.form.values().any(|value| value.contains(needed)) {
                return Err(wrong(&format!("no field of its form holds {needed}: write one such as Body = \"{{text}}\"")));
            }
        }
        for (name, value) in &config.form {
            if let Some(unknown) = config::placeholders(value).find(|name| !["to", "text", "key"].contains(name)) {
                return Err(wrong(&format!("the field {name} of its form holds {{{unknown}}}: there are {{to}}, {{text}} and {{key}}")));
            }
        }
        Ok(config.to.iter().map(|to| Self { config: config.clone(), to: to.clone(), client: client.clone() }).collect())
    }

    pub fn to(&self) -> &str {
        &self.to
    }

    pub async fn deliver(&self, message: &Message) -> Delivered {
        let text: String = message.short().chars().take(LONGEST).collect();
        let field = |value: &str| value.replace("{to}", &self.to).replace("{key}", &message.key).replace("{text}", &text);
        let form = Serializer::new(String::new()).extend_pairs(self.config.form.iter().map(|(name, value)| (name, field(value)))).finish();
        let mut request = self.client.post(self.config.url.clone()).header("content-type", "application/x-www-form-urlencoded");
        // a service that knows keys sends what it has had once only
        request = request.header("idempotency-key", &message.key).header("i-twilio-idempotency-token", &message.key);
        request = match &self.config.password {
            Some(token) if self.config.user.is_empty() => request.bearer_auth(token.as_str()),
            Some(password) => request.basic_auth(&self.config.user, Some(password.as_str())),
            None => request,
        };
        let answer = http::send(request.body(form)).await?;
        Ok(receipt(&answer, &self.config.receipt))
    }
}

/// The service's own number of the message, such as Twilio's `sid`.
fn receipt(answer: &str, field: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let found = if field.starts_with('/') { answer.pointer(field) } else { answer.get(field) };
    match found? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Nothing but what a telephone knows: `Patient alert K7F2, high, Ward 7 https://…`.
impl Message {
    fn short(&self) -> String {
        format!("{} {}", self.line(), self.take.as_ref().unwrap_or(&self.link))
    }
}
