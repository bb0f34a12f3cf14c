//! The gateway that the device meets: the real one, on a journal that lasts as long as the run, for this device alone.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use ingest::{Config, Gateway, Onlooker, Published, Sight};
use intake::{Decided, Mappings};
use journal::AppendError;
use journal::memory::MemoryJournal;
use schemas::{ClockState, DeviceId, EventTime, Input, PatientId, Reading};
use store::Store;
use store::registry::{Assignment, RegistryView};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Examiner;
use super::seen::{Connected, Entry, Mark, Message, Seen};
use crate::installation::{micros, now};

/// Who wears the device during the run. Nothing of it is kept.
const NOBODY: &str = "certify";
/// Characters of a client id that are shown.
const SHOWN: usize = 64;
/// After an accept that failed.
const BREATH: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct Examined(Arc<Mutex<Examiner>>);

impl Examined {
    pub fn new(examiner: Examiner) -> Self {
        Self(Arc::new(Mutex::new(examiner)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Examiner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Stage {
    config: Config,
    journal: MemoryJournal,
    store: Store,
    examined: Examined,
    device: DeviceId,
    running: Option<(CancellationToken, JoinHandle<Result<(), ingest::GatewayError>>)>,
    away: JoinSet<()>,
}

impl Stage {
    /// Binds and serves. From then on the addresses of `config` are those that were bound.
    pub async fn open(mut config: Config, store: Store, device: DeviceId, examined: Examined) -> anyhow::Result<Self> {
        let patient = PatientId::parse(NOBODY)?;
        config.onlooker = Some(Arc::new(Ear { device: device.clone(), patient, mappings: config.mappings.clone(), examined: examined.clone() }));
        let mut stage = Self { config, journal: MemoryJournal::new(1), store, examined, device, running: None, away: JoinSet::new() };
        stage.serve().await?;
        Ok(stage)
    }

    pub fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        (self.config.listen, self.config.tls.as_ref().map(|tls| tls.listen))
    }

    async fn serve(&mut self) -> anyhow::Result<()> {
        let bound = Gateway::bind(self.config.clone(), Arc::new(self.journal.clone()), self.store.clone()).await;
        let gateway = bound.context("is `vigil serve` running? --listen and --listen-tls name other addresses for this run")?;
        self.config.listen = gateway.address();
        if let (Some(tls), Some(bound)) = (&mut self.config.tls, gateway.tls_address()) {
            tls.listen = bound;
        }
        let stop = CancellationToken::new();
        self.running = Some((stop.clone(), tokio::spawn(gateway.run(stop))));
        Ok(())
    }

    /// The next message is not stored: its PUBACK does not leave, and its connection ends.
    pub fn lose_puback(&self) {
        self.journal.fail_next(AppendError::Failed("withheld, to see whether the device sends again".into()));
    }

    /// Ends the gateway. Whoever connects from now on is counted, and cut off.
    pub async fn go_away(&mut self) -> anyhow::Result<()> {
        self.end().await?;
        let (plain, tls) = self.addresses();
        for (address, tls) in plain.map(|address| (address, false)).into_iter().chain(tls.map(|address| (address, true))) {
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot hold {address} while the gateway is away"))?;
            let examined = self.examined.clone();
            self.away.spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok(_) => examined.lock().see(0, now(), Seen::Arrived { tls }),
                        Err(error) => {
                            tracing::debug!(%error, "a connection could not be accepted");
                            tokio::time::sleep(BREATH).await;
                        }
                    }
                }
            });
        }
        self.examined.lock().went(now());
        Ok(())
    }

    pub async fn come_back(&mut self) -> anyhow::Result<()> {
        self.away.shutdown().await;
        // before anybody can connect
        self.examined.lock().came(now());
        self.serve().await
    }

    pub async fn end(&mut self) -> anyhow::Result<()> {
        if let Some((stop, gateway)) = self.running.take() {
            stop.cancel();
            gateway.await.with_context(|| format!("the gateway for {}", self.device))??;
        }
        Ok(())
    }
}

/// Tells the examiner what the gateway sees.
#[derive(Debug)]
struct Ear {
    device: DeviceId,
    patient: PatientId,
    mappings: Mappings,
    examined: Examined,
}

impl std::fmt::Debug for Examined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Examined")
    }
}

impl Onlooker for Ear {
    /// The device and those behind it, whoever wears them: a run needs no patient, and touches none.
    fn registry(&self, whole: RegistryView) -> RegistryView {
        let RegistryView { version, mut devices, mut credentials, .. } = whole;
        devices.retain(|device| device.id == self.device || device.hub.as_ref() == Some(&self.device));
        credentials.retain(|credential| credential.device == self.device);
        let worn = |device: DeviceId| Assignment { device, patient: self.patient.clone(), from: EventTime::MIN, until: None };
        let assignments = devices.iter().map(|device| worn(device.id.clone())).collect();
        RegistryView { version, devices, credentials, assignments }
    }

    fn see(&self, connection: u64, sight: Sight<'_>) {
        let seen = match sight {
            Sight::Arrived { tls } => Seen::Arrived { tls },
            Sight::Stranger { detail } => Seen::Stranger { detail },
            Sight::Refused { user, detail } => Seen::Refused { own_name: user.is_empty() || user == self.device.as_str(), detail },
            Sight::Connected(greeting) => Seen::Connected(Connected {
                mqtt_5: greeting.mqtt_5,
                client: (!greeting.assigned).then(|| greeting.client.chars().take(SHOWN).collect()),
                keep_alive: greeting.keep_alive.map(micros),
                certificate: greeting.certificate,
            }),
            Sight::Published(published) => Seen::Published(self.message(&published)),
            Sight::Acknowledged => Seen::Acknowledged,
            Sight::Subscribed => Seen::Subscribed,
            Sight::Pinged => Seen::Pinged,
            Sight::Ended { reason, detail } => Seen::Ended { reason, detail },
        };
        self.examined.lock().see(connection, now(), seen);
    }
}

impl Ear {
    fn message(&self, published: &Published<'_>) -> Message {
        let Published { qos, dup, topic, content_type, payload, received_at, decided } = *published;
        let about = intake::Message { connection: &self.device, topic, payload, content_type, dup, received_at };
        let envelope = intake::envelope(&about, &self.mappings);
        let mut hasher = DefaultHasher::new();
        (topic, payload).hash(&mut hasher);
        Message {
            qos,
            dup,
            digest: hasher.finish(),
            received_at,
            may_be_stamped: envelope.as_ref().is_some_and(|envelope| envelope.may_be_stamped),
            sent_at: envelope.as_ref().and_then(|envelope| envelope.sent_at),
            boot: envelope.as_ref().and_then(|envelope| envelope.boot),
            format: envelope.map(|envelope| envelope.format),
            entries: decided.iter().map(entry).collect(),
        }
    }
}

fn entry(decided: &Decided) -> Entry {
    match decided {
        Decided::Input(_, Input::Reading(reading)) => Entry { mark: mark(reading), value: reading.value_as_sent.to_bits(), refused: None },
        Decided::Input(..) => Entry { mark: None, value: 0, refused: None },
        Decided::Dead(dead) => Entry {
            mark: dead.stamped_at.map(|stamped_at| Mark { metric: dead.metric, stamped_at, boot: None }),
            value: 0,
            refused: Some((dead.reason, masked(&dead.detail))),
        },
    }
}

/// A refusal's words without the numbers that were refused; what was expected stands behind the semicolon.
fn masked(detail: &str) -> String {
    let (refused, expected) = detail.split_at(detail.find(';').unwrap_or(detail.len()));
    let number = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).parse::<f64>().is_ok();
    let words: Vec<&str> = refused.split(' ').map(|word| if number(word) { "…" } else { word }).collect();
    words.join(" ") + expected
}

fn mark(reading: &Reading) -> Option<Mark> {
    let stamped = reading.clock != ClockState::Unstamped;
    stamped.then_some(Mark { metric: Some(reading.metric), stamped_at: reading.stamped_at, boot: reading.boot })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_without_the_number_that_was_refused() {
        for (said, shown) in [
            ("unit_mismatch: spo2 0.96; expected % between 0 and 100", "unit_mismatch: spo2 …; expected % between 0 and 100"),
            ("implausible: heart_rate -3e2 /min", "implausible: heart_rate … /min"),
            ("not_a_number: `97`, (97.5)", "not_a_number: … …"),
            ("unknown_metric: `spo` is no metric; did you mean `spo2`?", "unknown_metric: `spo` is no metric; did you mean `spo2`?"),
        ] {
            assert_eq!(masked(said), shown);
        }
    }
}
