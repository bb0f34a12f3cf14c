//! What every client of Kafka here has in common: its configuration, and what is said when it has trouble.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::KafkaConfig;

/// A client without a broker complains several times a second: once in this time is enough.
const SAID_EVERY: Duration = Duration::from_secs(30);

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How to reach and to trust the brokers, and how much at once. librdkafka has several names for many of its properties, so what may be
/// set is listed, not what may not.
const ADJUSTABLE: [&str; 17] = [
    "security.",
    "sasl.",
    "ssl.",
    "enable.ssl.",
    "https.",
    "socket.",
    "broker.address.",
    "client.",
    "reconnect.",
    "retry.backoff.",
    "connections.",
    "topic.metadata.",
    "metadata.max.",
    "compression.",
    "fetch.",
    "log.",
    "debug",
];

/// The first property that a promise could rest on.
pub fn not_adjustable(config: &KafkaConfig) -> Option<&str> {
    config.properties.iter().map(|(key, _)| key.as_str()).find(|key| !ADJUSTABLE.iter().any(|prefix| key.starts_with(prefix)))
}

pub fn base(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("client.id", format!("vigil-{}", config.installation))
        .set("socket.keepalive.enable", "true")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("reconnect.backoff.max.ms", "1000");
    for (key, value) in &config.properties {
        client.set(key, value);
    }
    client.set("bootstrap.servers", &config.bootstrap).set("allow.auto.create.topics", "false");
    client.set_log_level(RDKafkaLogLevel::Warning);
    client
}

/// Hears the troubles of one client.
#[derive(Debug)]
pub struct Watch {
    client: &'static str,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    said: Option<Instant>,
    trouble: Option<String>,
}

impl Watch {
    pub fn new(client: &'static str) -> Self {
        Self { client, heard: Mutex::default() }
    }

    /// What the client complained of last.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.heard).trouble.clone()
    }

    pub fn say(&self, text: &str) {
        let mut heard = lock(&self.heard);
        heard.trouble = Some(text.to_owned());
        if heard.said.is_none_or(|said| said.elapsed() > SAID_EVERY) {
            heard.said = Some(Instant::now());
            tracing::warn!(client = self.client, reason = text, "trouble with kafka");
        } else {
            tracing::debug!(client = self.client, reason = text, "trouble with kafka");
        }
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            // librdkafka says so when a client can do nothing any more
            RDKafkaLogLevel::Emerg => tracing::error!(client = self.client, reason = text, "the client of kafka failed for good: restart this process"),
            RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => self.say(text),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(client = self.client, facility, "{text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // the first is told to the reader as an event of its own; the second hides why
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::AllBrokersDown) => {}
            _ => self.say(reason),
        }
    }
}

impl ConsumerContext for Watch {}
