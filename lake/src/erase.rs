//! A patient is taken out of the lake: of every file of raw, of every table, and of every version.
//!
//! It promises that afterwards no file of `raw` or `curated` has the patient's id, a reading, a window, an alert, nor what the patient's devices sent
//! that was refused; and that everything else is as it was. A record of raw keeps its place and the time of its arrival, and becomes a tick, so that
//! a replay gives all others the same answer (P1). Killed on the way, it is done again from the beginning.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use journal::{Record, Topic};
use processor::lake as raw;
use schemas::{DeadLetter, DeviceId, EventTime, Input, PatientId};
use serde::Serialize;

use crate::compact::{RawEntry, Wanted, Work, read_ledger};
use crate::error::CuratedError;
use crate::file::sha256;
use crate::lake::Lake;
use crate::manifest::{self, AsOf, Manifest};
use crate::progress::Progress;
use crate::prune;
use crate::rows::{AlertRow, ReadingRow, WearRow, WindowRow};
use crate::tables::Table;

/// Who is taken out.
#[derive(Clone, Debug)]
pub struct Whom {
    pub patient: PatientId,
    /// Devices, and from when until when each was the patient's: what they sent and was refused goes as well.
    pub devices: Vec<(DeviceId, EventTime, Option<EventTime>)>,
}

/// What was touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Files of raw that were written again.
    pub raw_files: u64,
    /// Records in them that were emptied, by topic.
    pub raw_records: BTreeMap<String, u64>,
    /// Rows that went, by table.
    pub rows: BTreeMap<String, u64>,
    /// The version without the patient; `None`: there is no curated layer.
    pub version: Option<u64>,
    /// Versions that had the patient, or may have, and are gone.
    pub versions: Vec<u64>,
}

impl Erased {
    /// There was nothing of the patient.
    pub fn is_empty(&self) -> bool {
        self.raw_records.is_empty() && self.rows.is_empty()
    }
}

impl Whom {
    /// What a record becomes; `None`: it stays.
    fn without(&self, topic: Topic, record: &Record) -> Option<Record> {
        let emptied = || {
            // its place and its time decide when others' timers fire
            let value = if topic == Topic::Inputs { Input::Tick.encode() } else { Bytes::new() };
            Record { offset: record.offset, arrived_at: record.arrived_at, key: Bytes::new(), value }
        };
        match topic {
            Topic::DeadLetters => {
                let letter = DeadLetter::decode(&record.value).ok()?;
                let then = letter.stamped_at.unwrap_or(letter.received_at);
                let was = |(device, from, until): &(DeviceId, EventTime, Option<EventTime>)| {
                    device.as_str() == letter.device && [then, letter.received_at].iter().any(|at| *from <= *at && until.is_none_or(|until| *at < until))
                };
                self.devices.iter().any(was).then(emptied)
            }
            _ if record.key == self.patient.as_bytes() => Some(emptied()),
            // somebody else's reading that was taken for another's: it stays void, and says no longer whose it is
            Topic::Inputs => match Input::decode(&record.value).ok()? {
                Input::Void(mut void) if void.moved_to.as_ref() == Some(&self.patient) => {
                    void.moved_to = None;
                    Some(Record { value: Input::Void(void).encode(), ..record.clone() })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Blocking. With `dry`, only counts.
///
/// # Errors
/// When a file is not what it was when it was last read, or the lake cannot be written.
pub fn erase(lake: &Lake, whom: &Whom, wanted: &Wanted, dry: bool, progress: &Progress) -> Result<Erased, CuratedError> {
    let _held = lake.hold()?;
    let newest = match manifest::open(lake, &AsOf::Newest, Some(&wanted.installation)) {
        Ok(manifest) => Some(manifest),
        Err(CuratedError::NotCompacted) => None,
        Err(error) => return Err(error),
    };
    let mut ledger = Vec::new();
    for file in newest.iter().flat_map(|manifest| &manifest.ledgers) {
        ledger.extend(read_ledger(lake, file)?);
    }
    // whoever was killed on the way has left files that are not what they were, and this
    let halfway = if dry { lake.read(UNDER_WAY).is_ok() } else { !lake.create(UNDER_WAY, b"")? };
    let mut erased = Erased::default();
    raw_files(lake, whom, &ledger, Pass { dry, halfway }, &mut erased, progress)?;
    let done = || lake.objects().remove(UNDER_WAY).map_err(|error| lake.io(error));
    let Some(newest) = newest else {
        if !dry {
            done()?;
        }
        return Ok(erased);
    };
    let before = newest.version;
    let made = curated(lake, whom, wanted, newest, ledger, dry, &mut erased, progress)?;
    if dry {
        return Ok(erased);
    }
    // also when nothing was found: who was killed on the way has left the versions before
    let pruned = prune::without(lake, &prune::Keep { now: wanted.now, versions: 1, age: schemas::Micros::ZERO }, false)?;
    (erased.version, erased.versions) = (Some(made.unwrap_or(before)), pruned.versions);
    done()?;
    Ok(erased)
}

/// Is there from the first file that is changed until the last.
const UNDER_WAY: &str = "curated/erasing";

struct Pass {
    dry: bool,
    halfway: bool,
}

fn raw_files(lake: &Lake, whom: &Whom, ledger: &[RawEntry], pass: Pass, erased: &mut Erased, progress: &Progress) -> Result<(), CuratedError> {
    let known: BTreeMap<&str, &RawEntry> = ledger.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let objects = lake.objects();
    let mut all = Vec::new();
    for topic in Topic::ALL {
        for partition in raw::partitions(&**objects, topic).map_err(|error| lake.io(error))? {
            all.extend(raw::files(&**objects, topic, partition).map_err(|error| lake.io(error))?.into_iter().map(|file| (topic, file)));
        }
    }
    progress.expect(all.len() as u64);
    for (topic, file) in all {
        progress.go_on()?;
        let bytes = lake.read(&file.name).map_err(|error| lake.io(error))?;
        // what is written again gets a new digest: what was damaged before must not get one
        let ours = pass.halfway && raw::read_footer(objects, &file)?.emptied > 0;
        if let Some(entry) = known.get(file.name.as_str()).filter(|entry| !ours && entry.sha256 != sha256(&bytes)) {
            return Err(CuratedError::Damaged { name: entry.name.clone(), reason: "it is not what it was when it was read: the digest is another".to_owned() });
        }
        drop(bytes);
        let emptied = raw::rewrite(objects, topic, &file, pass.dry, |record| whom.without(topic, record)).map_err(|error| match error {
            raw::LakeError::Objects(source) => lake.io(source),
            error => error.into(),
        })?;
        if emptied > 0 {
            erased.raw_files += 1;
            *erased.raw_records.entry(raw::folder(topic).to_owned()).or_default() += emptied;
        }
        progress.done(1);
    }
    Ok(())
}

/// The number of the version that was made; `None`: there was nothing to change.
#[expect(clippy::too_many_arguments, reason = "one caller, just above")]
fn curated(
    lake: &Lake,
    whom: &Whom,
    wanted: &Wanted,
    newest: Manifest,
    mut ledger: Vec<RawEntry>,
    dry: bool,
    erased: &mut Erased,
    progress: &Progress,
) -> Result<Option<u64>, CuratedError> {
    let patient = &whom.patient;
    let version = newest.version;
    let mut work = Work::begin(lake, progress, wanted, Some(newest))?;
    let mut rows = BTreeMap::new();
    for table in [Table::Episodes, Table::Patients, Table::Assignments] {
        rows.insert(table, work.leave_out_small(table, patient, dry)?);
    }
    rows.insert(Table::Readings, work.leave_out::<ReadingRow>(patient, dry, |row| &row.patient)?);
    rows.insert(Table::Windows, work.leave_out::<WindowRow>(patient, dry, |row| &row.window.patient)?);
    rows.insert(Table::Alerts, work.leave_out::<AlertRow>(patient, dry, |row| &row.patient)?);
    rows.insert(Table::Wear, work.leave_out::<WearRow>(patient, dry, |row| &row.patient)?);
    let (voided, settings, mentioned) = work.forget(patient);
    rows.insert(Table::Voided, voided);
    rows.insert(Table::Settings, settings);
    rows.retain(|_, count| *count > 0);
    erased.rows = rows.into_iter().map(|(table, count)| (table.name().to_owned(), count)).collect();
    if dry {
        return Ok(None);
    }
    // the digests of raw as it is now
    let mut digests = false;
    let mut read = BTreeSet::new();
    for entry in &mut ledger {
        progress.go_on()?;
        if !read.insert(entry.name.clone()) {
            continue;
        }
        let bytes = lake.read(&entry.name).map_err(|error| lake.io(error))?;
        let digest = sha256(&bytes);
        if digest != entry.sha256 {
            (entry.sha256, entry.bytes, digests) = (digest, bytes.len() as u64, true);
        }
    }
    if erased.is_empty() && !digests && mentioned == 0 {
        return Ok(None);
    }
    work.relist(ledger);
    work.settle()?;
    let number = version + 1;
    let mut made = work.finish(number, &Wanted { store: None, ..wanted.clone() })?;
    made.publish(lake)?;
    Ok(Some(number))
}
