//! A device as Vigil's gateway sees one: connects over MQTT 5, publishes at QoS 1, and after a lost connection sends what has no PUBACK
//! again, in the order in which it was sent first.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, MqttOptions, PubAckReason, PublishNotice, PublishNoticeError, PublishOptions, PublishResult,
    QoS,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

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
    outgoing: mpsc::UnboundedSender<Outgoing>,
    speaker: JoinHandle<()>,
}

struct Outgoing {
    topic: String,
    payload: Bytes,
    answer: oneshot::Sender<anyhow::Result<Verdict>>,
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
        // as long as those who publish wait for the verdict
        let (outgoing, queue) = mpsc::unbounded_channel();
        Self { outgoing, speaker: tokio::spawn(speak(options, queue)) }
    }

    /// Resolves when the gateway acknowledged this publish. Publishes are sent in the order in which this was polled first.
    pub async fn publish(&self, topic: &str, payload: Bytes) -> anyhow::Result<Verdict> {
        let (answer, verdict) = oneshot::channel();
        self.outgoing.send(Outgoing { topic: topic.to_owned(), payload, answer }).ok().context("the MQTT client ended")?;
        verdict.await.context("the MQTT client ended")?
    }

    pub async fn disconnect(self) {
        drop(self.outgoing);
        let mut speaker = self.speaker;
        if tokio::time::timeout(Duration::from_secs(5), &mut speaker).await.is_err() {
            speaker.abort();
            tracing::debug!("the gateway did not end the connection in time");
        }
    }
}

/// Why a conversation ended before everything was said.
enum Ended {
    /// A refusal is final.
    Refused(String),
    /// A lost connection is not.
    Lost(String),
}

async fn speak(options: MqttOptions, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
    let mut waiting = VecDeque::new();
    let why = loop {
        match converse(&options, &mut queue, &mut waiting).await {
            Ok(()) => return,
            Err(Ended::Refused(why)) => break why,
            Err(Ended::Lost(why)) => {
                tracing::debug!(why, "connection lost, connecting again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    while let Some(one) = match waiting.pop_front() {
        Some(one) => Some(one),
        None => queue.recv().await,
    } {
        // who gave up waiting does not hear it
        drop(one.answer.send(Err(anyhow::anyhow!("{why}"))));
    }
}

/// One connection, with a client of its own: what it had under way belongs to `waiting`, not to the client.
async fn converse(options: &MqttOptions, queue: &mut mpsc::UnboundedReceiver<Outgoing>, waiting: &mut VecDeque<Outgoing>) -> Result<(), Ended> {
    let (client, events) = AsyncClient::builder(options.clone()).capacity(WINDOW).build();
    let mut poller = JoinSet::new();
    poller.spawn(poll(events));
    let mut notices = FuturesOrdered::new();
    for one in waiting.iter() {
        notices.push_back(send(&client, one).await?.wait_async());
    }
    let mut more = true;
    while more || waiting.iter().any(|one| !one.answer.is_closed()) {
        tokio::select! {
            biased;
            Some(ended) = poller.join_next() => return Err(ended.unwrap_or_else(|error| Ended::Lost(error.to_string()))),
            Some(notice) = notices.next() => {
                let verdict = verdict(notice)?;
                if let Some(one) = waiting.pop_front() {
                    drop(one.answer.send(Ok(verdict)));
                }
            }
            one = queue.recv(), if more && waiting.len() < WINDOW => match one {
                Some(one) => {
                    let sent = send(&client, &one).await;
                    waiting.push_back(one);
                    notices.push_back(sent?.wait_async());
                }
                None => more = false,
            },
        }
    }
    if client.disconnect().await.is_ok() {
        poller.join_next().await;
    }
    Ok(())
}

async fn send(client: &AsyncClient, one: &Outgoing) -> Result<PublishNotice, Ended> {
    let options = PublishOptions::new(QoS::AtLeastOnce);
    client.publish_tracked(one.topic.clone(), one.payload.clone(), options).await.map_err(|error| Ended::Lost(error.to_string()))
}

fn verdict(notice: Result<PublishResult, PublishNoticeError>) -> Result<Verdict, Ended> {
    match notice {
        Ok(PublishResult::Qos1(puback)) if puback.reason != PubAckReason::Success => Ok(Verdict::Refused(format!("{:?}", puback.reason))),
        Ok(_) => Ok(Verdict::Accepted),
        Err(PublishNoticeError::V5PubAck(reason)) => Ok(Verdict::Refused(format!("{reason:?}"))),
        Err(error) => Err(Ended::Lost(error.to_string())),
    }
}

/// Until the connection ends, and why.
async fn poll(mut events: EventLoop) -> Ended {
    loop {
        match events.poll().await {
            Ok(_) => {}
            Err(ConnectionError::ConnectionRefused(reason)) if !matches!(reason, ConnectReturnCode::ServerBusy | ConnectReturnCode::ServerUnavailable) => {
                return Ended::Refused(format!("the gateway refused the connection: {reason:?}; check the user and the password"));
            }
            Err(error) => return Ended::Lost(error.to_string()),
        }
    }
}
