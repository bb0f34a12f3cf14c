//! Exports: the same rows whatever they are written as, nobody's identity where none should be, and the same bytes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lake::export::{Cohort, Every, Form, Gaps, Profile, ProjectKey, Request, Through, known, prepare};
use lake::rows::{AssignmentRow, EpisodeRow, PatientRow, date_of};
use lake::{AsOf, CuratedError, FromStore, Limits, Progress, QueryError, Shape, Table, Wanted, compact, manifest, query};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::RngExt;
use schemas::{DeviceId, EventTime, Input, Metric, Micros, PatientId, Pause, Reading, ReadingId, Settings};

use crate::{Ward, random, reading, start, void};

const SHAPES: [Shape; 4] = [Shape::Parquet, Shape::Csv, Shape::Ndjson, Shape::Arrow];

/// One word for each of the categories of 45 CFR 164.514(b)(2)(i), A to R, wherever the lake has room for what people or devices say.
const NAME: &str = "OkaforAda";
const PLACE: &str = "Elm-Street-7";
const DATE: &str = "1945-07-14";
const PHONE: &str = "+4917055500";
const FAX: &str = "+4917055511";
const MAIL: &str = "ada@example.org";
const SOCIAL: &str = "078-05-1120";
const RECORD: &str = "mrn-8841907";
const PLAN: &str = "plan-5521";
const ACCOUNT: &str = "acct-99120";
const LICENCE: &str = "licence-K42";
const VEHICLE: &str = "vin-WBA77";
const SERIAL: &str = "serial-00451177";
const URL: &str = "https://ada.example";
const ADDRESS: &str = "203.0.113.77";
const BIOMETRIC: &str = "voiceprint-77";
const PHOTO: &str = "face.jpg";
const OTHER: &str = "study-code-12";
const CANARIES: [&str; 18] =
    [NAME, PLACE, DATE, PHONE, FAX, MAIL, SOCIAL, RECORD, PLAN, ACCOUNT, LICENCE, VEHICLE, SERIAL, URL, ADDRESS, BIOMETRIC, PHOTO, OTHER];

/// A ward that has them all.
fn ward() -> (Ward, Wanted) {
    let mut ward = Ward::default();
    let device = DeviceId::parse(SERIAL).unwrap();
    for n in 0..30_i64 {
        let at = start() + Micros::minutes(37 * n);
        let one =
            Reading { device: device.clone(), id: ReadingId::new(&device, Metric::Spo2, at, None), ..reading(RECORD, Metric::Spo2, at, 90.0 + (n % 7) as f64) };
        ward.arrives(at, Input::Reading(one.clone()));
        if n == 11 {
            let reason = format!("{PHONE} {FAX} {MAIL} {SOCIAL}");
            ward.arrives(at, Input::Void(schemas::Void { reason, author: NAME.to_owned(), ..void(&one, Some(PLAN)) }));
        }
        ward.arrives(at, Input::Reading(reading("bob", Metric::HeartRate, at, 60.0 + n as f64)));
    }
    let settings = Settings {
        patient: PatientId::parse(RECORD).unwrap(),
        version: 1,
        monitored: true,
        limits: BTreeMap::from([("spo2.low".to_owned(), 88.0)]),
        limits_until: BTreeMap::new(),
        oxygen_l_min: None,
        news2_scale: 1,
        pauses: vec![Pause { from: start(), until: None, reason: format!("{ACCOUNT} {LICENCE} {VEHICLE} {URL}") }],
        expected_interval: BTreeMap::new(),
        enrolled_at: start(),
        author: NAME.to_owned(),
    };
    ward.arrives(start() + Micros::days(1), Input::Settings(settings));
    ward.archive();
    let patient = |patient: &str, born: &str| PatientRow {
        patient: patient.to_owned(),
        ward: PLACE.to_owned(),
        sex: "female".to_owned(),
        born: Some(date_of(EventTime::parse(&format!("{born}T00:00:00Z")).unwrap())),
        enrolled_at: start(),
    };
    let store = FromStore {
        patients: vec![patient(RECORD, DATE), patient("bob", "1920-01-01")],
        assignments: vec![AssignmentRow {
            device: SERIAL.to_owned(),
            patient: RECORD.to_owned(),
            from: start(),
            until: None,
            model: OTHER.to_owned(),
            test: false,
        }],
        episodes: vec![EpisodeRow {
            alert: format!("alert-{ACCOUNT}"),
            patient: RECORD.to_owned(),
            rule: "spo2-low".to_owned(),
            priority: "high".to_owned(),
            state: "cleared".to_owned(),
            since: start(),
            raised_at: start(),
            heard_at: start(),
            cleared_at: Some(start()),
            late: false,
            technical: false,
            test: false,
            acknowledged: Some((start(), NAME.to_owned())),
            verdict: Some(("true".to_owned(), start(), NAME.to_owned(), Some(format!("{ADDRESS} {BIOMETRIC} {PHOTO}")))),
            summary: format!("{OTHER} {NAME}"),
        }],
    };
    let wanted = Wanted { store: Some(store), ..ward.wanted() };
    compact(&ward.lake(), &wanted, &Progress::default()).unwrap();
    (ward, wanted)
}

fn request(profile: Profile) -> Request {
    Request {
        project: "sepsis".to_owned(),
        purpose: "a study".to_owned(),
        requester: "Silva".to_owned(),
        approver: "Novak".to_owned(),
        through: Through::new(profile, ProjectKey::new("a key of the project, long enough for anybody")),
        cohort: Cohort::All,
        tables: known(profile),
        form: Form::Long,
        every: None,
        shape: Shape::Csv,
        memory: 64 << 20,
        now: start(),
    }
}

async fn export(ward: &Ward, request: Request) -> Result<(tempfile::TempDir, PathBuf, lake::export::Done), QueryError> {
    let out = tempfile::tempdir().unwrap();
    let manifest = manifest::open(&ward.lake(), &AsOf::Newest, None).unwrap();
    let folder = out.path().join("out");
    let done = prepare(&ward.lake(), manifest, request).await?.write(&folder, &Progress::default()).await?;
    Ok((out, folder, done))
}

/// Every value of a file as text, and whatever the file says of itself.
fn values(path: &Path) -> String {
    let batches: Vec<RecordBatch> = match path.extension().and_then(|end| end.to_str()) {
        Some("parquet") => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
            builder.build().unwrap().map(Result::unwrap).collect()
        }
        Some("arrow") => arrow::ipc::reader::FileReader::try_new(fs::File::open(path).unwrap(), None).unwrap().map(Result::unwrap).collect(),
        _ => return String::new(),
    };
    let mut text = String::new();
    for batch in &batches {
        text.push_str(&format!("{:?}\n", batch.schema()));
        for column in batch.columns() {
            let format = ArrayFormatter::try_new(column, &FormatOptions::default()).unwrap();
            for row in 0..batch.num_rows() {
                text.push_str(&format!("{}\n", format.value(row)));
            }
        }
    }
    text
}

fn lies_there(folder: &Path, what: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let raw = bytes.windows(what.len()).any(|window| window == what.as_bytes());
        if name.contains(what) || raw || values(&path).contains(what) {
            found.push(name);
        }
    }
    found
}

/// None of the eighteen, and no date or time, in any byte, value or name of a file, whatever it is written as; and they were there to be found.
#[tokio::test]
async fn a_safe_harbor_export_has_none_of_the_eighteen() {
    let (ward, _) = ward();
    for shape in SHAPES {
        let cohort = Cohort::Patients(BTreeSet::from([RECORD.to_owned(), "bob".to_owned()]));
        let (_out, folder, _) = export(&ward, Request { shape, cohort, ..request(Profile::SafeHarbor) }).await.unwrap();
        let micros = start().0.to_string();
        for canary in CANARIES.into_iter().chain(["bob", "2026-01", &micros[..7], crate::INSTALLATION]) {
            assert_eq!(lies_there(&folder, canary), [""; 0], "{canary} in {shape:?}");
        }
        let (_out, folder, _) = export(&ward, Request { shape, ..request(Profile::Identified) }).await.unwrap();
        for canary in CANARIES {
            assert!(canary == DATE || !lies_there(&folder, canary).is_empty(), "{canary} is nowhere in the identified export: nothing was tried");
        }
    }
    let (_out, folder, _) = export(&ward, request(Profile::SafeHarbor)).await.unwrap();
    let patients = fs::read_to_string(folder.join("patients.csv")).unwrap();
    let mut rows: Vec<String> = patients.lines().skip(1).map(|line| line.split_once(',').unwrap().1.to_owned()).collect();
    rows.sort();
    assert_eq!(rows, ["female,80,2026", "female,90,2026"], "of 106 years 90 are told");
}

/// With times or without, nobody's name, device, words, nor places in the journal.
#[tokio::test]
async fn no_profile_but_identified_tells_who() {
    let (ward, _) = ward();
    for profile in [Profile::LimitedDataset, Profile::ExpertDetermination] {
        let (_out, folder, _) = export(&ward, request(profile)).await.unwrap();
        for canary in CANARIES {
            let allowed = canary == PLACE && profile == Profile::LimitedDataset;
            assert!(allowed || lies_there(&folder, canary).is_empty(), "{canary} in {profile:?}");
        }
    }
}

fn column(folder: &Path, file: &str, column: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    let mut lines = text.lines();
    let place = lines.next().unwrap().split(',').position(|name| name == column).unwrap_or_else(|| panic!("no {column} in {file}"));
    lines.map(|line| line.split(',').nth(place).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn two_projects_cannot_be_joined_and_one_can() {
    let (ward, _) = ward();
    let of = async |key: &str| {
        let mut request = request(Profile::SafeHarbor);
        request.through.key = ProjectKey::new(key);
        let (_out, folder, _) = export(&ward, request).await.unwrap();
        let mut names = BTreeSet::new();
        for (file, name) in [("readings.csv", "patient"), ("readings.csv", "device"), ("episodes.csv", "alert"), ("assignments.csv", "device")] {
            names.extend(column(&folder, file, name));
        }
        assert!(names.is_superset(&column(&folder, "patients.csv", "patient").into_iter().collect()), "a patient has one pseudonym in all tables");
        names
    };
    let (one, again, other) = (of("the first project's key").await, of("the first project's key").await, of("the second project's key").await);
    assert_eq!(one, again);
    assert_eq!(one.len(), 5, "{one:?}");
    assert!(one.is_disjoint(&other));
}

/// The same version and request: the same bytes; and each shape has the same rows.
#[tokio::test]
async fn twice_is_the_same() {
    let (ward, wanted) = ward();
    let (_a, _, one) = export(&ward, request(Profile::Identified)).await.unwrap();
    let (_b, _, two) = export(&ward, Request { now: start() + Micros::days(3), ..request(Profile::Identified) }).await.unwrap();
    assert_eq!((one.content.len(), &one.content, one.rows), (64, &two.content, two.rows));
    let mut first: Option<Vec<String>> = None;
    for shape in [Shape::Parquet, Shape::Arrow] {
        let (_out, folder, _) = export(&ward, Request { shape, ..request(Profile::Identified) }).await.unwrap();
        let mut lines: Vec<String> =
            values(&folder.join(format!("readings.{}", shape.extension()))).lines().filter(|line| !line.starts_with("Schema")).map(ToOwned::to_owned).collect();
        lines.sort();
        assert_eq!(first.get_or_insert_with(|| lines.clone()), &lines);
    }
    // one more reading makes another version; the one before is as it was
    let mut later = ward;
    later.arrives(start() + Micros::days(40), Input::Reading(reading("bob", Metric::HeartRate, start() + Micros::days(40), 71.0)));
    later.archive();
    compact(&later.lake(), &wanted, &Progress::default()).unwrap();
    let old = manifest::open(&later.lake(), &AsOf::Version(1), None).unwrap();
    let out = tempfile::tempdir().unwrap();
    let then = prepare(&later.lake(), old, request(Profile::Identified)).await.unwrap().write(&out.path().join("x"), &Progress::default()).await.unwrap();
    assert_eq!(then.content, two.content);
    let (_c, _, now) = export(&later, request(Profile::Identified)).await.unwrap();
    assert_ne!(now.content, two.content);
}

/// Whole weeks, the same for everything of a patient, and never none.
#[tokio::test]
async fn an_experts_times_are_moved_by_weeks_and_people_are_like_others() {
    let mut ward = Ward::default();
    let patients: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
    for patient in &patients {
        for minute in [0, 7, 90] {
            let at = start() + Micros::minutes(minute);
            ward.arrives(at, Input::Reading(reading(patient, Metric::Spo2, at, 95.0)));
        }
    }
    ward.arrives(start() + Micros::days(1), Input::Reading(reading("p0", Metric::Spo2, start() + Micros::days(1), 95.0)));
    ward.archive();
    let row = |n: usize, patient: &String| PatientRow {
        patient: patient.clone(),
        ward: format!("w{}", n % 3),
        sex: if n == 39 { "other" } else { "female" }.to_owned(),
        born: Some(date_of(EventTime::parse(&format!("{}-01-01T00:00:00Z", 1930 + 5 * (n % 4))).unwrap())),
        enrolled_at: start(),
    };
    let store = FromStore { patients: patients.iter().enumerate().map(|(n, patient)| row(n, patient)).collect(), ..FromStore::default() };
    compact(&ward.lake(), &Wanted { store: Some(store), ..ward.wanted() }, &Progress::default()).unwrap();
    let mut request = request(Profile::ExpertDetermination);
    request.tables = vec![Table::Readings, Table::Wear, Table::Patients];
    request.through.k = 4;
    let (_out, folder, done) = export(&ward, request).await.unwrap();
    let (who, at, hours) = (column(&folder, "readings.csv", "patient"), column(&folder, "readings.csv", "at"), column(&folder, "wear.csv", "hour"));
    let week = Micros::days(7).0;
    let parse = |text: &String| EventTime::parse(text).unwrap();
    let mut moved: BTreeMap<&String, BTreeSet<i64>> = BTreeMap::new();
    for (who, at) in who.iter().zip(&at) {
        let by = (parse(at) - start()).0;
        let by = by - by.rem_euclid(week);
        moved.entry(who).or_default().insert(by);
    }
    for by in moved.values() {
        assert!(by.len() == 1 && !by.contains(&0) && by.iter().all(|by| by.abs() <= 52 * week), "{by:?}");
    }
    assert!(moved.values().flatten().collect::<BTreeSet<_>>().len() > 10, "patients are moved differently");
    assert!(hours.iter().all(|hour| (parse(hour) - start()).0.rem_euclid(week) < Micros::days(2).0));
    let text = fs::read_to_string(folder.join("patients.csv")).unwrap();
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines().skip(1) {
        *classes.entry(line.split_once(',').unwrap().1.to_owned()).or_default() += 1;
    }
    assert!(classes.values().all(|size| *size >= 4), "{classes:?}");
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.join("k-anonymity.json")).unwrap()).unwrap();
    assert_eq!((&report["k"], report["patients"].as_u64()), (&4.into(), Some(done.patients as u64)));
    assert_eq!(report["smallest"].as_u64(), classes.values().min().map(|size| *size as u64));
    assert!(report["left_out"] == 0 || report["left_out"] == 1, "the one of another sex is like nobody: {report}");
}

/// Steps against a slow reading of the same words.
#[tokio::test]
async fn steps_are_what_they_say() {
    let mut random = random();
    let mut ward = Ward::default();
    let mut all: Vec<(String, Metric, EventTime, f64)> = Vec::new();
    for patient in ["ada", "bob", "cyd"] {
        let mut at = start();
        for _ in 0..random.random_range(1..80) {
            at = at + Micros::minutes(random.random_range(1..200));
            for metric in [Metric::Spo2, Metric::HeartRate] {
                if random.random_bool(0.6) {
                    all.push((patient.to_owned(), metric, at, f64::from(random.random_range(40..100))));
                }
            }
        }
    }
    all.sort_by_key(|row| row.2);
    for (patient, metric, at, value) in &all {
        ward.arrives(*at, Input::Reading(reading(patient, *metric, *at, *value)));
    }
    let end = start() + Micros::days(60);
    ward.arrives(end, Input::Reading(reading("dan", Metric::Weight, end, 80.0)));
    ward.archive();
    ward.compact();
    let (step, carry) = (Micros::minutes(60), Micros::minutes(150));
    for gaps in [Gaps::Leave, Gaps::Null, Gaps::Carry(carry)] {
        // patient, metric, step → readings, mean
        let mut expected: BTreeMap<(String, &str, i64), (i64, Option<f64>)> = BTreeMap::new();
        for patient in ["ada", "bob", "cyd"] {
            for metric in [Metric::Spo2, Metric::HeartRate] {
                let mine: Vec<_> = all.iter().filter(|row| row.0 == patient && row.1 == metric).collect();
                let bin = |at: EventTime| at.0 - at.0.rem_euclid(step.0);
                let (Some(first), Some(last)) = (mine.iter().map(|row| bin(row.2)).min(), mine.iter().map(|row| bin(row.2)).max()) else { continue };
                let mut before: Option<(i64, f64)> = None;
                for from in (first..=last).step_by(usize::try_from(step.0).unwrap()) {
                    let values: Vec<f64> = mine.iter().filter(|row| bin(row.2) == from).map(|row| row.3).collect();
                    let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
                    let told = match gaps {
                        Gaps::Carry(length) => mean.or(before.filter(|(at, _)| from - at <= length.0).map(|(_, mean)| mean)),
                        _ => mean,
                    };
                    before = mean.map(|mean| (from, mean)).or(before);
                    if gaps != Gaps::Leave || mean.is_some() {
                        expected.insert((patient.to_owned(), metric.name(), from), (values.len() as i64, told));
                    }
                }
            }
        }
        let mut request = request(Profile::Identified);
        (request.every, request.tables, request.shape) = (Some(Every { step, gaps }), vec![Table::Readings], Shape::Csv);
        request.through.metrics = vec![Metric::Spo2, Metric::HeartRate];
        let (_out, folder, _) = export(&ward, request.clone()).await.unwrap();
        let get = |name: &str| column(&folder, "readings.csv", name);
        let mut found = BTreeMap::new();
        for ((((patient, metric), at), readings), mean) in get("patient").into_iter().zip(get("metric")).zip(get("at")).zip(get("readings")).zip(get("mean")) {
            let metric: Metric = metric.parse().unwrap();
            found.insert((patient, metric.name(), EventTime::parse(&at).unwrap().0), (readings.parse::<i64>().unwrap(), mean.parse::<f64>().ok()));
        }
        assert_eq!(found, expected, "{gaps:?}");
        request.form = Form::Wide;
        let (_out, folder, _) = export(&ward, request).await.unwrap();
        for metric in [Metric::Spo2, Metric::HeartRate] {
            let wide: f64 = column(&folder, "readings.csv", metric.name()).iter().filter_map(|mean| mean.parse::<f64>().ok()).sum();
            let long: f64 = expected.iter().filter(|(key, _)| key.1 == metric.name()).filter_map(|(_, (_, mean))| *mean).sum();
            assert!((wide - long).abs() < 1e-6, "{gaps:?} {metric}: {wide} {long}");
        }
    }
}

/// The views are all there is: no table, no join of who is who, no function that makes pseudonyms of ids to try.
#[tokio::test]
async fn who_asks_in_sql_sees_no_more_than_an_export_has() {
    let (ward, _) = ward();
    let through = Through::new(Profile::SafeHarbor, ProjectKey::new("a key of the project, long enough for anybody"));
    let ask = async |sql: &str| {
        let manifest = manifest::open(&ward.lake(), &AsOf::Newest, None).unwrap();
        let mut answer = query(&ward.lake(), &manifest, sql, Some(through.clone()), Limits::default()).await?;
        let mut pieces = Vec::new();
        while let Some(piece) = answer.next().await? {
            pieces.push(piece);
        }
        Ok::<_, QueryError>(pieces)
    };
    let rows = ask("SELECT count(*) AS n, min(at_s) AS first FROM readings").await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 59);
    assert!(rows[0].column(1).as_primitive::<Float64Type>().value(0) >= 0.0);
    for sql in [
        "SELECT at FROM readings",
        "SELECT offset FROM readings",
        "SELECT * FROM who",
        "SELECT pseudonym('patient', 'bob')",
        "SELECT * FROM rules",
        "SELECT author FROM voided",
        "SELECT t.patient FROM readings, t",
    ] {
        assert!(matches!(ask(sql).await, Err(QueryError::Sql(_))), "{sql}");
    }
    let plans = ask("EXPLAIN SELECT * FROM readings").await.unwrap();
    let text = format!("{plans:?}");
    assert!(!text.contains(RECORD) && !text.contains(SERIAL), "{text}");
}

#[tokio::test]
async fn what_is_stopped_or_not_there_leaves_nothing() {
    let (ward, _) = ward();
    let out = tempfile::tempdir().unwrap();
    let prepared = async |request| prepare(&ward.lake(), manifest::open(&ward.lake(), &AsOf::Newest, None).unwrap(), request).await;
    let stopped = Progress::default();
    stopped.cancel();
    let error = prepared(request(Profile::SafeHarbor)).await.unwrap().write(&out.path().join("x"), &stopped).await.unwrap_err();
    assert!(matches!(error, QueryError::Lake(CuratedError::Cancelled)), "{error}");
    let error = prepared(request(Profile::SafeHarbor)).await.unwrap().write(&out.path().join("no/x"), &Progress::default()).await.unwrap_err();
    assert!(error.to_string().contains("no/x"), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    fs::create_dir(out.path().join("x")).unwrap();
    let error = prepared(request(Profile::SafeHarbor)).await.unwrap().write(&out.path().join("x"), &Progress::default()).await.unwrap_err();
    assert!(error.to_string().contains("there already"), "{error}");
    let nobody = Cohort::Patients(BTreeSet::from(["bob".to_owned(), "eve".to_owned()]));
    let error = prepared(Request { cohort: nobody, ..request(Profile::SafeHarbor) }).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "1 of the 2 patients named are not in the lake");
    let error = prepared(Request { tables: vec![Table::Rules], ..request(Profile::SafeHarbor) }).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("names no patient"), "{error}");
}

/// A period and a cohort take what they say, in every table.
#[tokio::test]
async fn a_period_is_from_and_before() {
    let (ward, _) = ward();
    let mut request = request(Profile::Identified);
    request.cohort = Cohort::Patients(BTreeSet::from(["bob".to_owned()]));
    (request.through.from, request.through.until) = (Some(start() + Micros::minutes(37)), Some(start() + Micros::minutes(37 * 20)));
    let (_out, folder, _) = export(&ward, request).await.unwrap();
    assert_eq!(column(&folder, "readings.csv", "patient"), vec!["bob"; 19]);
    let values: Vec<f64> = column(&folder, "readings.csv", "value").iter().map(|value| value.parse().unwrap()).collect();
    assert_eq!(values, (1..20).map(|n| 60.0 + f64::from(n)).collect::<Vec<_>>());
    assert_eq!(column(&folder, "assignments.csv", "patient"), [""; 0]);
}

/// What is sorted is larger than what it may hold: it goes through a file, whatever the memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_larger_than_the_memory_that_it_may_take() {
    let mut ward = Ward::default();
    for n in 0..120_000_i64 {
        let at = start() + Micros::seconds(7 * n);
        ward.arrives(at, Input::Reading(reading(&format!("patient-{}", n % 97), Metric::HeartRate, at, 60.0 + (n % 30) as f64)));
    }
    ward.archive();
    compact(&ward.lake(), &ward.wanted(), &Progress::default()).unwrap();
    let manifest = manifest::open(&ward.lake(), &AsOf::Newest, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut written = Vec::new();
    for memory in [512 << 20, 24 << 20] {
        let request = Request { tables: vec![Table::Readings], memory, ..request(Profile::SafeHarbor) };
        let prepared = prepare(&ward.lake(), manifest.clone(), request).await.unwrap();
        written.push(prepared.write(&folder.path().join(memory.to_string()), &Progress::default()).await.unwrap());
    }
    assert_eq!(written[0].rows, 120_000);
    assert_eq!(written[0].content, written[1].content);
}
