//! A vendor's device: it measures on its own clock, keeps what has no PUBACK, and connects again. Each of its habits can be a bad one.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration, Transport};
use schemas::{EventTime, Micros};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::driven::now;

/// Between two measurements.
const STEP: Duration = Duration::from_millis(200);
const WINDOW: usize = 16;
pub const VALUE: f64 = 96.75;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Again {
    Same,
    /// What was under way when the first connection was lost is forgotten.
    Never,
    /// The same times with other values.
    OtherValues,
}

#[derive(Clone, Debug)]
pub struct Habits {
    pub tls: bool,
    pub qos: QoS,
    pub again: Again,
    pub unit: &'static str,
    /// How far its clock is ahead.
    pub ahead: Micros,
    pub says_when_sent: bool,
    pub keeps_backlog: bool,
    /// Before it connects again.
    pub pause: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            tls: true,
            qos: QoS::AtLeastOnce,
            again: Again::Same,
            unit: "%",
            ahead: Micros::ZERO,
            says_when_sent: true,
            keeps_backlog: true,
            // never more than one attempt in two seconds, however long the gateway is away
            pause: Duration::from_secs(2),
        }
    }
}

/// Whom it is, and where the gateway is.
pub struct Account {
    pub id: String,
    pub password: String,
    pub plain: String,
    pub tls: String,
    pub ca: Vec<u8>,
}

enum Heard {
    Open,
    Acked,
}

struct Measured {
    at: EventTime,
    value: f64,
}

/// Lives until it is dropped.
pub async fn live(habits: Habits, account: Account) {
    let began = now();
    let mut ticks = interval_at(Instant::now() + STEP, STEP);
    // a late tick is made up for: the device measures, whatever this machine does
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut count = 0;
    let mut measure = || {
        count += 1;
        Measured { at: began + Micros(STEP.as_micros() as i64 * count) + habits.ahead, value: VALUE }
    };
    // the oldest first; the first `sent` are under way
    let mut kept = VecDeque::new();
    let mut forgets = true;
    loop {
        let (client, mut heard, _poller) = dial(&habits, &account);
        let (mut open, mut sent) = (false, 0);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let measured = measure();
                    if open || habits.keeps_backlog {
                        kept.push_back(measured);
                    }
                }
                heard = heard.recv() => match heard {
                    Some(Heard::Open) => open = true,
                    Some(Heard::Acked) => {
                        kept.pop_front();
                        sent -= 1;
                    }
                    None => break,
                }
            }
            while open && sent < kept.len().min(WINDOW) {
                let topic = format!("v1/devices/{}/vitals", account.id);
                if client.try_publish(topic, message(&habits, &kept[sent]), PublishOptions::new(habits.qos)).is_err() {
                    // the connection is lost, and will be heard to be
                    break;
                }
                if habits.qos == QoS::AtMostOnce {
                    kept.pop_front();
                } else {
                    sent += 1;
                }
            }
        }
        match habits.again {
            Again::Same => {}
            Again::Never if std::mem::take(&mut forgets) => drop(kept.drain(..sent)),
            Again::Never => {}
            Again::OtherValues => kept.iter_mut().take(sent).for_each(|measured| measured.value += 1.0),
        }
        let pause = sleep(habits.pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                _ = ticks.tick() => {
                    let measured = measure();
                    if habits.keeps_backlog {
                        kept.push_back(measured);
                    }
                }
            }
        }
    }
}

fn message(habits: &Habits, measured: &Measured) -> String {
    let reading = format!(r#"{{"metric":"spo2","value":{},"unit":"{}","measured_at":"{}"}}"#, measured.value, habits.unit, measured.at);
    match habits.says_when_sent {
        true => format!(r#"{{"sent_at":"{}","readings":[{reading}]}}"#, now() + habits.ahead),
        false => format!(r#"{{"readings":[{reading}]}}"#),
    }
}

/// One connection; what is heard ends with it.
fn dial(habits: &Habits, account: &Account) -> (AsyncClient, UnboundedReceiver<Heard>, JoinSet<()>) {
    let address = if habits.tls { &account.tls } else { &account.plain };
    let (_, port) = address.rsplit_once(':').unwrap();
    let mut options = MqttOptions::new(account.id.clone(), ("localhost".to_owned(), port.parse().unwrap()));
    options.set_credentials(account.id.clone(), account.password.clone()).set_keep_alive(30).set_clean_start(true);
    if habits.tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Simple { ca: account.ca.clone(), alpn: None, client_auth: None }));
    }
    let (client, mut events) = AsyncClient::builder(options).capacity(2 * WINDOW).build();
    let (tell, heard) = unbounded_channel();
    let mut poller = JoinSet::new();
    poller.spawn(async move {
        loop {
            let heard = match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => Heard::Open,
                Ok(Event::Incoming(Packet::PubAck(_))) => Heard::Acked,
                Ok(_) => continue,
                Err(_) => return,
            };
            if tell.send(heard).is_err() {
                return;
            }
        }
    });
    (client, heard, poller)
}
