//! Compaction: each reading once, where it belongs, whatever was sent again, corrected, voided and moved, and however it was split.

use std::collections::BTreeMap;
use std::fs;

use lake::rows::{ReadingRow, VoidedRow, WearRow};
use lake::{AsOf, CuratedError, Keep, Lake, Progress, Table, manifest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{EventTime, Input, Metric, Micros, PatientId, ReadingId};

use crate::{INSTALLATION, Ward, random, reading, start, void};

type Key = (PatientId, ReadingId);

/// What must stand in readings, by the words of SEMANTICS 17 and 18, one input after the other.
fn model<'a>(log: impl Iterator<Item = &'a Input>) -> (BTreeMap<Key, (f64, u32)>, Vec<Key>) {
    let mut clean: BTreeMap<Key, (f64, u32)> = BTreeMap::new();
    let mut voided: BTreeMap<Key, Option<(f64, u32)>> = BTreeMap::new();
    for input in log {
        match input {
            Input::Reading(reading) => {
                let key = (reading.patient.clone(), reading.id);
                if let Some(held) = voided.get_mut(&key) {
                    held.get_or_insert((reading.value, 1));
                    continue;
                }
                let known = clean.entry(key).or_insert((reading.value, 1));
                if known.0.to_bits() != reading.value.to_bits() {
                    *known = (reading.value, known.1 + 1);
                }
            }
            Input::Void(void) => {
                let key = (void.patient.clone(), void.reading);
                if void.moved_to.as_ref() == Some(&void.patient) {
                    if let Some(Some(back)) = voided.remove(&key) {
                        clean.insert(key, back);
                    }
                } else {
                    let was = clean.remove(&key);
                    voided.entry(key).or_insert(was);
                }
            }
            _ => {}
        }
    }
    (clean, voided.into_iter().filter(|(_, reading)| reading.is_some()).map(|(key, _)| key).collect())
}

/// Five days of three patients; some of it late, again, corrected, voided first or afterwards, moved there and back.
pub fn log(ward: &mut Ward, random: &mut StdRng) {
    let mut sent = Vec::new();
    for step in 0..600 {
        let arrives = start() + Micros::minutes(step * 12);
        let patient = ["ada", "bob", "cyd"][random.random_range(0..3)];
        let metric = [Metric::Spo2, Metric::HeartRate][random.random_range(0..2)];
        let late = if random.random_range(0..5) == 0 { Micros::minutes(random.random_range(0..2880)) } else { Micros::ZERO };
        let one = reading(patient, metric, arrives - late, f64::from(random.random_range(80..100)));
        match random.random_range(0..12) {
            // the void is heard first
            0 => ward.arrives(arrives, Input::Void(void(&one, None))),
            1 if !sent.is_empty() => {
                let again: &schemas::Reading = &sent[random.random_range(0..sent.len())];
                ward.arrives(arrives, Input::Reading(again.clone()));
            }
            2 if !sent.is_empty() => {
                let mut other: schemas::Reading = sent[random.random_range(0..sent.len())].clone();
                other.value += 1.5;
                ward.arrives(arrives, Input::Reading(other));
            }
            3 if !sent.is_empty() => ward.arrives(arrives, Input::Void(void(&sent[random.random_range(0..sent.len())], None))),
            4 if !sent.is_empty() => {
                let mut moved = sent[random.random_range(0..sent.len())].clone();
                ward.arrives(arrives, Input::Void(void(&moved, Some("dan"))));
                if random.random_range(0..2) == 0 {
                    ward.arrives(arrives, Input::Void(void(&moved, Some(moved.patient.as_str()))));
                } else {
                    moved.patient = PatientId::parse("dan").unwrap();
                    ward.arrives(arrives, Input::Reading(moved));
                }
            }
            _ => {}
        }
        ward.arrives(arrives, Input::Reading(one.clone()));
        sent.push(one);
    }
}

fn readings(lake: &Lake) -> BTreeMap<Key, (f64, u32)> {
    let manifest = manifest::open(lake, &AsOf::Newest, None).unwrap();
    let rows: Vec<ReadingRow> = lake::read(lake, &manifest).unwrap();
    let by_key: BTreeMap<Key, (f64, u32)> = rows.iter().map(|row| ((row.patient.clone(), row.id), (row.value, row.versions))).collect();
    assert_eq!(by_key.len(), rows.len(), "each reading once");
    by_key
}

#[test]
fn each_reading_stands_once_however_the_log_was_split() {
    let mut random = random();
    let mut ward = Ward::default();
    log(&mut ward, &mut random);
    ward.archive();
    let (clean, voided) = model(ward.log());
    assert!(!voided.is_empty());
    let at_once = ward.compact();
    assert_eq!(readings(&ward.lake()), clean);
    let manifest = at_once.manifest.clone();
    let mut taken_out: Vec<Key> =
        lake::read::<VoidedRow>(&ward.lake(), &manifest).unwrap().into_iter().filter(|row| row.reading.is_some()).map(|row| (row.patient, row.id)).collect();
    taken_out.sort();
    assert_eq!(taken_out, voided);
    assert_eq!(ward.verified().findings, []);
    assert!(ward.compact().unchanged, "nothing new is no new version");

    // the same raw files one after the other
    let bits = Ward::default();
    let files = files(&ward);
    for file in &files {
        let to = bits.folder.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(ward.folder.path().join(file), to).unwrap();
        bits.compact();
    }
    assert!(files.len() > 10);
    assert_eq!(readings(&bits.lake()), clean);
    let verified = bits.verified();
    assert_eq!((verified.findings, verified.orphans), (vec![], 0));
    let newest = manifest::open(&bits.lake(), &AsOf::Newest, None).unwrap();
    assert_eq!(lake::read::<WearRow>(&bits.lake(), &newest).unwrap(), lake::read::<WearRow>(&ward.lake(), &manifest).unwrap());
    let sorted = |lake: &Lake, manifest| {
        let rows: Vec<ReadingRow> = lake::read(lake, manifest).unwrap();
        rows.into_iter().map(|row| (row.patient, row.at, row.metric, row.value.to_bits(), row.offset)).collect::<Vec<_>>()
    };
    let (one, many) = (sorted(&ward.lake(), &manifest), sorted(&bits.lake(), &newest));
    assert_eq!(one.len(), many.len());
    // anew from the beginning: the same again
    let again = lake::compact(&bits.lake(), &lake::Wanted { anew: true, ..bits.wanted() }, &Progress::default()).unwrap();
    assert_eq!(sorted(&bits.lake(), &again.manifest).len(), one.len());
    assert_eq!(bits.verified().findings, []);
}

/// In the order of arrival.
fn files(ward: &Ward) -> Vec<String> {
    let mut files = Vec::new();
    for date in ward.objects.list("raw/inputs").unwrap() {
        files.extend(ward.objects.list(&date).unwrap());
    }
    files
}

#[test]
fn late_is_what_came_behind_and_beyond_what_came_two_hours_behind() {
    let mut ward = Ward::default();
    let at = |minutes| start() + Micros::minutes(minutes);
    for minutes in [0, 180, 179, 60, 59] {
        ward.arrives(at(181), Input::Reading(reading("ada", Metric::Spo2, at(minutes), 95.0)));
    }
    ward.archive();
    ward.compact();
    let manifest = manifest::open(&ward.lake(), &AsOf::Newest, None).unwrap();
    let rows: Vec<ReadingRow> = lake::read(&ward.lake(), &manifest).unwrap();
    let flags: Vec<_> = rows.iter().map(|row| ((row.at - start()).as_seconds() / 60, row.late, row.beyond_horizon)).collect();
    // exactly the horizon late is inside
    assert_eq!(flags, [(0, false, false), (59, true, true), (60, true, false), (179, true, false), (180, false, false)]);
}

#[test]
fn old_versions_stay_until_they_are_pruned_and_settled_days_move_together() {
    let mut ward = Ward::default();
    for day in 0..8 {
        ward.arrives(start() + Micros::days(day), Input::Reading(reading("ada", Metric::Spo2, start() + Micros::days(day), 95.0)));
    }
    ward.archive();
    let first = ward.compact().manifest;
    let days = |manifest: &lake::Manifest| manifest.table(Table::Readings).iter().map(|file| file.days.len()).collect::<Vec<_>>();
    assert_eq!(days(&first), [5, 1, 1, 1], "settled days of a month are one file, newer days one each");
    // something late for a settled day: its file is written again, the version before keeps its own
    ward.arrives(start() + Micros::days(8), Input::Reading(reading("ada", Metric::Spo2, start() + Micros::minutes(1), 94.0)));
    ward.archive();
    let second = ward.compact().manifest;
    assert_eq!((second.version, second.rows(Table::Readings)), (2, 9));
    assert_eq!(manifest::open(&ward.lake(), &AsOf::Version(1), None).unwrap(), first);
    assert_eq!(lake::read::<ReadingRow>(&ward.lake(), &first).unwrap().len(), 8);
    assert_ne!(first.content, second.content);
    let keep = Keep { now: start() + Micros::days(1), versions: 1, age: Micros::hours(2) };
    let pruned = lake::prune(&ward.lake(), keep, false).unwrap();
    assert_eq!(pruned.versions, [1]);
    assert!(pruned.files > 1);
    assert_eq!(lake::read::<ReadingRow>(&ward.lake(), &second).unwrap().len(), 9);
    assert_eq!(ward.verified().findings, []);
    assert!(matches!(manifest::open(&ward.lake(), &AsOf::Version(1), None), Err(CuratedError::NoVersion(_))));
}

#[test]
fn verify_says_what_is_wrong() {
    let seed = random().random();
    let check = |break_it: &dyn Fn(&Ward), wanted: &str| {
        let mut ward = Ward::default();
        log(&mut ward, &mut StdRng::seed_from_u64(seed));
        ward.archive();
        ward.compact();
        assert_eq!(ward.verified().findings, []);
        break_it(&ward);
        let findings = ward.verified().findings;
        assert!(findings.iter().any(|finding| finding.wrong.contains(wanted) || finding.what.contains(wanted)), "{wanted}: {findings:?}");
    };
    let truncate = |ward: &Ward, name: &str| {
        let path = ward.folder.path().join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let flip = |ward: &Ward, name: &str| {
        let path = ward.folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    let data = |ward: &Ward| ward.compact().manifest.table(Table::Readings)[0].name.clone();
    let raw = |ward: &Ward| files(ward)[4].clone();
    check(&|ward| truncate(ward, &raw(ward)), "is damaged");
    check(&|ward| flip(ward, &raw(ward)), "the digest is another");
    check(&|ward| fs::remove_file(ward.folder.path().join(raw(ward))).unwrap(), "are in no file");
    check(&|ward| truncate(ward, &data(ward)), "its manifest says");
    check(&|ward| flip(ward, &data(ward)), "the digest is another");
    check(&|ward| fs::remove_file(ward.folder.path().join(data(ward))).unwrap(), "readings");
    check(&|ward| fs::write(ward.folder.path().join("curated/manifests/00000002.json"), "{\"format\": 9}").unwrap(), "is of format 9");
}

#[test]
fn a_lake_that_is_not_ours_or_is_held_is_refused() {
    let mut ward = Ward::default();
    assert!(matches!(Lake::open(ward.folder.path()), Err(CuratedError::Empty)));
    ward.arrives(start(), Input::Reading(reading("ada", Metric::Spo2, start(), 95.0)));
    ward.archive();
    assert!(matches!(manifest::open(&ward.lake(), &AsOf::Newest, None), Err(CuratedError::NotCompacted)));
    ward.compact();
    let other = lake::Wanted { installation: "other".to_owned(), ..ward.wanted() };
    let refused = lake::compact(&ward.lake(), &other, &Progress::default()).unwrap_err();
    assert!(matches!(&refused, CuratedError::OtherInstallation { found, .. } if found == INSTALLATION), "{refused}");
    let lock = fs::File::open(ward.folder.path().join("curated/lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(lake::compact(&ward.lake(), &ward.wanted(), &Progress::default()), Err(CuratedError::Busy)));
    drop(lock);
    ward.compact();
    assert!(matches!(manifest::open(&ward.lake(), &AsOf::Time(EventTime(0)), None), Err(CuratedError::NoVersion(_))));
}
