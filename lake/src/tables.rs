//! What stands in `curated`: its tables, their columns, and what each means. The data dictionary, `vigil sql`'s description and the files have it from here.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Counts up when a column changes its meaning or goes; a new column does not need it.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Readings,
    Voided,
    Windows,
    Alerts,
    Wear,
    Episodes,
    Patients,
    Assignments,
    Settings,
    Rules,
    /// Not for analysts: where each patient's metric stood, so that the next compaction knows what is late.
    Frontiers,
}

/// How sensitive a column is; what becomes of it in an export depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Names a patient: becomes a pseudonym.
    Patient,
    /// Names a device, whose serial number it may be: becomes a pseudonym.
    Device,
    /// Names something else that is one person's: becomes a pseudonym.
    Key,
    /// A time of something that happened to the patient.
    Time,
    /// A time of what devices, people and this system did about it. Where an event's own time is hidden it would give that away: many patients are
    /// enrolled at one moment, and a clock that was never set says 1970.
    System,
    /// A date of it.
    Date,
    /// The patient's date of birth.
    Born,
    /// Names somebody who works here.
    Staff,
    /// What people wrote, or what may repeat it.
    FreeText,
    /// A place smaller than a state.
    Place,
    /// A place in the journal: says when something arrived.
    Log,
    /// Nothing that tells one person from another by itself.
    Plain,
}

#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub what: &'static str,
    of: Of,
    nullable: bool,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Text,
    Float,
    Int,
    Small,
    Flag,
    Time,
    Date,
    Id,
}

const fn column(name: &'static str, of: Of, kind: Kind, what: &'static str) -> Column {
    Column { name, kind, what, of, nullable: false }
}

const fn maybe(name: &'static str, of: Of, kind: Kind, what: &'static str) -> Column {
    Column { name, kind, what, of, nullable: true }
}

impl Column {
    pub fn data_type(&self) -> DataType {
        match self.of {
            Of::Text => DataType::Utf8,
            Of::Float => DataType::Float64,
            Of::Int => DataType::Int64,
            Of::Small => DataType::Int32,
            Of::Flag => DataType::Boolean,
            Of::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Of::Date => DataType::Date32,
            Of::Id => DataType::FixedSizeBinary(16),
        }
    }

    pub const fn is_nullable(&self) -> bool {
        self.nullable
    }
}

const DATE: Column = column("date", Of::Date, Kind::Date, "The day of the event time, in UTC");
const PATIENT: Column = column("patient", Of::Text, Kind::Patient, "The patient's id");
const METRIC: Column = column("metric", Of::Text, Kind::Plain, "What was measured; codes and units stand in the dictionary of metrics");
const PARTITION: Column = column("partition", Of::Small, Kind::Log, "The partition of the journal that holds the record");
const OFFSET: Column = column("offset", Of::Int, Kind::Log, "The record's offset in its partition: with it the record is found in raw");

const READINGS: &[Column] = &[
    DATE,
    PATIENT,
    METRIC,
    column("at", Of::Time, Kind::Time, "When it was measured, after any correction of the device's clock"),
    column("value", Of::Float, Kind::Plain, "The value, in the metric's own unit; of several that were sent the last"),
    column("unit", Of::Text, Kind::Plain, "The metric's unit, in UCUM"),
    column("device", Of::Text, Kind::Device, "The device that measured it"),
    column("stamped_at", Of::Time, Kind::System, "When it was measured, as the device said"),
    column("received_at", Of::Time, Kind::System, "When the gateway had it"),
    column("clock", Of::Text, Kind::Plain, "as_sent; corrected: the stamp could not be true; unstamped: none was sent"),
    column("typed", Of::Flag, Kind::Plain, "Entered by a person"),
    column("test", Of::Flag, Kind::Plain, "From a device under test: no patient's, leave it out"),
    column("late", Of::Flag, Kind::Plain, "When it came, something newer of this metric was there already"),
    column("beyond_horizon", Of::Flag, Kind::Plain, "So late that the engine stored it and decided nothing by it"),
    column("versions", Of::Small, Kind::Plain, "How many different values came under this reading's id; 1 unless it was corrected"),
    maybe("boot", Of::Int, Kind::Device, "The device's boot number, if it sends one"),
    maybe("reading", Of::Id, Kind::Key, "The reading's id, where it is not the hash of device, metric, stamped_at and boot"),
    PARTITION,
    OFFSET,
];

const VOIDED: &[Column] = &[
    PATIENT,
    column("reading", Of::Id, Kind::Key, "The reading's id"),
    METRIC,
    column("at", Of::Time, Kind::Time, "When it was measured"),
    column("reason", Of::Text, Kind::FreeText, "Why it was taken out"),
    column("author", Of::Text, Kind::Staff, "Who took it out"),
    maybe("moved_to", Of::Text, Kind::Patient, "Whose it was: it stands in readings of that patient"),
    column("voided_at", Of::Time, Kind::System, "When the journal had it"),
    maybe("value", Of::Float, Kind::Plain, "What was taken out; NULL as long as the reading itself has not come"),
    maybe("device", Of::Text, Kind::Device, "The device"),
    maybe("stamped_at", Of::Time, Kind::System, "As in readings"),
    maybe("received_at", Of::Time, Kind::System, "As in readings"),
    maybe("clock", Of::Text, Kind::Plain, "As in readings"),
    maybe("typed", Of::Flag, Kind::Plain, "As in readings"),
    maybe("test", Of::Flag, Kind::Plain, "As in readings"),
    maybe("late", Of::Flag, Kind::Plain, "As in readings"),
    maybe("beyond_horizon", Of::Flag, Kind::Plain, "As in readings"),
    maybe("versions", Of::Small, Kind::Plain, "As in readings"),
    maybe("boot", Of::Int, Kind::Device, "As in readings"),
    maybe("partition", Of::Small, Kind::Log, "As in readings"),
    maybe("offset", Of::Int, Kind::Log, "As in readings"),
];

const WINDOWS: &[Column] = &[
    DATE,
    PATIENT,
    METRIC,
    column("start", Of::Time, Kind::Time, "The window is [start, end)"),
    column("end", Of::Time, Kind::Time, "The window is [start, end)"),
    column("revision", Of::Small, Kind::Plain, "0 when it first closed; what came late made the next"),
    column("current", Of::Flag, Kind::Plain, "No later revision of this window is here; current_windows has only these"),
    column("count", Of::Int, Kind::Plain, "Readings in it"),
    column("sum", Of::Float, Kind::Plain, "Their sum"),
    column("min", Of::Float, Kind::Plain, "The lowest"),
    column("max", Of::Float, Kind::Plain, "The highest"),
    column("last", Of::Float, Kind::Plain, "The last"),
    column("cause_offset", Of::Int, Kind::Log, "The input that caused it"),
    column("cause_ordinal", Of::Int, Kind::Plain, "Which of that input's outputs it is"),
    PARTITION,
    OFFSET,
];

const ALERTS: &[Column] = &[
    DATE,
    PATIENT,
    column("alert", Of::Text, Kind::Key, "The alert's id"),
    column("kind", Of::Text, Kind::Plain, "raised, cleared, amended, withdrawn"),
    column("rule", Of::Text, Kind::Plain, "The rule"),
    column("rule_version", Of::Int, Kind::Plain, "The version of the rules"),
    column("priority", Of::Text, Kind::Plain, "low, medium, high: the words of IEC 60601-1-8"),
    column("at", Of::Time, Kind::Time, "Event time of what decided"),
    column("since", Of::Time, Kind::Time, "When the condition began"),
    column("heard_at", Of::Time, Kind::System, "The engine's clock when it was decided"),
    column("late", Of::Flag, Kind::Plain, "What it rests on had come late"),
    column("pages", Of::Flag, Kind::Plain, "People are told"),
    column("technical", Of::Flag, Kind::Plain, "About a device or the system, not about a body"),
    column("shadow", Of::Flag, Kind::Plain, "Of a rule on trial: nobody was told"),
    column("holds", Of::Flag, Kind::Plain, "Of an amendment: the condition still holds"),
    column("readings", Of::Int, Kind::Plain, "On how many readings it rests"),
    column("summary", Of::Text, Kind::FreeText, "As people were told"),
    column("reason", Of::Text, Kind::FreeText, "Why it was withdrawn"),
    column("cause_offset", Of::Int, Kind::Log, "The input that caused it"),
    column("cause_ordinal", Of::Int, Kind::Plain, "Which of that input's outputs it is"),
    PARTITION,
    OFFSET,
];

const WEAR: &[Column] = &[
    DATE,
    PATIENT,
    METRIC,
    column("hour", Of::Time, Kind::Time, "The hour begins here, in UTC"),
    column("readings", Of::Int, Kind::Plain, "Readings measured in it, devices under test left out"),
    column("minutes", Of::Small, Kind::Plain, "Wear time: minutes of the hour in which something was measured"),
    maybe("expected", Of::Float, Kind::Plain, "Readings that the settings of then expect in an hour; NULL when they say no interval"),
    maybe("completeness", Of::Float, Kind::Plain, "readings over expected, at most 1; NULL when nothing is expected. An hour without a reading has no row"),
];

const EPISODES: &[Column] = &[
    column("alert", Of::Text, Kind::Key, "The alert's id"),
    PATIENT,
    column("rule", Of::Text, Kind::Plain, "The rule"),
    column("priority", Of::Text, Kind::Plain, "low, medium, high"),
    column("state", Of::Text, Kind::Plain, "open, cleared, withdrawn"),
    column("since", Of::Time, Kind::Time, "When the condition began"),
    column("raised_at", Of::Time, Kind::Time, "Event time of what raised it"),
    column("heard_at", Of::Time, Kind::System, "The engine's clock then"),
    maybe("cleared_at", Of::Time, Kind::Time, "Event time of its end"),
    column("late", Of::Flag, Kind::Plain, "It had come late"),
    column("technical", Of::Flag, Kind::Plain, "About a device or the system"),
    column("test", Of::Flag, Kind::Plain, "Of a device under test"),
    maybe("acknowledged_at", Of::Time, Kind::System, "When somebody took it"),
    maybe("acknowledged_by", Of::Text, Kind::Staff, "Who"),
    maybe("verdict", Of::Text, Kind::Plain, "What it turned out to be: true, artefact, expected, device"),
    maybe("verdict_at", Of::Time, Kind::System, "When that was said"),
    maybe("verdict_by", Of::Text, Kind::Staff, "Who said so"),
    maybe("verdict_note", Of::Text, Kind::FreeText, "What they wrote"),
    column("summary", Of::Text, Kind::FreeText, "As people were told"),
];

const PATIENTS: &[Column] = &[
    PATIENT,
    column("ward", Of::Text, Kind::Place, "The ward, now"),
    column("sex", Of::Text, Kind::Plain, "As FHIR's administrative gender"),
    maybe("born", Of::Date, Kind::Born, "Date of birth"),
    column("enrolled_at", Of::Time, Kind::System, "When the patient was registered"),
];

const ASSIGNMENTS: &[Column] = &[
    column("device", Of::Text, Kind::Device, "The device"),
    PATIENT,
    column("from", Of::Time, Kind::System, "The device is the patient's in [from, until)"),
    maybe("until", Of::Time, Kind::System, "NULL: until further notice"),
    column("model", Of::Text, Kind::FreeText, "The device's model"),
    column("test", Of::Flag, Kind::Plain, "Under test now"),
];

const SETTINGS: &[Column] = &[
    PATIENT,
    column("version", Of::Int, Kind::Plain, "Counts up"),
    column("arrived_at", Of::Time, Kind::System, "From when on the engine had it"),
    column("monitored", Of::Flag, Kind::Plain, "Clinical rules look at the patient"),
    column("limits", Of::Text, Kind::Plain, "The patient's own limits, JSON: {\"spo2.low\": 88}"),
    maybe("oxygen_l_min", Of::Float, Kind::Plain, "Supplemental oxygen; 0 is on air, NULL unknown"),
    column("news2_scale", Of::Small, Kind::Plain, "1 or 2"),
    column("pauses", Of::Text, Kind::FreeText, "Pauses, JSON: from, until, reason"),
    column("expected_interval", Of::Text, Kind::Plain, "Seconds between readings, JSON by metric"),
    column("author", Of::Text, Kind::Staff, "Who decided it"),
];

const RULES: &[Column] = &[
    column("version", Of::Int, Kind::Plain, "Counts up"),
    column("activated_at", Of::Time, Kind::Plain, "When they were put into force"),
    column("author", Of::Text, Kind::Staff, "By whom"),
    column("toml", Of::Text, Kind::FreeText, "The rules as they were written"),
];

const FRONTIERS: &[Column] = &[PATIENT, METRIC, column("frontier", Of::Time, Kind::Time, "The newest time measured")];

impl Table {
    pub const ALL: [Self; 11] = [
        Self::Readings,
        Self::Voided,
        Self::Windows,
        Self::Alerts,
        Self::Wear,
        Self::Episodes,
        Self::Patients,
        Self::Assignments,
        Self::Settings,
        Self::Rules,
        Self::Frontiers,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Voided => "voided",
            Self::Windows => "windows",
            Self::Alerts => "alerts",
            Self::Wear => "wear",
            Self::Episodes => "episodes",
            Self::Patients => "patients",
            Self::Assignments => "assignments",
            Self::Settings => "settings",
            Self::Rules => "rules",
            Self::Frontiers => "frontiers",
        }
    }

    /// One sentence for who meets it.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Readings => "One row per reading: repetitions, voided ones and those that were moved away are not in it",
            Self::Voided => "Readings that were entered in error or moved to another patient",
            Self::Windows => "Closed windows of one patient and metric, in all their revisions",
            Self::Alerts => "Transitions of alerts: raised, cleared, amended, withdrawn",
            Self::Wear => "Wear time and completeness per patient, metric and hour",
            Self::Episodes => "Alerts from their raising to their end, with what people said of them",
            Self::Patients => "Who is watched; names and numbers are not in the lake",
            Self::Assignments => "Whose device it was when",
            Self::Settings => "What the care team decided for a patient, in every version",
            Self::Rules => "The rules, in every version",
            Self::Frontiers => "Where each patient's metric stood",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::public().find(|table| table.name() == name)
    }

    /// Those that analysts see.
    pub fn public() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|table| *table != Self::Frontiers)
    }

    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Readings => READINGS,
            Self::Voided => VOIDED,
            Self::Windows => WINDOWS,
            Self::Alerts => ALERTS,
            Self::Wear => WEAR,
            Self::Episodes => EPISODES,
            Self::Patients => PATIENTS,
            Self::Assignments => ASSIGNMENTS,
            Self::Settings => SETTINGS,
            Self::Rules => RULES,
            Self::Frontiers => FRONTIERS,
        }
    }

    /// With the field ids by which Iceberg and others tell columns apart, however they are called.
    pub fn schema(self) -> SchemaRef {
        let field = |(place, column): (usize, &Column)| {
            let id = [("PARQUET:field_id".to_owned(), (place + 1).to_string())];
            Field::new(column.name, column.data_type(), column.nullable).with_metadata(id.into())
        };
        let fields: Vec<Field> = self.columns().iter().enumerate().map(field).collect();
        Arc::new(Schema::new(fields).with_metadata([("vigil.schema_version".to_owned(), SCHEMA_VERSION.to_string())].into()))
    }
}
