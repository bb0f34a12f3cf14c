//! Whether channels reach anybody, asked from outside the role: by the configuration alone, or by a page that says it is a test.

use schemas::{AlertId, Arrived, Cause, EventTime, Offset, Partition, PatientId, Priority, RuleId};
use store::episodes::{Care, Episode, State};
use store::notifications::Notification;
use store::wards::Ward;

use crate::channels::Channels;
use crate::episode::{PAGE, notification};
use crate::{AlertsError, Config, text};

/// The channels of a configuration. It needs a rustls provider installed in the process, and connects to none until it is told to.
pub struct Reach {
    channels: Channels,
    dashboard_url: String,
}

impl Reach {
    pub fn new(config: &Config) -> Result<Self, AlertsError> {
        Ok(Self { channels: Channels::new(config)?, dashboard_url: config.dashboard_url.clone() })
    }

    /// Why no page can leave by this channel as the configuration stands; `None`: it can.
    pub fn fails(&self, channel: &str) -> Option<String> {
        let known = self.channels.names().iter().any(|name| name == channel);
        (!known).then(|| "no channel of this name is in the configuration".to_owned())
    }

    /// The channels of the configuration.
    pub fn names(&self) -> Vec<String> {
        self.channels.names()
    }

    /// Sends one page that says it is a test, and what the receiver answered. It stands in no store, and its link leads to no alert.
    pub async fn test(&self, channel: &str, now: EventTime) -> Result<Option<String>, String> {
        let alert = AlertId(rand::random());
        let (patient, rule) = (PatientId::parse("test"), RuleId::parse("vigil-test"));
        let (Ok(patient), Ok(rule)) = (patient, rule) else { return Err("the test has no name".to_owned()) };
        let episode = Episode {
            alert,
            patient,
            rule,
            rule_name: "This is a test. Nobody needs you.".to_owned(),
            priority: Priority::Low,
            state: State::Open,
            raised_at: now,
            heard_at: Arrived(now.0),
            since: now,
            cleared_at: None,
            summary: String::new(),
            evidence: Vec::new(),
            late: false,
            brief: false,
            technical: false,
            test: true,
            acknowledged: None,
            care: Care::default(),
            version: 0,
            partition: Partition(0),
            cause: Cause { offset: Offset(0), ordinal: 0 },
        };
        let page: Notification = notification(alert, PAGE, &format!("{alert}_test"), channel, now);
        let ward = Ward { id: "test".to_owned(), name: "TEST".to_owned(), timezone: "UTC".to_owned() };
        let message = text::message(&page, &episode, Some(&ward), &self.dashboard_url);
        self.channels.deliver(channel, &message).await.map_err(|failed| failed.why)
    }
}
