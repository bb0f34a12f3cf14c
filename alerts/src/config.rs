//! What the role is told: how long until a page is repeated, and where pages go.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use url::Url;
use zeroize::Zeroizing;

use crate::{AlertsError, Watch};

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// A page of high or medium priority is repeated after this, until someone takes the alert or it is over.
    pub repage_after: Duration,
    /// So many pages a minute a receiver gets one by one; what is more comes together.
    pub one_by_one: u32,
    pub webhooks: Vec<Webhook>,
    pub smtp: Option<Smtp>,
    pub sms: Vec<Sms>,
    pub pagerduty: Vec<PagerDuty>,
    pub alertmanagers: Vec<Alertmanager>,
    /// Where people reach the dashboard, without a slash at the end: pages link to `{dashboard_url}/alerts/{id}`.
    pub dashboard_url: String,
    /// How Vigil looks at itself.
    pub watch: Watch,
    /// Of the journal; a mismatch refuses to start.
    pub partitions: u32,
}

/// A receiver by the Standard Webhooks convention (<https://www.standardwebhooks.com>).
#[derive(Clone)]
pub struct Webhook {
    /// Its pages stand under `webhook:{name}` in the store: who renames it makes it another channel.
    pub name: String,
    pub url: Url,
    /// Signs every message; without one there is no signature.
    pub secret: Option<Secret>,
}

impl Webhook {
    /// `secret` is as the convention writes it: `whsec_` and the base64 of 24 to 64 bytes.
    pub fn new(name: &str, url: Url, secret: Option<&str>) -> Result<Self, AlertsError> {
        let secret = secret.map(Secret::parse).transpose().map_err(|why| AlertsError::Secret { webhook: name.to_owned(), why })?;
        Ok(Self { name: name.to_owned(), url, secret })
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).field("host", &host(&self.url)).field("signed", &self.secret.is_some()).finish_non_exhaustive()
    }
}

/// The key of a webhook's signature.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Reads `whsec_<base64>`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let encoded = text.strip_prefix("whsec_").ok_or("it starts with whsec_")?;
        let key = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| "after whsec_ comes base64 (with its = at the end)")?;
        let key = Zeroizing::new(key);
        if !(24..=64).contains(&key.len()) {
            return Err("it holds 24 to 64 bytes");
        }
        Ok(Self(key))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A mail server. Port 465 speaks TLS from the first byte; on any other, STARTTLS is required unless `starttls` is off.
#[derive(Clone)]
pub struct Smtp {
    pub host: String,
    pub port: u16,
    pub starttls: bool,
    pub from: String,
    /// Each is a channel of its own, `mail:{address}`: one address that is refused keeps no page from the others.
    pub to: Vec<String>,
    /// Empty: no sign-in.
    pub user: String,
    pub password: Option<Zeroizing<String>>,
}

/// A service that sends short messages: one `POST` of a form for each.
#[derive(Clone)]
pub struct Sms {
    /// In errors only.
    pub name: String,
    pub url: Url,
    /// Each is a channel of its own, `sms:{number}`.
    pub to: Vec<String>,
    /// The fields; in their values `{to}`, `{text}` and `{key}` are what they say.
    pub form: BTreeMap<String, String>,
    /// Of basic authentication; empty: the password is a bearer token.
    pub user: String,
    pub password: Option<Zeroizing<String>>,
    /// Where the service's number of the message stands in its JSON answer: a member, or a pointer such as `/messages/0/id`.
    pub receipt: String,
    /// To each number; 0: as many as there are, `None`: as many as we think right.
    pub per_minute: Option<u32>,
}

/// Which `{words}` stand in a text.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// An integration of PagerDuty's Events API v2, the channel `pagerduty:{name}`.
#[derive(Clone)]
pub struct PagerDuty {
    pub name: String,
    pub url: Url,
    pub routing_key: Zeroizing<String>,
}

/// A Prometheus Alertmanager, the channel `alertmanager:{name}`.
#[derive(Clone)]
pub struct Alertmanager {
    pub name: String,
    /// Without `/api/v2`.
    pub url: Url,
    /// Of basic authentication; empty: the password is a bearer token.
    pub user: String,
    pub password: Option<Zeroizing<String>>,
}

/// An address may hold a token, so only its host is shown.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

impl fmt::Debug for Sms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sms").field("name", &self.name).field("host", &host(&self.url)).field("numbers", &self.to.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for PagerDuty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagerDuty").field("name", &self.name).field("host", &host(&self.url)).finish_non_exhaustive()
    }
}

impl fmt::Debug for Alertmanager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alertmanager").field("name", &self.name).field("host", &host(&self.url)).finish_non_exhaustive()
    }
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("host", &self.host).field("port", &self.port).field("starttls", &self.starttls).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_the_convention_says() {
        let good = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([7; 24]));
        assert_eq!(Secret::parse(&good).unwrap().bytes(), [7; 24]);
        assert_eq!(format!("{:?}", Secret::parse(&good).unwrap()), "***");
        for bad in ["", "whsec_", "whsec_%%%", &good[6..], "whsec_AAAA"] {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_with_a_token_is_not_shown() {
        let webhook = Webhook::new("pager", "https://pager.example/t0ken".parse().unwrap(), None).unwrap();
        assert!(!format!("{webhook:?}").contains("t0ken"));
    }
}
