//! What a device may send, what becomes of it, and what it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod corpus;
mod envelope;
mod fhir;
mod hostile;
mod mappings;
mod openmhealth;
mod senml;
mod vigil;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use intake::{Assigned, Decided, DeviceClock, Explained, Format, Known, Mappings, Message, Registry, decode, explain};
use schemas::{DeviceId, EventTime, Input, Micros, PatientId, Reading};

static MAPPINGS: LazyLock<Mappings> = LazyLock::new(|| Mappings::shipped().unwrap());

const NOW: EventTime = EventTime(1_795_168_800_000_000);

fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

fn registry() -> Registry {
    let known =
        |id: &str, hub: Option<&str>| Known { device: device(id), test: false, hub: hub.map(device), revoked: id == "lost", min_time: NOW - Micros::days(30) };
    let worn = |id: &str, patient: &str, from: i64, until: Option<i64>| Assigned {
        device: device(id),
        patient: PatientId::parse(patient).unwrap(),
        from: NOW + Micros::minutes(from),
        until: until.map(|until| NOW + Micros::minutes(until)),
    };
    Registry::new(
        [known("ox", None), known("cuff", Some("hub")), known("hub", None), known("spare", None), known("lost", None)],
        [worn("ox", "ada", -60 * 24 * 20, Some(-60)), worn("ox", "uwe", -60, None), worn("cuff", "ada", -60, None), worn("lost", "ada", -60, None)],
    )
}

struct Sender {
    clock: DeviceClock,
    received_at: EventTime,
    dup: bool,
}

impl Sender {
    fn new() -> Self {
        Self { clock: DeviceClock::default(), received_at: NOW, dup: false }
    }
    fn send(&mut self, connection: &str, topic: &str, payload: &str) -> Vec<Decided> {
        self.send_typed(connection, topic, "", payload.as_bytes())
    }
    fn send_typed(&mut self, connection: &str, topic: &str, content_type: &str, payload: &[u8]) -> Vec<Decided> {
        let payload = Bytes::copy_from_slice(payload);
        let message = Message { connection: &device(connection), topic, payload: &payload, content_type, dup: self.dup, received_at: self.received_at };
        decode(&message, &registry(), &MAPPINGS, &mut self.clock)
    }
}

fn send(payload: &str) -> Vec<Decided> {
    Sender::new().send("ox", "v1/devices/ox/vitals", payload)
}

#[track_caller]
fn readings(decided: Vec<Decided>) -> Vec<Reading> {
    decided
        .into_iter()
        .map(|decided| match decided {
            Decided::Input(patient, Input::Reading(reading)) => {
                assert_eq!(patient, reading.patient);
                reading
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

/// The dead letter's words, or `ok`.
fn words(decided: &[Decided]) -> Vec<String> {
    decided.iter().map(|d| if let Decided::Dead(dead) = d { dead.detail.clone() } else { "ok".to_owned() }).collect()
}

/// What `explain` shows, a line an entry.
fn shown(payload: &[u8], format: Format<'_>) -> Vec<String> {
    explain(payload, format, NOW).iter().map(ToString::to_string).collect()
}

/// How many entries would be stored, and how many would not.
fn counted(explained: &[Explained]) -> (usize, usize) {
    let stored = explained.iter().filter(|explained| explained.outcome.is_ok()).count();
    (stored, explained.len() - stored)
}

#[track_caller]
fn check(format: &str, cases: &[(&str, &[&str])]) {
    let format = Format::named(format).unwrap_or_else(|| Format::Mapped(MAPPINGS.named(format).unwrap()));
    for (payload, says) in cases {
        let said = shown(payload.as_bytes(), format);
        assert!(said.len() == says.len() && said.iter().zip(*says).all(|(said, says)| said.starts_with(says)), "{payload}:\n{said:#?}\n{says:#?}");
    }
}

/// Data that was not written for Vigil, when it is there.
#[allow(clippy::print_stderr)]
fn shared(folder: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("VIGIL_TEST_SHARED").map_or(beside, PathBuf::from).join("data").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: no {}; VIGIL_TEST_SHARED names the folder that holds data/{folder}", path.display());
    None
}
