//! Who looks on while a gateway serves: `vigil certify`. Without one nothing of this costs anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use intake::Decided;
use schemas::{DeviceId, EventTime};
use store::registry::RegistryView;

/// Hears what each connection does, on that connection's task: it must return at once.
pub trait Onlooker: fmt::Debug + Send + Sync + 'static {
    /// What of the registry counts at this gateway.
    fn registry(&self, whole: RegistryView) -> RegistryView;
    /// Connections of one gateway are numbered as they come.
    fn see(&self, connection: u64, sight: Sight<'_>);
}

/// What a connection did.
pub enum Sight<'a> {
    /// TCP is open.
    Arrived {
        tls: bool,
    },
    /// It ended before a CONNECT came: TLS failed, or something else was said.
    Stranger {
        detail: String,
    },
    /// Its CONNECT was refused.
    Refused {
        user: &'a str,
        detail: &'static str,
    },
    Connected(Greeting<'a>),
    /// A PUBLISH, and what becomes of it.
    Published(Published<'a>),
    /// The ack of the oldest message at QoS 1 or 2 that had none leaves.
    Acknowledged,
    /// To its verdicts.
    Subscribed,
    Pinged,
    Ended {
        reason: &'static str,
        detail: String,
    },
}

pub struct Greeting<'a> {
    pub device: &'a DeviceId,
    pub mqtt_5: bool,
    pub client: &'a str,
    /// The client left its id to the gateway.
    pub assigned: bool,
    /// `None`: it asked for none.
    pub keep_alive: Option<Duration>,
    /// It showed a certificate, and no password was needed.
    pub certificate: bool,
}

pub struct Published<'a> {
    pub qos: u8,
    pub dup: bool,
    pub topic: &'a str,
    pub content_type: &'a str,
    pub payload: &'a Bytes,
    pub received_at: EventTime,
    pub decided: &'a [Decided],
}

/// A connection that is looked at.
pub(crate) struct Watched {
    onlooker: Arc<dyn Onlooker>,
    connection: u64,
}

impl Watched {
    pub fn new(onlooker: &Arc<dyn Onlooker>, connection: u64) -> Box<Self> {
        Box::new(Self { onlooker: onlooker.clone(), connection })
    }

    pub fn see(&self, sight: Sight<'_>) {
        self.onlooker.see(self.connection, sight);
    }
}
