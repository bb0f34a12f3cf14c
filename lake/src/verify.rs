//! Whether the lake is what it says it is.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use journal::Topic;
use processor::lake as raw;
use schemas::{Input, Metric, Offset, Partition};
use serde::Serialize;

use crate::compact::{RawEntry, read_ledger};
use crate::error::CuratedError;
use crate::file::{DataFile, Opened, sha256};
use crate::lake::Lake;
use crate::manifest::{self, Manifest};
use crate::progress::Progress;
use crate::rows::{AlertRow, ReadingRow, VoidedRow, WearRow, WindowRow};
use crate::tables::Table;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file, or the topic and partition.
    pub what: String,
    pub wrong: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub raw_files: u64,
    pub raw_records: u64,
    pub versions: u64,
    pub files: u64,
    pub readings: u64,
    pub voided: u64,
    /// Files that no version names: a compaction was killed. `vigil lake prune` takes them away.
    pub orphans: u64,
    pub findings: Vec<Finding>,
}

impl Verified {
    fn wrong(&mut self, what: impl Into<String>, wrong: impl ToString) {
        self.findings.push(Finding { what: what.into(), wrong: wrong.to_string() });
    }
}

/// Reads everything, and says what is wrong. Blocking.
///
/// # Errors
/// When the lake cannot be listed, or it was cancelled. What is wrong with a file is no error but a finding.
pub fn verify(lake: &Lake, installation: Option<&str>, progress: &Progress) -> Result<Verified, CuratedError> {
    let mut verified = Verified::default();
    let mut seen = BTreeMap::new();
    for topic in Topic::ALL {
        for partition in raw::partitions(&**lake.objects(), topic).map_err(|error| lake.io(error))? {
            raw_files(lake, topic, partition, &mut seen, &mut verified, progress)?;
        }
    }
    let versions = manifest::versions(lake)?;
    let (mut named, mut sound, mut newest) = (BTreeSet::new(), BTreeSet::new(), None);
    for version in versions {
        verified.versions += 1;
        match Manifest::read(lake, version) {
            Ok(manifest) => {
                if let Some(wanted) = installation.filter(|wanted| *wanted != manifest.installation) {
                    verified.wrong(manifest.name(), format!("it is of installation {}, not of {wanted}", manifest.installation));
                }
                if manifest.content != manifest.hash() {
                    verified.wrong(manifest.name(), "its content hash is not that of the files it names");
                }
                for (table, contents) in &manifest.tables {
                    let Some(table) = Table::ALL.into_iter().find(|of| of.name() == table) else {
                        verified.wrong(manifest.name(), format!("it names a table `{table}` that this version of Vigil does not know"));
                        continue;
                    };
                    for file in &contents.files {
                        progress.go_on()?;
                        named.insert(file.name.clone());
                        if sound.insert((file.name.clone(), file.sha256.clone())) {
                            data_file(lake, table, file, &mut verified);
                        }
                    }
                }
                for ledger in &manifest.ledgers {
                    named.insert(ledger.name.clone());
                    if sound.insert((ledger.name.clone(), ledger.sha256.clone())) {
                        whole(lake, ledger, &mut verified);
                    }
                }
                newest = Some(manifest);
            }
            Err(error) => verified.wrong(format!("curated/manifests/{version:08}.json"), error),
        }
    }
    if let Some(manifest) = newest {
        against_raw(lake, &manifest, &seen, &mut verified);
        recount(lake, &manifest, &mut verified, progress)?;
    }
    for name in lake.walk("curated")? {
        if name.ends_with(".parquet") && !named.contains(&name) || name.starts_with("curated/raw/") && !named.contains(&name) {
            verified.orphans += 1;
        }
    }
    verified.findings.sort();
    verified.findings.dedup();
    Ok(verified)
}

type Seen = BTreeMap<String, (Offset, u64, String)>;

/// Each file of raw begins where the one before it ends, and holds offsets that rise within it.
fn raw_files(lake: &Lake, topic: Topic, partition: Partition, seen: &mut Seen, verified: &mut Verified, progress: &Progress) -> Result<(), CuratedError> {
    let objects = lake.objects();
    let mut expected: Option<Offset> = None;
    for file in raw::files(&**objects, topic, partition).map_err(|error| lake.io(error))? {
        progress.go_on()?;
        verified.raw_files += 1;
        let bytes = match objects.read(&file.name) {
            Ok(bytes) => bytes,
            Err(error) => {
                verified.wrong(&file.name, error);
                continue;
            }
        };
        let footer = match raw::read_footer(objects, &file) {
            Ok(footer) => footer,
            Err(error) => {
                verified.wrong(&file.name, error);
                expected = None;
                continue;
            }
        };
        seen.insert(file.name.clone(), (footer.next, bytes.len() as u64, sha256(&bytes)));
        match expected {
            Some(next) if file.first > next => {
                verified.wrong(&file.name, format!("offsets {next} to {} of {topic:?}, partition {partition}, are in no file", file.first))
            }
            Some(next) if file.first < next => {
                verified.wrong(&file.name, format!("offsets {} to {next} of {topic:?}, partition {partition}, are in two files", file.first))
            }
            _ => {}
        }
        expected = Some(footer.next);
        match raw::offsets(objects, &file) {
            Ok(offsets) => {
                verified.raw_records += offsets.len() as u64;
                let rising = offsets.windows(2).all(|pair| pair[0] < pair[1]);
                let inside = offsets.iter().all(|offset| (footer.first..footer.next).contains(offset));
                if !rising || !inside || offsets.last().is_some_and(|last| last.next() != footer.next) {
                    verified.wrong(&file.name, format!("its offsets are not those from {} to {} in order", footer.first, footer.next));
                }
            }
            Err(error) => verified.wrong(&file.name, error),
        }
    }
    Ok(())
}

fn whole(lake: &Lake, file: &DataFile, verified: &mut Verified) -> bool {
    verified.files += 1;
    match lake.read(&file.name) {
        Ok(bytes) if bytes.len() as u64 != file.bytes => {
            verified.wrong(&file.name, format!("it has {} bytes, its manifest says {}", bytes.len(), file.bytes));
            false
        }
        Ok(bytes) if sha256(&bytes) != file.sha256 => {
            verified.wrong(&file.name, "its bytes are not those that were written: the digest is another");
            false
        }
        Ok(_) => true,
        Err(error) => {
            verified.wrong(&file.name, error);
            false
        }
    }
}

fn data_file(lake: &Lake, table: Table, file: &DataFile, verified: &mut Verified) {
    if !whole(lake, file, verified) {
        return;
    }
    let counted = Opened::open(lake, table, &file.name).and_then(|open| {
        let groups = open.groups();
        open.batches(groups)?.map(|batch| batch.map(|batch| batch.num_rows() as u64)).sum::<Result<u64, _>>()
    });
    match counted {
        Ok(rows) if rows != file.rows => verified.wrong(&file.name, format!("it has {rows} rows, its manifest says {}", file.rows)),
        Ok(_) => {}
        Err(error) => verified.wrong(&file.name, error),
    }
}

/// What a compaction read is still there, and is what was read.
fn against_raw(lake: &Lake, manifest: &Manifest, seen: &Seen, verified: &mut Verified) {
    for ledger in &manifest.ledgers {
        let entries: Vec<RawEntry> = match read_ledger(lake, ledger) {
            Ok(entries) => entries,
            Err(error) => {
                verified.wrong(&ledger.name, error);
                continue;
            }
        };
        for entry in entries {
            match seen.get(&entry.name) {
                None => verified.wrong(&entry.name, "version says that it was read, and it is not there, or cannot be read"),
                Some((next, bytes, digest)) if (*next, *bytes, digest) != (entry.next, entry.bytes, &entry.sha256) => {
                    verified.wrong(&entry.name, "it is not what it was when it was read: the digest is another");
                }
                Some(_) => {}
            }
        }
    }
}

/// Distinct readings of raw, counted anew, against rows of curated.
fn recount(lake: &Lake, manifest: &Manifest, verified: &mut Verified, progress: &Progress) -> Result<(), CuratedError> {
    let mut in_raw = 0;
    for (partition, next) in manifest.raw.get(raw::folder(Topic::Inputs)).into_iter().flatten() {
        // ids are hashes: eight bytes of one and the patient's tell readings of one partition apart
        let mut known = HashSet::new();
        let first = raw::files(&**lake.objects(), Topic::Inputs, *partition).map_err(|error| lake.io(error))?.first().map(|file| file.first);
        let Some(first) = first else { continue };
        let records = match raw::records(lake.objects().clone(), Topic::Inputs, *partition, first) {
            Ok(records) => records,
            Err(_) => return Ok(()),
        };
        for piece in records {
            progress.go_on()?;
            // it was said of the file already
            let Ok(piece) = piece else { return Ok(()) };
            for record in piece.iter().filter(|record| record.offset < *next) {
                if let Ok(Input::Reading(reading)) = Input::decode(&record.value)
                    && reading.metric != Metric::Canary
                {
                    known.insert((reading.patient, reading.id.short(), crate::rows::date_of(reading.at)));
                }
            }
        }
        in_raw += known.len() as u64;
    }
    let mut voided = 0;
    for file in manifest.table(Table::Voided) {
        let rows = Opened::open(lake, Table::Voided, &file.name).and_then(|open| open.all::<VoidedRow>());
        voided += rows.map_or(0, |rows| rows.iter().filter(|row| row.reading.is_some()).count() as u64);
    }
    (verified.readings, verified.voided) = (manifest.rows(Table::Readings), voided);
    if in_raw != verified.readings + voided {
        let readings = verified.readings;
        verified.wrong(manifest.name(), format!("raw has {in_raw} distinct readings, curated {readings} and {voided} voided ones"));
    }
    once::<ReadingRow, _>(lake, manifest, verified, |row| (row.patient.clone(), row.id));
    once::<WindowRow, _>(lake, manifest, verified, |row| (row.partition, row.window.cause));
    once::<AlertRow, _>(lake, manifest, verified, |row| (row.partition, row.cause));
    once::<WearRow, _>(lake, manifest, verified, |row| (row.patient.clone(), row.metric, row.hour));
    Ok(())
}

/// No row stands twice in a day, and each stands in the day that it is of.
fn once<R: crate::rows::Dated, K: Eq + std::hash::Hash>(lake: &Lake, manifest: &Manifest, verified: &mut Verified, key: impl Fn(&R) -> K) {
    for file in manifest.table(R::TABLE) {
        let Ok(open) = Opened::open(lake, R::TABLE, &file.name) else { continue };
        let days: BTreeSet<_> = open.days().into_iter().map(|(_, day)| day).collect();
        for day in days {
            let Ok(rows) = open.day::<R>(day) else { continue };
            let mut known = HashSet::new();
            let twice = rows.iter().filter(|row| !known.insert(key(row))).count();
            if twice > 0 {
                verified.wrong(&file.name, format!("{twice} rows of {} stand twice", crate::rows::date_text(day)));
            }
            if rows.iter().any(|row| row.date() != day) || !rows.is_sorted_by(|a, b| R::order(a, b).is_le()) {
                verified.wrong(&file.name, format!("rows of {} are not in their day or not in order", crate::rows::date_text(day)));
            }
        }
    }
}
