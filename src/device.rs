//! A device as Vigil's gateway sees one: connects over MQTT 5, publishes at QoS 1, and sends again until it has a PUBACK.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use rumqttc::{AsyncClient, ConnectReturnCode, EventLoop, MqttOptions, PubAckReason, PublishNoticeError, PublishOptions, PublishResult, QoS};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::exit::{Unreachable, Usage};

/// How many publishes may wait for their PUBACK on one connection; the gateway's Receive Maximum.
pub const WINDOW: usize = 32;
const RETRY: Duration = Duration::from_millis(500);
const REACH: Duration = Duration::from_secs(10);

/// Where to connect, and as whom.
#[derive(Clone)]
pub struct Account {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

/// What the PUBACK said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Acknowledged and kept as a dead letter: the reason code.
    Refused(String),
}

pub struct Device {
    client: AsyncClient,
    broken: watch::Receiver<Option<String>>,
    poller: JoinHandle<()>,
}

/// `host:port` of a gateway.
pub fn address(text: &str) -> Result<(String, u16), Usage> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| Usage(format!("--to {text}: it is host:port")))
}

/// Whether somebody listens there at all.
pub async fn reach(address: &str) -> Result<(), Unreachable> {
    match tokio::time::timeout(REACH, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Unreachable(format!("cannot reach the gateway at {address}: {error}"))),
        Err(_) => Err(Unreachable(format!("cannot reach the gateway at {address}: it does not answer within {} s", REACH.as_secs()))),
    }
}

impl Device {
    /// Starts connecting; publishes wait for the connection.
    pub fn connect(account: &Account, client_id: &str) -> Self {
        let mut options = MqttOptions::new(client_id, (account.host.clone(), account.port));
        options
            .set_credentials(account.user.clone(), account.password.clone())
            .set_keep_alive(30)
            .set_clean_start(true)
            .set_outgoing_inflight_upper_limit(WINDOW as u16);
        let (client, events) = AsyncClient::builder(options).capacity(WINDOW).build();
        let (tell, broken) = watch::channel(None);
        let poller = tokio::spawn(poll(events, tell));
        Self { client, broken, poller }
    }

    /// Resolves when the gateway acknowledged this publish; sends it again after a lost connection, as a device must.
    pub async fn publish(&self, topic: &str, payload: Bytes) -> anyhow::Result<Verdict> {
        loop {
            let options = PublishOptions::new(QoS::AtLeastOnce);
            let notice = self.client.publish_tracked(topic.to_owned(), payload.clone(), options).await.context("the MQTT client ended")?;
            match notice.wait_async().await {
                Ok(PublishResult::Qos1(puback)) if puback.reason != PubAckReason::Success => return Ok(Verdict::Refused(format!("{:?}", puback.reason))),
                Ok(_) => return Ok(Verdict::Accepted),
                Err(PublishNoticeError::V5PubAck(reason)) => return Ok(Verdict::Refused(format!("{reason:?}"))),
                Err(PublishNoticeError::SessionReset | PublishNoticeError::Recv | PublishNoticeError::BrokerOnlySessionResume) => {
                    if let Some(why) = self.broken.borrow().clone() {
                        bail!("{why}");
                    }
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => bail!("{error}"),
            }
        }
    }

    pub async fn disconnect(self) {
        if self.client.disconnect().await.is_ok() && tokio::time::timeout(Duration::from_secs(5), self.poller).await.is_err() {
            tracing::debug!("the gateway did not end the connection in time");
        }
    }
}

/// Reconnects for as long as it is worth it: a refusal is final, a lost connection is not.
async fn poll(mut events: EventLoop, tell: watch::Sender<Option<String>>) {
    loop {
        match events.poll().await {
            Ok(_) => {}
            Err(rumqttc::ConnectionError::RequestsDone) => return,
            Err(rumqttc::ConnectionError::ConnectionRefused(reason))
                if !matches!(reason, ConnectReturnCode::ServerBusy | ConnectReturnCode::ServerUnavailable) =>
            {
                tell.send_replace(Some(format!("the gateway refused the connection: {reason:?}; check the user and the password")));
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "connection lost, connecting again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
