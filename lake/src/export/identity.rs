//! Who is who in an export: profiles, what becomes of a column in each, and the views that a query or an export sees instead of the tables.
//!
//! It promises that nothing of a table but what [`columns`] lists can be reached through the views: the tables themselves are in another context.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use hmac::{Hmac, KeyInit, Mac};
use schemas::{EventTime, Metric};
use serde::Serialize;
use sha2::Sha256;

use crate::query::QueryError;
use crate::rows::{Date, date_of};
use crate::tables::{Column, Kind, Table};

const DAY: i64 = 86_400_000_000;
/// Ages above are not told apart (45 CFR 164.514(b)(2)(i)(C)).
const OLDEST: i32 = 90;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    SafeHarbor,
    LimitedDataset,
    ExpertDetermination,
    Identified,
}

impl Profile {
    pub const ALL: [Self; 4] = [Self::SafeHarbor, Self::LimitedDataset, Self::ExpertDetermination, Self::Identified];

    pub const fn name(self) -> &'static str {
        match self {
            Self::SafeHarbor => "safe-harbor",
            Self::LimitedDataset => "limited-dataset",
            Self::ExpertDetermination => "expert-determination",
            Self::Identified => "identified",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// What it does, for who reads the export.
    pub const fn what(self) -> &'static str {
        match self {
            Self::SafeHarbor => {
                "Made after 45 CFR 164.514(b)(2), Safe Harbor. Patients, devices and alerts have pseudonyms; of an event's time only the seconds since midnight (UTC) of the patient's \
                 first day are left, of dates only the year of that day; ages of 90 and more are 90; times of receipt, enrolment and of what people did, wards, staff, free text and places in the journal are left out."
            }
            Self::LimitedDataset => {
                "Made after 45 CFR 164.514(e), a limited data set: it needs a data use agreement. Patients, devices and alerts have pseudonyms; times, ages and wards are as they were; \
                 staff, free text and places in the journal are left out."
            }
            Self::ExpertDetermination => {
                "Made for an expert's determination, 45 CFR 164.514(b)(1), which it does not replace. Patients, devices, alerts and wards have pseudonyms; all times of a patient are \
                 moved by the same number of whole weeks; ages are bands of five years; k-anonymity.json says how many share what is known of a patient; times of receipt, enrolment and of what people did, staff, free text and places in the journal are left out."
            }
            Self::Identified => "IDENTIFIED: patients, devices and staff stand under the ids that the installation uses.",
        }
    }

    fn becomes(self, kind: Kind) -> Becomes {
        use Becomes::{Age, AsIs, Band, Elapsed, Gone, Pseudonym, Shifted};
        match (self, kind) {
            (Self::Identified, _) | (_, Kind::Plain) | (Self::LimitedDataset, Kind::Time | Kind::System | Kind::Date | Kind::Place) => AsIs,
            (_, Kind::Patient | Kind::Device | Kind::Key) | (Self::ExpertDetermination, Kind::Place) => Pseudonym,
            (Self::SafeHarbor, Kind::Time) => Elapsed,
            (Self::ExpertDetermination, Kind::Time | Kind::Date) => Shifted,
            (Self::SafeHarbor, Kind::Born) => Age { capped: true },
            (Self::LimitedDataset, Kind::Born) => Age { capped: false },
            (Self::ExpertDetermination, Kind::Born) => Band,
            (Self::SafeHarbor, Kind::Date | Kind::Place) | (_, Kind::System | Kind::Staff | Kind::FreeText | Kind::Log) => Gone,
        }
    }
}

enum Becomes {
    AsIs,
    Pseudonym,
    Elapsed,
    Shifted,
    Age { capped: bool },
    Band,
    Gone,
}

/// A project's key: pseudonyms of one project tell nothing of another's, and without the key nothing of whose they are.
#[derive(Clone)]
pub struct ProjectKey(Vec<u8>);

impl std::fmt::Debug for ProjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProjectKey(…)")
    }
}

impl ProjectKey {
    pub fn new(key: &str) -> Self {
        Self(key.as_bytes().to_owned())
    }

    fn mac(&self, kind: &str, value: &str) -> [u8; 32] {
        // an HMAC takes a key of any length
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return [0; 32] };
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(value.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// 80 bits, in letters and digits that are not mistaken for each other.
    pub fn pseudonym(&self, kind: &str, value: &str) -> String {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mac = self.mac(kind, value);
        let number = mac.iter().take(10).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
        (0..16).rev().map(|digit| char::from(DIGITS[((number >> (5 * digit)) & 31) as usize])).collect()
    }

    /// Whole weeks, so that a Monday stays one: a year at most, and never none.
    fn shift(&self, patient: &str) -> i64 {
        let mac = self.mac("shift", patient);
        let number = mac.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        let weeks = i64::try_from(number % 104).unwrap_or_default() - 52;
        (if weeks >= 0 { weeks + 1 } else { weeks }) * 7 * DAY
    }
}

/// Whose data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cohort {
    All,
    Ward(String),
    Patients(BTreeSet<String>),
}

/// A column as it is seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: String,
    pub what: String,
    /// Over `t`, the table, and `who`.
    sql: String,
}

/// What can be seen of a table; `None` when that is not to be had, because it names no patient.
pub fn columns(profile: Profile, table: Table) -> Option<Vec<Seen>> {
    let mut seen = Vec::new();
    if profile != Profile::Identified && !table.columns().iter().any(|column| column.kind == Kind::Patient && column.name == "patient") {
        return None;
    }
    for column in table.columns() {
        seen.extend(see(profile, table, column));
    }
    if profile == Profile::SafeHarbor && table == Table::Patients {
        let what = "The year of the patient's first day".to_owned();
        seen.push(Seen { name: "first_year".to_owned(), what, sql: format!("CAST(date_part('year', {}) AS INT)", moment("who.origin")) });
    }
    Some(seen)
}

fn moment(micros: &str) -> String {
    format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

fn see(profile: Profile, table: Table, column: &Column) -> Option<Seen> {
    let (name, what) = (column.name.to_owned(), column.what.to_owned());
    let raw = format!("t.\"{name}\"");
    let text = column.data_type() == DataType::Utf8;
    let same = |sql: String| Some(Seen { name: name.clone(), what: what.clone(), sql });
    match profile.becomes(column.kind) {
        // what an expert is told of people was made coarser, person by person
        Becomes::AsIs if profile == Profile::ExpertDetermination && table == Table::Patients && name == "sex" => same("who.sex".to_owned()),
        Becomes::AsIs => same(raw),
        Becomes::Pseudonym if table == Table::Patients && name == "ward" => {
            Some(Seen { name, what: format!("{what}; a pseudonym"), sql: "who.ward".to_owned() })
        }
        Becomes::Pseudonym if column.kind == Kind::Patient && column.name == "patient" => {
            Some(Seen { name, what: format!("{what}; a pseudonym of this project"), sql: "who.pseudonym".to_owned() })
        }
        Becomes::Pseudonym if text => {
            let kind = match column.kind {
                Kind::Patient => "patient",
                Kind::Device => "device",
                Kind::Place => "ward",
                _ => "key",
            };
            let sql = format!("pseudonym('{kind}', {raw})");
            Some(Seen { name, what: format!("{what}; a pseudonym of this project"), sql })
        }
        Becomes::Pseudonym | Becomes::Gone => None,
        Becomes::Elapsed => Some(Seen {
            name: format!("{name}_s"),
            what: format!("{what}; seconds since midnight (UTC) of the patient's first day"),
            sql: format!("CAST(arrow_cast({raw}, 'Int64') - who.origin AS DOUBLE) / 1000000.0"),
        }),
        Becomes::Shifted if column.kind == Kind::Date => {
            same(format!("CAST(arrow_cast(CAST({raw} AS INT) + CAST(who.shift / {DAY} AS INT), 'Date32') AS DATE)"))
        }
        Becomes::Shifted => same(moment(&format!("arrow_cast({raw}, 'Int64') + who.shift"))),
        Becomes::Age { capped } => Some(Seen {
            name: "age".to_owned(),
            what: format!("Age in years on the patient's first day{}", if capped { "; 90 is 90 or more" } else { "" }),
            sql: if capped { format!("CAST(CASE WHEN who.age > {OLDEST} THEN {OLDEST} ELSE who.age END AS INT)") } else { "CAST(who.age AS INT)".to_owned() },
        }),
        Becomes::Band => Some(Seen {
            name: "age_band".to_owned(),
            what: "Age on the patient's first day, in bands of five years".to_owned(),
            sql: "who.age_band".to_owned(),
        }),
    }
}

/// A patient of the cohort.
#[derive(Clone, Debug)]
pub struct Who {
    pub patient: String,
    pub ward: Option<String>,
    pub sex: Option<String>,
    pub age: Option<i32>,
    /// Midnight of the first day, µs.
    pub origin: i64,
}

impl Who {
    pub fn age_band(&self) -> Option<String> {
        let from = self.age? / 5 * 5;
        Some(if from >= OLDEST { format!("{OLDEST}+") } else { format!("{from}-{}", from + 4) })
    }
}

/// Everybody of whom the version knows something and whom the cohort has.
///
/// # Errors
/// When the cohort names somebody of whom nothing is known.
pub async fn cohort(tables: &SessionContext, cohort: &Cohort) -> Result<Vec<Who>, QueryError> {
    let sql = "SELECT coalesce(p.patient, r.patient) AS patient, r.first AS first, p.ward AS ward, p.sex AS sex, p.born AS born, p.enrolled_at AS enrolled_at
               FROM patients p FULL JOIN (SELECT patient, min(at) AS first FROM readings GROUP BY patient) r ON p.patient = r.patient ORDER BY 1";
    let mut known = Vec::new();
    for batch in tables.sql(sql).await?.collect().await? {
        let text = |name: &str| batch.column_by_name(name).map(|column| column.as_string::<i32>().clone());
        let time = |name: &str| batch.column_by_name(name).map(|column| column.as_primitive::<TimestampMicrosecondType>().clone());
        let born = batch.column_by_name("born").map(|column| column.as_primitive::<Date32Type>().clone());
        let (Some(patients), Some(firsts), Some(wards), Some(sexes), Some(born), Some(enrolled)) =
            (text("patient"), time("first"), text("ward"), text("sex"), born, time("enrolled_at"))
        else {
            continue;
        };
        for row in 0..batch.num_rows() {
            let at = if firsts.is_valid(row) { firsts.value(row) } else { enrolled.value(row) };
            let maybe = |column: &StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
            let age = born.is_valid(row).then(|| age(born.value(row), EventTime(at)));
            let origin = at - at.rem_euclid(DAY);
            known.push(Who { patient: patients.value(row).to_owned(), ward: maybe(&wards), sex: maybe(&sexes), age, origin });
        }
    }
    match cohort {
        Cohort::All => {}
        Cohort::Ward(ward) => {
            known.retain(|who| who.ward.as_ref() == Some(ward));
            if known.is_empty() {
                return Err(QueryError::Cohort(format!("no patient of the lake is of ward {ward}")));
            }
        }
        Cohort::Patients(wanted) => {
            known.retain(|who| wanted.contains(&who.patient));
            if known.len() < wanted.len() {
                let found: BTreeSet<&String> = known.iter().map(|who| &who.patient).collect();
                let missing = wanted.iter().filter(|patient| !found.contains(patient)).count();
                return Err(QueryError::Cohort(format!("{missing} of the {} patients named are not in the lake", wanted.len())));
            }
        }
    }
    Ok(known)
}

/// In whole years.
fn age(born: Date, at: EventTime) -> i32 {
    let days = |date: Date| EventTime(i64::from(date) * DAY).to_string();
    let parts = |text: String| -> (i32, String) {
        (text.get(..4).and_then(|year| year.parse().ok()).unwrap_or_default(), text.get(5..10).unwrap_or_default().to_owned())
    };
    let ((birth, birthday), (year, day)) = (parts(days(born)), parts(days(date_of(at))));
    year - birth - i32::from(day < birthday)
}

/// What an export, or a query, is shown of the cohort's data.
#[derive(Clone, Debug)]
pub struct Through {
    pub profile: Profile,
    pub key: ProjectKey,
    /// Only what happened in [from, until).
    pub from: Option<EventTime>,
    pub until: Option<EventTime>,
    /// Only these metrics; all, when empty.
    pub metrics: Vec<Metric>,
    /// Of the expert's profile: nobody shares what is told of them with fewer, themselves counted.
    pub k: usize,
}

/// What is told of a patient when it was made coarser.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    pub sex: Option<String>,
    pub age_band: Option<String>,
    pub ward: Option<String>,
}

impl Through {
    /// All of the time, every metric.
    pub fn new(profile: Profile, key: ProjectKey) -> Self {
        Self { profile, key, from: None, until: None, metrics: Vec::new(), k: 5 }
    }
}

/// A context that knows the views and nothing else.
///
/// # Errors
/// When DataFusion cannot plan them.
pub async fn views(tables: &SessionContext, into: &SessionContext, through: &Through, cohort: &[Who], told: &BTreeMap<String, Told>) -> Result<(), QueryError> {
    let key = through.key.clone();
    let disguise = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue, DataFusionError> {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let [kinds, values] = arrays.as_slice() else { return Err(DataFusionError::Internal("pseudonym takes two arguments".to_owned())) };
        let (kinds, values) = (kinds.as_string::<i32>(), values.as_string::<i32>());
        // a device measures many times in a row
        let mut last: Option<(&str, String)> = None;
        let names: StringArray = (0..values.len())
            .map(|row| {
                let value = values.is_valid(row).then(|| values.value(row))?;
                if last.as_ref().is_none_or(|(of, _)| *of != value) {
                    last = Some((value, key.pseudonym(kinds.value(row), value)));
                }
                last.as_ref().map(|(_, name)| name.clone())
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(names) as ArrayRef))
    };
    tables.register_udf(create_udf("pseudonym", vec![DataType::Utf8, DataType::Utf8], DataType::Utf8, Volatility::Immutable, Arc::new(disguise)));
    tables.register_table("who", Arc::new(MemTable::try_new(who_schema(), vec![vec![who(through, cohort, told)?]])?))?;
    for table in Table::public() {
        let Some(seen) = columns(through.profile, table) else { continue };
        let view = tables.sql(&view(through, table, &seen)).await?.into_view();
        into.register_table(TableReference::bare(table.name()), view)?;
    }
    Ok(())
}

fn who_schema() -> Arc<Schema> {
    let field = |name: &str, of: DataType| Field::new(name, of, true);
    let mut fields: Vec<Field> = ["patient", "pseudonym", "sex", "age_band", "ward"].into_iter().map(|name| field(name, DataType::Utf8)).collect();
    fields.extend(["origin", "shift", "age"].into_iter().map(|name| field(name, DataType::Int64)));
    Arc::new(Schema::new(fields))
}

fn who(through: &Through, cohort: &[Who], told: &BTreeMap<String, Told>) -> Result<RecordBatch, QueryError> {
    let text = |of: &dyn Fn(&Who) -> Option<String>| Arc::new(cohort.iter().map(of).collect::<StringArray>()) as ArrayRef;
    let number = |of: &dyn Fn(&Who) -> Option<i64>| Arc::new(cohort.iter().map(of).collect::<Int64Array>()) as ArrayRef;
    let told = |who: &Who| told.get(&who.patient).cloned().unwrap_or_default();
    let columns = vec![
        text(&|who| Some(who.patient.clone())),
        text(&|who| Some(through.key.pseudonym("patient", &who.patient))),
        text(&|who| told(who).sex),
        text(&|who| told(who).age_band),
        text(&|who| told(who).ward.map(|ward| through.key.pseudonym("ward", &ward))),
        number(&|who| Some(who.origin)),
        number(&|who| Some(through.key.shift(&who.patient))),
        number(&|who| who.age.map(i64::from)),
    ];
    Ok(RecordBatch::try_new(who_schema(), columns).map_err(DataFusionError::from)?)
}

fn view(through: &Through, table: Table, seen: &[Seen]) -> String {
    let list: Vec<String> = seen.iter().map(|column| format!("{} AS \"{}\"", column.sql, column.name)).collect();
    let has = |name: &str| table.columns().iter().any(|column| column.name == name);
    let mut conditions = Vec::new();
    let time = match table {
        Table::Readings | Table::Alerts | Table::Voided => Some("at"),
        Table::Windows => Some("start"),
        Table::Wear => Some("hour"),
        Table::Episodes => Some("raised_at"),
        Table::Settings => Some("arrived_at"),
        Table::Assignments | Table::Patients | Table::Rules | Table::Frontiers => None,
    };
    let (from, until) = (through.from.map(|at| (at, moment(&at.0.to_string()))), through.until.map(|at| (at, moment(&at.0.to_string()))));
    if let Some(time) = time {
        if let Some((at, from)) = &from {
            // what stands in the files by day is skipped by day
            conditions.extend(has("date").then(|| format!("t.date >= arrow_cast({}, 'Date32')", date_of(*at))));
            conditions.push(format!("t.\"{time}\" >= {from}"));
        }
        if let Some((at, until)) = &until {
            conditions.extend(has("date").then(|| format!("t.date <= arrow_cast({}, 'Date32')", date_of(*at))));
            conditions.push(format!("t.\"{time}\" < {until}"));
        }
    }
    if table == Table::Assignments {
        conditions.extend(from.as_ref().map(|(_, from)| format!("(t.until IS NULL OR t.until > {from})")));
        conditions.extend(until.as_ref().map(|(_, until)| format!("t.\"from\" < {until}")));
    }
    if has("metric") && !through.metrics.is_empty() {
        let names: Vec<String> = through.metrics.iter().map(|metric| format!("'{}'", metric.name())).collect();
        conditions.push(format!("t.metric IN ({})", names.join(", ")));
    }
    if has("test") {
        conditions.push("NOT t.test".to_owned());
    }
    let join = if has("patient") { "JOIN who ON who.patient = t.patient" } else { "" };
    let condition = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    format!("SELECT {} FROM \"{}\" t {join} {condition}", list.join(", "), table.name())
}
