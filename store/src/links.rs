//! Links in pages that acknowledge an alert without signing in: signed, good for a time, and good once.
//!
//! A token is `alert (16) · end (8) · page (8) · HMAC-SHA256 of these, cut to 16`, in base64url. It names no patient and no person: who took
//! the alert is whom the page was for. The key is made by the first process that needs it and stays in the store, as the sessions do.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use schemas::{AlertId, EventTime};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::db::{args, on_store};
use crate::{StoreError, Tx, secrets};

const KEY: &str = "links.key";
const SIGNED: usize = 32;
const WHOLE: usize = SIGNED + 16;

#[derive(Clone)]
pub struct LinkKey(Zeroizing<String>);

/// What a link that was signed here says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub alert: AlertId,
    pub until: EventTime,
    page: [u8; 8],
}

on_store! {
    write fn link_key() -> LinkKey;
    write fn use_link(token: &str, now: EventTime) -> bool;
    read fn link_used(token: &str) -> bool;
}

impl Link {
    /// `page` is the id of the notification that carries it.
    pub fn new(alert: AlertId, page: &str, until: EventTime) -> Self {
        Self { alert, until, page: short(page) }
    }

    /// Whether it came in this page.
    pub fn is_of(&self, page: &str) -> bool {
        short(page) == self.page
    }

    pub fn sign(&self, key: &LinkKey) -> String {
        let mut bytes = Vec::with_capacity(WHOLE);
        bytes.extend(self.alert.0);
        bytes.extend(self.until.0.to_be_bytes());
        bytes.extend(self.page);
        bytes.extend(&key.mac(&bytes)[..16]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None`: not signed with this key, or over.
    pub fn open(token: &str, key: &LinkKey, now: EventTime) -> Option<Self> {
        if token.len() > 2 * WHOLE {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == WHOLE)?;
        let (signed, mac) = bytes.split_at(SIGNED);
        if !secrets::same(&key.mac(signed)[..16], mac) {
            return None;
        }
        let until = EventTime(i64::from_be_bytes(signed[16..24].try_into().ok()?));
        let link = Self { alert: AlertId::from_slice(&signed[..16])?, until, page: signed[24..].try_into().ok()? };
        (now < until).then_some(link)
    }
}

impl LinkKey {
    fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        // HMAC takes a key of any length
        Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).map(|mac| mac.chain_update(bytes).finalize().into_bytes().into()).unwrap_or_default()
    }
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

fn short(page: &str) -> [u8; 8] {
    let mut head = [0; 8];
    head.copy_from_slice(&Sha256::digest(page.as_bytes())[..8]);
    head
}

impl Tx<'_> {
    pub async fn link_key(&mut self) -> Result<LinkKey, StoreError> {
        if let Some(key) = self.meta(KEY).await? {
            return Ok(LinkKey(Zeroizing::new(key)));
        }
        let key = secrets::random_token();
        self.set_meta(KEY, &key).await?;
        Ok(LinkKey(key))
    }

    /// `false`: it was used before.
    pub async fn use_link(&mut self, token: &str, now: EventTime) -> Result<bool, StoreError> {
        let sql = "INSERT INTO used_links (token, at) VALUES ($1, $2) ON CONFLICT (token) DO NOTHING";
        Ok(self.execute(sql, args![&secrets::token_hash(token), now]).await? == 1)
    }

    pub async fn link_used(&mut self, token: &str) -> Result<bool, StoreError> {
        Ok(self.row("SELECT at FROM used_links WHERE token = $1", args![&secrets::token_hash(token)]).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use schemas::Micros;

    use super::*;

    #[test]
    fn a_link_is_what_was_signed_or_nothing() {
        let (key, other) = (LinkKey(Zeroizing::new("k".to_owned())), LinkKey(Zeroizing::new("l".to_owned())));
        let now = EventTime(1_795_168_800_000_000);
        let link = Link::new(AlertId([7; 16]), "page sms:+1", now + Micros::hours(1));
        let token = link.sign(&key);
        assert_eq!(Link::open(&token, &key, now), Some(link));
        assert!(link.is_of("page sms:+1") && !link.is_of("page sms:+2"));
        assert_eq!(Link::open(&token, &other, now), None);
        assert_eq!(Link::open(&token, &key, now + Micros::hours(1)), None, "over");
        for i in 0..token.len() {
            let mut bent = token.clone().into_bytes();
            bent[i] = if bent[i] == b'A' { b'B' } else { b'A' };
            assert_eq!(Link::open(std::str::from_utf8(&bent).unwrap(), &key, now), None, "{i}");
        }
        for bad in ["", "A", &token[1..], &format!("{token}A"), &"A".repeat(10_000)] {
            assert_eq!(Link::open(bad, &key, now), None);
        }
    }
}
