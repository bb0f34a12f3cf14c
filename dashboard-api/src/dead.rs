//! The newest dead letters, followed: what was refused and why. The reason may quote a value that cannot be; the message itself is not shown.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use journal::{Event, Journal, Mode, Start, Topic};
use schemas::{DeadLetter, EventTime, Format, Metric, Offset, Partition, Reason};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::follower::{FollowError, again_and_again};
use crate::messages::Messages;
use crate::view::Time;

/// How many are kept.
pub(crate) const KEPT: usize = 1000;

#[derive(Clone, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(crate) struct DeadView {
    pub partition: u32,
    pub offset: i64,
    /// Under which it connected.
    pub device: String,
    pub topic: String,
    #[schema(example = "unassigned")]
    pub reason: &'static str,
    /// What is wrong and what to change.
    pub detail: String,
    pub received_at: Time,
    /// Which entry of the message, from 0.
    pub entry: u32,
    #[schema(value_type = Option<String>, required = true)]
    pub metric: Option<Metric>,
    /// `json`, `senml`, `senml-cbor`, `omh`, `fhir`, `mapping`; null when the topic names none.
    #[schema(required = true)]
    pub format: Option<&'static str>,
    /// The size of what was sent.
    pub bytes: usize,
}

#[derive(Default)]
struct State {
    /// By time, so that the oldest gives way.
    kept: BTreeMap<(EventTime, Partition, Offset), DeadView>,
    next: BTreeMap<Partition, Offset>,
}

pub(crate) struct DeadLetters {
    journal: Arc<dyn Journal>,
    messages: Arc<Messages>,
    state: Mutex<State>,
}

impl DeadLetters {
    pub fn new(journal: Arc<dyn Journal>, messages: Arc<Messages>) -> Self {
        Self { journal, messages, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Newest first, and how many of each reason are kept.
    pub fn newest(&self, reason: Option<Reason>, device: Option<&str>, limit: usize) -> (Vec<DeadView>, BTreeMap<&'static str, u32>) {
        let state = self.lock();
        let mut counts = BTreeMap::new();
        for letter in state.kept.values() {
            *counts.entry(letter.reason).or_default() += 1;
        }
        let wanted = |letter: &&DeadView| reason.is_none_or(|reason| letter.reason == reason.as_str()) && device.is_none_or(|device| letter.device == device);
        (state.kept.values().rev().filter(wanted).take(limit).cloned().collect(), counts)
    }

    pub async fn run(&self, stop: &CancellationToken) -> Result<(), FollowError> {
        again_and_again("the topic of dead letters", stop, || self.follow()).await
    }

    async fn follow(&self) -> Result<Infallible, FollowError> {
        let mut reader = self.journal.reader(Topic::DeadLetters, Mode::Follow)?;
        loop {
            match reader.next().await? {
                Event::Assigned { partition, .. } => {
                    let known = self.lock().next.get(&partition).copied();
                    let from = match known {
                        Some(next) => next,
                        None => {
                            let range = self.journal.range(Topic::DeadLetters, partition).await?;
                            Offset(range.next.0 - KEPT as i64).max(range.earliest)
                        }
                    };
                    reader.start(partition, Start::At(from));
                }
                Event::Batch { partition, records, .. } => {
                    let mut state = self.lock();
                    for record in records {
                        state.next.insert(partition, record.offset.next());
                        match DeadLetter::decode(&record.value) {
                            Ok(letter) => self.messages.refused(state.keep(partition, record.offset, letter)),
                            Err(error) => tracing::error!(%partition, offset = %record.offset, %error, "a dead letter cannot be read and is not shown"),
                        }
                    }
                }
                Event::OutOfRange { partition, earliest, .. } => reader.start(partition, Start::At(earliest)),
                Event::Revoked { .. } => {}
            }
        }
    }
}

impl State {
    fn keep(&mut self, partition: Partition, offset: Offset, letter: DeadLetter) -> &DeadView {
        while self.kept.len() >= KEPT {
            self.kept.pop_first();
        }
        let at = letter.received_at;
        let view = DeadView {
            partition: partition.0,
            offset: offset.0,
            device: letter.device,
            topic: letter.topic,
            reason: letter.reason.as_str(),
            detail: letter.detail,
            received_at: letter.received_at.into(),
            entry: letter.entry,
            metric: letter.metric,
            format: letter.format.map(Format::as_str),
            bytes: letter.payload.len(),
        };
        self.kept.entry((at, partition, offset)).or_insert(view)
    }
}
