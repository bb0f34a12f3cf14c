//! A patient is taken out: nothing of them is left in any file, everything else is as it was, and whoever is killed on the way comes to the same end.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::util::pretty::pretty_format_batches;
use lake::rows::{ReadingRow, SettingsRow, VoidedRow, WearRow};
use lake::{AsOf, CuratedError, Erased, Lake, Progress, Whom, manifest};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use processor::backtest::{self, Plan, Rules};
use processor::objects::{LocalObjects, Objects};
use rand::RngExt;
use schemas::{EventTime, Input, Micros, PatientId};

use crate::compaction::log;
use crate::{INSTALLATION, Ward, random, reading, start, void};

fn whom(patient: &str) -> Whom {
    Whom { patient: PatientId::parse(patient).unwrap(), devices: Vec::new() }
}

fn erase(ward: &Ward, lake: &Lake, patient: &str) -> Result<Erased, CuratedError> {
    lake::erase(lake, &whom(patient), &ward.wanted(), false, &Progress::default())
}

/// Every cell of every file, bytes as hexadecimal digits.
fn everything(lake: &Lake) -> String {
    let mut text = String::new();
    let mut folders = vec![lake.root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            text += path.to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap().build().unwrap();
                let batches: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
                text += &pretty_format_batches(&batches).unwrap().to_string();
            } else {
                text += &String::from_utf8_lossy(&fs::read(&path).unwrap());
            }
        }
    }
    text
}

/// An id that is found nowhere but where it is meant, as text and as bytes.
fn named(text: &str, patient: &str) -> bool {
    let hex: String = patient.bytes().map(|byte| format!("{byte:02x}")).collect();
    text.contains(patient) || text.contains(&hex)
}

type Others = (Vec<ReadingRow>, Vec<WearRow>, Vec<VoidedRow>, Vec<SettingsRow>);

/// What the newest version says of everybody else.
fn others(lake: &Lake, patient: &str) -> Others {
    let manifest = manifest::open(lake, &AsOf::Newest, None).unwrap();
    let (mut readings, mut wear) = (lake::read::<ReadingRow>(lake, &manifest).unwrap(), lake::read::<WearRow>(lake, &manifest).unwrap());
    let (mut voided, mut settings) = (lake::read::<VoidedRow>(lake, &manifest).unwrap(), lake::read::<SettingsRow>(lake, &manifest).unwrap());
    readings.retain(|row| row.patient.as_str() != patient);
    wear.retain(|row| row.patient.as_str() != patient);
    voided.retain(|row| row.patient.as_str() != patient);
    settings.retain(|row| row.patient.as_str() != patient);
    readings.sort_by_key(|row| (row.patient.clone(), row.id.0));
    for row in &mut voided {
        row.moved_to = row.moved_to.take().filter(|to| to.as_str() != patient);
    }
    (readings, wear, voided, settings)
}

fn alerts(ward: &Ward, without: &str) -> Vec<backtest::Alert> {
    let outcome =
        backtest::run(&ward.objects, &Plan::new(engine::Config::default()), &[Rules::Trial(engine::DEFAULT_RULES.to_owned())], &backtest::Progress::default());
    let mut alerts = outcome.unwrap().trials.remove(0).alerts;
    alerts.retain(|alert| alert.patient.as_str() != without);
    alerts
}

/// Ids that no other text has by chance; one of them gets others' readings, and gives some away.
fn ward(random: &mut rand::rngs::StdRng) -> Ward {
    let mut ward = Ward::default();
    log(&mut ward, random);
    let (mistaken, gone) = (reading("ada", schemas::Metric::Spo2, start() + Micros::minutes(7), 93.0), PatientId::parse("zz-gone-zz").unwrap());
    let at = |minutes| start() + Micros::days(5) + Micros::minutes(minutes);
    ward.arrives(at(1), Input::Reading(mistaken.clone()));
    ward.arrives(at(2), Input::Void(void(&mistaken, Some("zz-gone-zz"))));
    ward.arrives(at(3), Input::Reading(schemas::Reading { patient: gone, ..mistaken }));
    for step in 0..300 {
        // low enough to raise, so that others' ticks have somebody's timers beside them
        let one = reading("zz-gone-zz", schemas::Metric::Spo2, at(4 + step), if step > 100 { 80.0 } else { 96.0 });
        ward.arrives(at(4 + step), Input::Reading(one.clone()));
        if step % 50 == 0 {
            ward.arrives(at(4 + step), Input::Void(void(&one, None)));
        }
    }
    ward
}

#[test]
fn nothing_of_the_patient_is_left_and_all_else_is_as_it_was() {
    let mut random = random();
    let mut ward = ward(&mut random);
    ward.archive();
    ward.compact();
    let lake = ward.lake();
    assert!(named(&everything(&lake), "zz-gone-zz"));
    let (before, raised) = (others(&lake, "zz-gone-zz"), alerts(&ward, "zz-gone-zz"));
    assert!(alerts(&ward, "").iter().any(|alert| alert.patient.as_str() == "zz-gone-zz") && !raised.is_empty());

    let counted = lake::erase(&lake, &whom("zz-gone-zz"), &ward.wanted(), true, &Progress::default()).unwrap();
    assert!(named(&everything(&lake), "zz-gone-zz"), "counting changes nothing");
    let erased = erase(&ward, &lake, "zz-gone-zz").unwrap();
    assert_eq!((&erased.raw_records, &erased.rows), (&counted.raw_records, &counted.rows));
    assert_eq!(erased.raw_records["inputs"], 1 + 1 + 300 + 6, "and the void that says whose a reading is");
    assert_eq!((erased.rows["readings"], erased.rows["voided"]), (1 + 300 - 6, 6));
    assert_eq!((erased.version, &erased.versions[..]), (Some(2), &[1][..]));

    assert!(!named(&everything(&lake), "zz-gone-zz"), "not in any file");
    assert_eq!(others(&lake, "zz-gone-zz"), before);
    assert_eq!(ward.verified().findings, []);
    assert_eq!(alerts(&ward, "zz-gone-zz"), raised, "a replay gives everybody else the same answer");
    let again = erase(&ward, &lake, "zz-gone-zz").unwrap();
    assert!(again.is_empty() && again.version == Some(2) && again.versions.is_empty(), "{again:?}");

    // the lake goes on, and can be made again from what is left
    let later = start() + Micros::days(9);
    ward.arrives(later, Input::Reading(reading("bob", schemas::Metric::Spo2, later, 95.0)));
    ward.archive();
    assert_eq!(ward.compact().manifest.version, 3);
    let before = others(&lake, "zz-gone-zz");
    let anew = lake::compact(&lake, &lake::Wanted { anew: true, ..ward.wanted() }, &Progress::default()).unwrap();
    assert_eq!(anew.manifest.version, if anew.unchanged { 3 } else { 4 });
    assert_eq!(others(&lake, "zz-gone-zz"), before);
    assert_eq!(ward.verified().findings, []);
}

/// Refuses the n-th write and all that follow: a process that was killed, or a disk that is full.
struct Dying {
    objects: Arc<dyn Objects>,
    left: AtomicUsize,
}

impl Dying {
    fn write<T>(&self, write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() { write() } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl Objects for Dying {
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        self.write(|| self.objects.create(name, bytes))
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.objects.read(name)
    }
    fn size(&self, name: &str) -> io::Result<u64> {
        self.objects.size(name)
    }
    fn read_at(&self, name: &str, from: u64, length: usize) -> io::Result<Vec<u8>> {
        self.objects.read_at(name, from, length)
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.objects.list(prefix)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.write(|| self.objects.remove(name))
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(|| self.objects.replace(name, bytes))
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let into = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &into);
        } else {
            fs::copy(path, into).unwrap();
        }
    }
}

#[test]
fn who_is_stopped_at_any_write_comes_to_the_same_end() {
    let mut random = random();
    let ward = ward(&mut random);
    ward.archive();
    ward.compact();
    let mut stopped = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        copy(ward.folder.path(), folder.path());
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder.path()).unwrap());
        let dying = Lake::over(folder.path(), Arc::new(Dying { objects, left: AtomicUsize::new(stopped) }));
        let first = erase(&ward, &dying, "zz-gone-zz");
        let lake = Lake::open(folder.path()).unwrap();
        match first {
            Ok(_) => {
                assert!(stopped > 10, "it was stopped at {stopped} writes");
                return;
            }
            Err(error) => assert!(error.to_string().contains("free some space"), "{error}"),
        }
        erase(&ward, &lake, "zz-gone-zz").unwrap();
        assert!(!named(&everything(&lake), "zz-gone-zz"), "stopped after {stopped} writes");
        let verified = lake::verify(&lake, Some(INSTALLATION), &Progress::default()).unwrap();
        assert_eq!((verified.findings, verified.orphans), (Vec::new(), 0), "stopped after {stopped} writes");
        // each of the first, where one file follows the other, and some of the rest
        stopped += if stopped < 4 { 1 } else { random.random_range(1..6) };
    }
}

#[test]
fn what_was_damaged_gets_no_new_digest() {
    let mut random = random();
    let ward = ward(&mut random);
    ward.archive();
    ward.compact();
    let lake = ward.lake();
    let mut files: Vec<_> =
        fs::read_dir(lake.path("raw/inputs")).unwrap().flat_map(|date| fs::read_dir(date.unwrap().path()).unwrap()).map(|file| file.unwrap().path()).collect();
    files.sort();
    // a file without the patient, whole by its form, with other readings than were there
    let mut bytes = fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&files[0], &bytes).unwrap();
    let error = erase(&ward, &lake, "zz-gone-zz").unwrap_err().to_string();
    assert!(error.contains("raw/inputs") && error.contains("vigil lake verify"), "{error}");
    assert!(named(&everything_but(&lake, &files[0]), "zz-gone-zz"));
}

fn everything_but(lake: &Lake, damaged: &std::path::Path) -> String {
    fs::remove_file(damaged).unwrap();
    everything(lake)
}

#[test]
fn what_a_devices_messages_were_refused_for_goes_with_who_wore_it() {
    // dead letters stand under their device: those of the time in which it was the patient's
    let at = |text: &str| EventTime::parse(text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder.path()).unwrap());
    let letter = |device: &str, received: &str| schemas::DeadLetter {
        device: device.to_owned(),
        topic: "v1/devices/ox/vitals".to_owned(),
        reason: schemas::Reason::Malformed,
        detail: "no number".to_owned(),
        received_at: at(received),
        content_type: String::new(),
        entry: 0,
        metric: None,
        stamped_at: None,
        format: None,
        payload: bytes::Bytes::from_static(b"{}"),
    };
    let letters = [letter("ox-1", "2026-01-20T10:00:00Z"), letter("ox-1", "2026-01-20T12:00:00Z"), letter("ox-2", "2026-01-20T10:00:00Z")];
    let records: Vec<journal::Record> = letters
        .iter()
        .enumerate()
        .map(|(n, letter)| journal::Record {
            offset: schemas::Offset(n as i64),
            arrived_at: schemas::Arrived(letter.received_at.0),
            key: bytes::Bytes::copy_from_slice(letter.device.as_bytes()),
            value: letter.encode(),
        })
        .collect();
    processor::lake::write(&objects, journal::Topic::DeadLetters, schemas::Partition(0), &records).unwrap();
    let lake = Lake::open(folder.path()).unwrap();
    let device = schemas::DeviceId::parse("ox-1").unwrap();
    let whom = Whom { devices: vec![(device, at("2026-01-20T11:00:00Z"), Some(at("2026-01-21T00:00:00Z")))], ..whom("zz-gone-zz") };
    let wanted = lake::Wanted { installation: INSTALLATION.to_owned(), ..lake::Wanted::default() };
    let erased = lake::erase(&lake, &whom, &wanted, false, &Progress::default()).unwrap();
    assert_eq!(erased.raw_records, [("dead-letters".to_owned(), 1)].into());
    let left: Vec<_> =
        processor::lake::records(objects, journal::Topic::DeadLetters, schemas::Partition(0), schemas::Offset(0)).unwrap().flat_map(Result::unwrap).collect();
    assert_eq!(left.iter().map(|record| record.value.is_empty()).collect::<Vec<_>>(), [false, true, false]);
}
