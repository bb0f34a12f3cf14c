//! A bridge: reads what devices publish to a broker that is somebody else's. `docs/bridge.md` says what its operator has to set.
//!
//! **Promises.** I1 from the broker on: the broker gets its PUBACK for a message at QoS 1 only when every record of it is durable, in the order
//! the messages came; what it has no PUBACK for it keeps, and sends again when the bridge is back. What a broker loses, or never kept, is lost.
//!
//! **Bounded.** At most [`RECEIVE_MAXIMUM`] messages are unacknowledged, and as many at QoS 0 wait beside them; from a broker that sends more no more is
//! read. While the journal is full or away nothing is taken, the connection stays, and the broker keeps the rest.
//!
//! A bridge speaks as a hub: for the devices registered behind it, and for no other. What it may not speak for is a dead letter, and acknowledged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, ready};
use metrics::counter;
use rumqttc::{
    AckMode, MqttOptions, NetworkOptions, PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use schemas::{DeviceId, Private};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::gateway::{GatewayError, Shared};
use crate::link::{Link, Lost};
use crate::telemetry::{BRIDGE_LOST, Seldom};

/// Messages that a broker may send before the first of them is acknowledged.
pub const RECEIVE_MAXIMUM: u16 = 256;
/// From connect to CONNACK, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// After a connection that was lost; twice as long each time, up to [`LONGEST`]. A connection that stood for longer begins anew.
const AGAIN: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
/// The bridge publishes nothing.
const OUTGOING: u16 = 1;

/// A broker, and how its messages are read.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// In logs and metrics.
    pub name: String,
    pub host: String,
    pub port: u16,
    /// PEM of the authority that the broker's certificate is from: with it the connection is TLS.
    pub ca: Option<PathBuf>,
    /// Empty: anonymous.
    pub user: String,
    pub password: Option<Private<Zeroizing<String>>>,
    /// The broker's session is under this name, and no other connection may have it.
    pub client_id: String,
    pub topics: Vec<TopicFilter>,
    /// The registered device as which it speaks.
    pub hub: DeviceId,
    /// How long the broker shall keep messages for a bridge that is away.
    pub session: Duration,
    /// Whole seconds.
    pub keep_alive: Duration,
}

/// What may be subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFilter(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    #[error("a broker may lose what it keeps for a shared subscription whose member is away; give each bridge its own topics")]
    Shared,
    #[error("topics that begin with `$` are the broker's own; name those that devices publish to")]
    Dollar,
    #[error("it is a topic filter such as v1/devices/+/vitals/#: `+` is one whole level, `#` stands at the end")]
    Malformed,
}

impl TopicFilter {
    pub fn parse(text: &str) -> Result<Self, BadFilter> {
        if text == "$share" || text.starts_with("$share/") {
            return Err(BadFilter::Shared);
        }
        if text.starts_with('$') {
            return Err(BadFilter::Dollar);
        }
        let mut levels = text.split('/').rev();
        let last = levels.next().unwrap_or_default();
        let whole = |level: &str| level == "+" || !level.contains(['+', '#', '\0']);
        let sound = (last == "#" || whole(last)) && levels.all(whole);
        if text.is_empty() || text.len() > usize::from(u16::MAX) || !sound {
            return Err(BadFilter::Malformed);
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the library is told of an earlier connection: nothing was in flight to the broker. That is so, since a bridge only subscribes and
/// acknowledges, and no ack may outlive its connection. Without it the library would refuse a session that the broker kept.
#[derive(Debug)]
struct NothingSent;

impl SessionStore for NothingSent {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> BoxFuture<'a, Result<Option<PersistedSession>, SessionStoreError>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: Some(OUTGOING),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _key: &'a SessionStoreKey, _session: &'a PersistedSession) -> BoxFuture<'a, Result<(), SessionStoreError>> {
        Box::pin(ready(Ok(())))
    }

    fn clear<'a>(&'a self, _key: &'a SessionStoreKey) -> BoxFuture<'a, Result<(), SessionStoreError>> {
        Box::pin(ready(Ok(())))
    }
}

impl Bridge {
    /// What each of its connections begins with.
    pub(crate) fn options(&self, max_packet: usize) -> Result<MqttOptions, GatewayError> {
        let mut network = NetworkOptions::new();
        // an ack is a few bytes, and must not wait for the next one
        network.set_tcp_nodelay(true);
        let mut options = MqttOptions::new(self.client_id.as_str(), (self.host.clone(), self.port));
        options
            .set_clean_start(false)
            .set_session_store(NothingSent)
            .set_session_expiry_interval(Some(u32::try_from(self.session.as_secs()).unwrap_or(u32::MAX)))
            .set_receive_maximum(Some(RECEIVE_MAXIMUM))
            .set_max_packet_size(Some(u32::try_from(max_packet).unwrap_or(u32::MAX)))
            .set_outgoing_inflight_upper_limit(OUTGOING)
            .set_ack_mode(AckMode::Manual)
            .set_keep_alive(u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX))
            .set_connect_timeout(CONNECT_WITHIN)
            .set_network_options(network);
        if let Some(password) = &self.password {
            options.set_credentials(self.user.as_str(), password.reveal().as_bytes().to_vec());
        } else if !self.user.is_empty() {
            options.set_username(self.user.as_str());
        }
        if let Some(ca) = &self.ca {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(trusting(ca)?))));
        }
        Ok(options)
    }
}

/// TLS that trusts these authorities and no other.
fn trusting(ca: &Path) -> Result<ClientConfig, GatewayError> {
    let unusable = |reason: String| GatewayError::Pem { name: "ingest.bridge.ca", path: ca.to_owned(), reason };
    let roots = crate::tls::roots(ca).map_err(unusable)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| unusable(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Connects, and connects again, until `stop`.
pub(crate) async fn run(bridge: Bridge, options: MqttOptions, shared: Arc<Shared>, stop: CancellationToken) {
    let mut link = Link::new(&bridge, options, shared);
    let mut trouble = Trouble::default();
    let mut pause = AGAIN;
    loop {
        let began = Instant::now();
        let lost = link.run(&stop).await;
        if matches!(lost, Lost::Stopped) {
            return;
        }
        counter!(BRIDGE_LOST, "bridge" => bridge.name.clone(), "reason" => lost.label()).increment(1);
        trouble.tell(&bridge.name, &lost);
        if began.elapsed() > LONGEST {
            pause = AGAIN;
        }
        // two of the same name would take the session from each other without end
        let wait = if matches!(lost, Lost::TakenOver) { LONGEST } else { rand::random_range(pause / 2..=pause) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// Says why a connection was lost, when it is something new, or was not said for a while.
#[derive(Default)]
struct Trouble {
    last: &'static str,
    seldom: Seldom,
}

impl Trouble {
    fn tell(&mut self, bridge: &str, lost: &Lost) {
        let new = std::mem::replace(&mut self.last, lost.label()) != lost.label();
        if !self.seldom.now() && !new {
            return;
        }
        if lost.needs_somebody() {
            tracing::error!(bridge, reason = lost.label(), "the bridge is not connected and tries again: {lost}");
        } else {
            tracing::warn!(bridge, reason = lost.label(), "the bridge is not connected and tries again: {lost}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_subscribed_to() {
        for good in ["v1/devices/+/vitals/#", "#", "+", "a", "a/b", "/", "a//b", "+/+/#", "a$b"] {
            assert_eq!(TopicFilter::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("$share/g/v1/devices/+/vitals", BadFilter::Shared),
            ("$SYS/#", BadFilter::Dollar),
            ("", BadFilter::Malformed),
            ("a/#/b", BadFilter::Malformed),
            ("a#", BadFilter::Malformed),
            ("a/b+", BadFilter::Malformed),
            ("a/\0", BadFilter::Malformed),
        ] {
            assert_eq!(TopicFilter::parse(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let bridge = Bridge {
            name: "b".to_owned(),
            host: "h".to_owned(),
            port: 1,
            ca: None,
            user: "u".to_owned(),
            password: Some(Private::new("geheim".to_owned().into())),
            client_id: "c".to_owned(),
            topics: Vec::new(),
            hub: DeviceId::parse("hub").unwrap(),
            session: Duration::from_secs(1),
            keep_alive: Duration::from_secs(1),
        };
        assert!(!format!("{bridge:?}").contains("geheim"));
    }
}
