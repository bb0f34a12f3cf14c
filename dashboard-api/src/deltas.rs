//! Changes on their way to the streams: marks are gathered into frames, each part is serialized once and shared by every stream that wants it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::Metric;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use store::episodes::Episode;

use crate::hub::{Hub, Newest, Shown};
use crate::people::Person;
use crate::view::{Alert, PriorityWord, Time, Ward};

/// The first change leaves at once; the next frame leaves this much later, so that a flood of changes becomes 50 frames a second.
const GAP: Duration = Duration::from_millis(20);

pub(crate) struct Changed {
    /// Bits are numbers of metrics.
    pub mask: u32,
    pub shown: Shown,
}

/// What was marked at one moment.
pub(crate) struct Batch {
    pub number: u64,
    pub patients: Vec<Changed>,
    pub alerts: Vec<(Arc<Episode>, Option<Arc<Person>>)>,
    pub wards: Option<Vec<Ward>>,
    pub again: bool,
}

/// A part of the body, and the ward that it belongs to.
struct Part {
    ward: Arc<str>,
    json: String,
}

/// A batch, serialized.
pub(crate) struct Frame {
    pub number: u64,
    /// Streams begin again with a snapshot.
    pub again: bool,
    patients: Vec<Part>,
    alerts: Vec<Part>,
    wards: Option<String>,
    bodies: Mutex<HashMap<Option<Arc<str>>, Option<Bytes>>>,
}

#[derive(Serialize)]
struct Delta<'a> {
    id: &'a str,
    values: Values<'a>,
    heard_at: Option<Time>,
    open_alerts: u32,
    worst: Option<PriorityWord>,
    silent: bool,
    monitored: bool,
    paused: bool,
}

struct Values<'a>(&'a Newest, u32);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for metric in Metric::ALL {
            if self.1 & (1 << metric.number()) != 0 {
                map.serialize_entry(metric.name(), &self.0.values.get(&metric))?;
            }
        }
        map.end()
    }
}

/// None of these types can fail to serialize; if one did, the stream would rather begin again than leave something out.
fn json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

impl Frame {
    pub fn new(batch: &Batch) -> Self {
        let patients: Vec<Option<Part>> = batch.patients.iter().map(patient).collect();
        let alerts: Vec<Option<Part>> = batch.alerts.iter().map(|(episode, person)| alert(episode, person.as_deref())).collect();
        let again = batch.again || patients.iter().chain(&alerts).any(Option::is_none);
        Self {
            number: batch.number,
            again,
            patients: patients.into_iter().flatten().collect(),
            alerts: alerts.into_iter().flatten().collect(),
            wards: batch.wards.as_ref().and_then(json),
            bodies: Mutex::default(),
        }
    }

    /// `"patients":[…],"alerts":[…]`, and `"wards":[…]` when counts changed: made once for each filter. `None`: nothing for this one.
    pub fn body(&self, ward: Option<&Arc<str>>) -> Option<Bytes> {
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.entry(ward.cloned()).or_insert_with(|| self.join(ward)).clone()
    }

    fn join(&self, ward: Option<&Arc<str>>) -> Option<Bytes> {
        let mine = |part: &&Part| ward.is_none_or(|ward| *part.ward == **ward);
        let mut body = String::from("\"patients\":[");
        let patients = join(&mut body, self.patients.iter().filter(mine));
        body += "],\"alerts\":[";
        let alerts = join(&mut body, self.alerts.iter().filter(mine));
        body.push(']');
        if let Some(wards) = &self.wards {
            body += ",\"wards\":";
            body += wards;
        }
        (patients + alerts > 0 || self.wards.is_some()).then(|| Bytes::from(body))
    }
}

fn join<'a>(body: &mut String, parts: impl Iterator<Item = &'a Part>) -> usize {
    let mut count = 0;
    for part in parts {
        if count > 0 {
            body.push(',');
        }
        body.push_str(&part.json);
        count += 1;
    }
    count
}

fn patient(changed: &Changed) -> Option<Part> {
    let (person, newest, burden) = (changed.person(), changed.newest(), changed.burden());
    let delta = Delta {
        id: person.id.as_str(),
        values: Values(newest, changed.mask),
        heard_at: newest.heard_at.map(Time),
        open_alerts: burden.open,
        worst: burden.worst.map(Into::into),
        silent: newest.silent,
        monitored: person.monitored,
        paused: changed.paused(),
    };
    Some(Part { ward: person.ward.clone(), json: json(&delta)? })
}

fn alert(episode: &Episode, person: Option<&Person>) -> Option<Part> {
    Some(Part { ward: person.map_or_else(|| "".into(), |person| person.ward.clone()), json: json(&Alert::new(episode, person))? })
}

/// The head of a delta event, up to where [`Frame::body`] goes on.
pub(crate) fn head(seq: u64, server_time: Time) -> String {
    format!("event: delta\ndata: {{\"seq\":{seq},\"server_time\":\"{}\",", server_time.0)
}

pub(crate) const TAIL: &[u8] = b"}\n\n";

/// Until the hub is closed; on a thread of its own.
pub(crate) fn publish(hub: &Hub) {
    while let Some(batch) = hub.next_batch() {
        let started = Instant::now();
        hub.publish(&Arc::new(Frame::new(&batch)));
        std::thread::sleep(GAP.saturating_sub(started.elapsed()));
    }
}
