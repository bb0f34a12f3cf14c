//! What every page shows, in memory: people, their newest values, the alerts somebody may have to see, and who is to be told of a change.
//!
//! Writers (the follower, the watcher of the store) change it and mark what changed; one thread (see [`crate::deltas`]) turns the marks into
//! frames. Nothing here waits for anything.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use schemas::{AlertId, Arrived, DeviceId, EventTime, Metric, PatientId, Priority};
use store::episodes::{Episode, State as EpisodeState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::deltas::{Batch, Changed, Frame};
use crate::names;
use crate::people::{People, Person};
use crate::view::{Alert, OpenCounts, PatientRow, Reading, Ward};

/// Frames that may wait for a reader: at most 50 leave in a second, so a reader who stands still is cut after some 2 s and what its socket holds.
pub(crate) const QUEUE: usize = 128;
/// Streams at once, all readers together.
const STREAMS: usize = 512;
/// Alerts in a snapshot.
const ALERTS: usize = 500;

/// The newest values of one patient.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Newest {
    pub values: BTreeMap<Metric, Reading>,
    pub heard_at: Option<EventTime>,
    pub silent: bool,
}

/// What the follower found to have changed.
pub(crate) struct VitalsChange {
    pub patient: PatientId,
    /// `None`: its last reading was voided.
    pub values: Vec<(Metric, Option<Reading>)>,
    pub heard_at: Option<EventTime>,
    pub silent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub at: EventTime,
    /// What it measures is expected again before.
    pub fresh_until: EventTime,
}

/// What a patient's open alerts come to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Burden {
    pub open: u32,
    pub worst: Option<Priority>,
}

struct Reader {
    queue: mpsc::Sender<Arc<Frame>>,
    /// Ends the connection: a reader who does not read would not notice the end of the stream.
    cut: CancellationToken,
    /// Frames up to this one are in its snapshot.
    from: u64,
}

#[derive(Default)]
struct State {
    people: People,
    paused: BTreeSet<PatientId>,
    wards: Vec<store::wards::Ward>,
    newest: HashMap<PatientId, Arc<Newest>>,
    devices: HashMap<DeviceId, Heard>,
    alerts: BTreeMap<AlertId, Arc<Episode>>,
    of_patient: HashMap<PatientId, BTreeSet<AlertId>>,
    /// Bits are numbers of metrics; none: only what stands beside the values.
    changed: HashMap<PatientId, u32>,
    changed_alerts: BTreeSet<AlertId>,
    changed_counts: bool,
    /// Streams begin again with a snapshot: the patients or wards themselves changed.
    again: bool,
    readers: Vec<Reader>,
    frame: u64,
    closed: bool,
}

pub(crate) struct Hub {
    state: Mutex<State>,
    bell: Condvar,
    /// Of this server's life.
    pub epoch: String,
}

/// A moment of the hub, cheap to take; its rows are made outside of the lock.
pub(crate) struct Moment {
    pub frame: u64,
    rows: Vec<Shown>,
    alerts: Vec<(Arc<Episode>, Option<Arc<Person>>)>,
    pub wards: Vec<Ward>,
}

pub(crate) struct Shown {
    person: Arc<Person>,
    newest: Arc<Newest>,
    burden: Burden,
    paused: bool,
}

impl Shown {
    pub fn row(&self) -> PatientRow {
        PatientRow {
            id: self.person.id.clone(),
            name: self.person.name.reveal().clone(),
            born: self.person.born.reveal().clone(),
            sex: self.person.sex.to_string(),
            identifier: self.person.identifier.reveal().clone(),
            ward: self.person.ward.to_string(),
            monitored: self.person.monitored,
            paused: self.paused,
            values: self.newest.values.clone(),
            heard_at: self.newest.heard_at.map(Into::into),
            open_alerts: self.burden.open,
            worst: self.burden.worst.map(Into::into),
            silent: self.newest.silent,
        }
    }
}

impl Moment {
    pub fn rows(&self) -> Vec<PatientRow> {
        self.rows.iter().map(Shown::row).collect()
    }

    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.iter().map(|(episode, person)| Alert::new(episode, person.as_deref())).collect()
    }
}

/// Where a new stream reads.
pub(crate) struct Subscription {
    pub frames: mpsc::Receiver<Arc<Frame>>,
}

impl Hub {
    pub fn new() -> Self {
        Self { state: Mutex::default(), bell: Condvar::new(), epoch: store::secrets::random_id() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn vitals(&self, changes: Vec<VitalsChange>, devices: Vec<(DeviceId, Heard)>) {
        let mut state = self.lock();
        for change in changes {
            let state = &mut *state;
            let newest = Arc::make_mut(state.newest.entry(change.patient.clone()).or_default());
            let mut mask = 0;
            for (metric, value) in change.values {
                if newest.values.get(&metric) != value.as_ref() {
                    mask |= 1_u32 << metric.number();
                    match value {
                        Some(value) => newest.values.insert(metric, value),
                        None => newest.values.remove(&metric),
                    };
                }
            }
            let heard_at = newest.heard_at.max(change.heard_at);
            if mask != 0 || heard_at != newest.heard_at || newest.silent != change.silent {
                newest.heard_at = heard_at;
                newest.silent = change.silent;
                *state.changed.entry(change.patient).or_default() |= mask;
            }
        }
        for (device, heard) in devices {
            let known = state.devices.entry(device).or_insert(heard);
            known.at = known.at.max(heard.at);
            known.fresh_until = known.fresh_until.max(heard.fresh_until);
        }
        drop(state);
        self.bell.notify_one();
    }

    pub fn people(&self, people: People, now: EventTime) {
        let mut state = self.lock();
        let mut again = people.len() != state.people.len();
        let mut changed = Vec::new();
        for (id, person) in &people {
            match state.people.get(id) {
                Some(known) if known == person => {}
                Some(known) if known.same_but_for_settings(person) => changed.push(id.clone()),
                _ => again = true,
            }
        }
        for id in changed {
            state.changed.entry(id).or_default();
        }
        state.again |= again;
        state.changed_counts |= again;
        state.people = people;
        state.pauses(now);
        drop(state);
        self.bell.notify_one();
    }

    pub fn wards(&self, wards: Vec<store::wards::Ward>) {
        let mut state = self.lock();
        if state.wards != wards {
            state.wards = wards;
            state.again = true;
            drop(state);
            self.bell.notify_one();
        }
    }

    /// Pauses begin and end by themselves.
    pub fn tick(&self, now: EventTime) {
        if self.lock().pauses(now) {
            self.bell.notify_one();
        }
    }

    /// Episodes that are new or changed, and those that nobody need see any longer; each of the latter is told once more if it changed.
    pub fn alerts(&self, changed: Vec<Episode>, gone: &[AlertId]) {
        let mut state = self.lock();
        for episode in changed {
            let (alert, patient) = (episode.alert, episode.patient.clone());
            if state.alerts.get(&alert).is_some_and(|known| known.version >= episode.version) {
                continue;
            }
            state.of_patient.entry(patient.clone()).or_default().insert(alert);
            state.alerts.insert(alert, Arc::new(episode));
            state.changed.entry(patient).or_default();
            state.changed_alerts.insert(alert);
            state.changed_counts = true;
        }
        state.leave(gone);
        drop(state);
        self.bell.notify_one();
    }

    /// What is known, for comparison with the store.
    pub fn alert_versions(&self) -> HashMap<AlertId, u64> {
        self.lock().alerts.iter().map(|(alert, episode)| (*alert, episode.version)).collect()
    }

    pub fn engine_clock(&self) -> Option<Arrived> {
        self.lock().alerts.values().map(|episode| episode.heard_at).max()
    }

    pub fn moment(&self, ward: Option<&str>) -> Moment {
        let state = self.lock();
        let people = state.people.values().filter(|person| ward.is_none_or(|ward| *person.ward == *ward));
        let rows = people.map(|person| state.shown(person)).collect();
        let person = |episode: &Episode| state.people.get(&episode.patient).cloned();
        let mut alerts: Vec<_> = state.alerts.values().map(|episode| (episode.clone(), person(episode))).collect();
        alerts.retain(|(_, person)| ward.is_none_or(|ward| person.as_ref().is_some_and(|person| *person.ward == *ward)));
        let (frame, wards) = (state.frame, state.ward_views());
        drop(state);
        alerts.sort_by_cached_key(|(e, _)| urgency(e));
        // what alarms is shown whatever else there is
        let alarming = alerts.iter().take_while(|(e, _)| alarming(e)).count();
        alerts.truncate(ALERTS.max(alarming));
        Moment { frame, rows, alerts, wards }
    }

    pub fn ward_views(&self) -> Vec<Ward> {
        self.lock().ward_views()
    }

    pub fn shown(&self, patient: &PatientId) -> Option<Shown> {
        let state = self.lock();
        state.people.get(patient).map(|person| state.shown(person))
    }

    pub fn person(&self, patient: &PatientId) -> Option<Arc<Person>> {
        self.lock().people.get(patient).cloned()
    }

    pub fn heard(&self, device: &DeviceId) -> Option<Heard> {
        self.lock().devices.get(device).copied()
    }

    /// `None`: there are too many streams.
    pub fn subscribe(&self, cut: CancellationToken) -> Option<Subscription> {
        let (queue, frames) = mpsc::channel(QUEUE);
        let mut state = self.lock();
        state.readers.retain(|reader| !reader.queue.is_closed());
        if state.readers.len() >= STREAMS || state.closed {
            return None;
        }
        let from = state.frame;
        state.readers.push(Reader { queue, cut, from });
        Some(Subscription { frames })
    }

    /// Waits for a change; `None` once [`Hub::close`] was called.
    pub fn next_batch(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(batch) = state.take() {
                return Some(batch);
            }
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn publish(&self, frame: &Arc<Frame>) {
        self.lock().readers.retain(|reader| {
            if reader.from >= frame.number {
                return true;
            }
            match reader.queue.try_send(frame.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::info!("a stream's reader is too slow and is cut");
                    metrics::counter!(names::STREAMS_CUT).increment(1);
                    reader.cut.cancel();
                    false
                }
            }
        });
    }

    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.readers.clear();
        drop(state);
        self.bell.notify_all();
    }
}

/// What shows on every screen until somebody has it.
fn alarming(episode: &Episode) -> bool {
    episode.priority == Priority::High && !episode.technical && !episode.test && unacknowledged(episode)
}

/// The alarming first, then what is open, bodies before devices, what nobody has before what somebody has, the urgent before the rest.
fn urgency(episode: &Episode) -> impl Ord + use<> {
    let open = episode.state == EpisodeState::Open;
    (!alarming(episode), !open, episode.technical, episode.acknowledged.is_some(), Reverse(episode.priority), Reverse(episode.heard_at))
}

fn unacknowledged(episode: &Episode) -> bool {
    episode.acknowledged.is_none() && episode.state != EpisodeState::Withdrawn
}

impl State {
    fn shown(&self, person: &Arc<Person>) -> Shown {
        Shown {
            person: person.clone(),
            newest: self.newest.get(&person.id).cloned().unwrap_or_default(),
            burden: self.burden(&person.id),
            paused: self.paused.contains(&person.id),
        }
    }

    fn burden(&self, patient: &PatientId) -> Burden {
        let mut burden = Burden::default();
        for alert in self.of_patient.get(patient).into_iter().flatten() {
            let Some(episode) = self.alerts.get(alert).filter(|episode| !episode.test) else { continue };
            let open = episode.state == EpisodeState::Open;
            burden.open += u32::from(open);
            if !episode.technical && (open || unacknowledged(episode)) {
                burden.worst = burden.worst.max(Some(episode.priority));
            }
        }
        burden
    }

    fn ward_views(&self) -> Vec<Ward> {
        let mut views: BTreeMap<&str, Ward> = BTreeMap::new();
        for ward in &self.wards {
            let open = OpenCounts { high: 0, medium: 0, low: 0, technical: 0 };
            let view = Ward { id: ward.id.clone(), name: ward.name.clone(), timezone: ward.timezone.clone(), patients: 0, open, unacknowledged_high: 0 };
            views.insert(&ward.id, view);
        }
        for person in self.people.values() {
            if let Some(view) = views.get_mut(&*person.ward) {
                view.patients += 1;
            }
        }
        for episode in self.alerts.values().filter(|episode| !episode.test) {
            let Some(view) = self.people.get(&episode.patient).and_then(|person| views.get_mut(&*person.ward)) else { continue };
            if episode.state == EpisodeState::Open {
                let count = match (episode.technical, episode.priority) {
                    (true, _) => &mut view.open.technical,
                    (false, Priority::High) => &mut view.open.high,
                    (false, Priority::Medium) => &mut view.open.medium,
                    (false, Priority::Low) => &mut view.open.low,
                };
                *count += 1;
            }
            view.unacknowledged_high += u32::from(!episode.technical && episode.priority == Priority::High && unacknowledged(episode));
        }
        views.into_values().collect()
    }

    fn pauses(&mut self, now: EventTime) -> bool {
        let paused: BTreeSet<PatientId> = self.people.values().filter(|person| person.paused(now)).map(|person| person.id.clone()).collect();
        let flipped: Vec<PatientId> = paused.symmetric_difference(&self.paused).cloned().collect();
        self.paused = paused;
        let any = !flipped.is_empty();
        for patient in flipped {
            self.changed.entry(patient).or_default();
        }
        any
    }

    /// They stay until their last change was told.
    fn leave(&mut self, gone: &[AlertId]) {
        for alert in gone {
            if self.changed_alerts.contains(alert) {
                continue;
            }
            self.forget(alert);
        }
    }

    fn forget(&mut self, alert: &AlertId) {
        let Some(episode) = self.alerts.remove(alert) else { return };
        self.changed_counts = true;
        if let Some(alerts) = self.of_patient.get_mut(&episode.patient) {
            alerts.remove(alert);
        }
        self.changed.entry(episode.patient.clone()).or_default();
    }

    /// What is marked, and the marks are gone. Without readers nobody has to be told.
    fn take(&mut self) -> Option<Batch> {
        if self.changed.is_empty() && self.changed_alerts.is_empty() && !self.changed_counts && !self.again {
            return None;
        }
        let (changed, alerts) = (std::mem::take(&mut self.changed), std::mem::take(&mut self.changed_alerts));
        let (counts, again) = (std::mem::take(&mut self.changed_counts), std::mem::take(&mut self.again));
        self.readers.retain(|reader| !reader.queue.is_closed());
        if self.readers.is_empty() {
            return None;
        }
        self.frame += 1;
        let patients = changed.into_iter().filter_map(|(patient, mask)| {
            let shown = self.shown(self.people.get(&patient)?);
            Some(Changed { mask, shown })
        });
        let patients = patients.collect();
        let alerts = alerts.iter().filter_map(|alert| self.alerts.get(alert)).map(|episode| (episode.clone(), self.people.get(&episode.patient).cloned()));
        Some(Batch { number: self.frame, patients, alerts: alerts.collect(), wards: counts.then(|| self.ward_views()), again })
    }
}

impl Changed {
    pub fn person(&self) -> &Person {
        &self.shown.person
    }
    pub fn newest(&self) -> &Newest {
        &self.shown.newest
    }
    pub fn burden(&self) -> Burden {
        self.shown.burden
    }
    pub fn paused(&self) -> bool {
        self.shown.paused
    }
}
