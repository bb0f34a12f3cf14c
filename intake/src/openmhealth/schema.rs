//! What of the schemas must hold, in tables.

use schemas::Metric;

pub(super) struct Quantity {
    pub key: &'static str,
    pub metric: Metric,
    pub units: &'static [&'static str],
    pub required: bool,
}

pub(super) struct Version {
    pub name: &'static str,
    /// Whether `effective_time_frame` is required.
    pub timed: bool,
    /// Whether an interval may be a date and a part of the day.
    pub part_of_day: bool,
}

pub(super) struct Schema {
    pub name: &'static str,
    pub quantities: &'static [Quantity],
    /// The newest first.
    pub versions: &'static [Version],
}

const fn quantity(key: &'static str, metric: Metric, units: &'static [&'static str]) -> Quantity {
    Quantity { key, metric, units, required: true }
}

const fn version(name: &'static str, timed: bool, part_of_day: bool) -> Version {
    Version { name, timed, part_of_day }
}

pub(super) const STEPS: &str = "step_count";

pub(super) static SCHEMAS: [Schema; 8] = [
    Schema {
        name: "heart-rate",
        quantities: &[quantity("heart_rate", Metric::HeartRate, &["beats/min"])],
        versions: &[version("2.0", true, true), version("1.1", false, true), version("1.0", false, true)],
    },
    Schema {
        name: "blood-pressure",
        quantities: &[
            quantity("systolic_blood_pressure", Metric::SystolicPressure, &["mmHg"]),
            quantity("diastolic_blood_pressure", Metric::DiastolicPressure, &["mmHg"]),
        ],
        versions: &[
            version("4.0", true, false),
            version("3.1", true, true),
            version("3.0", true, true),
            version("2.0", false, true),
            version("1.0", false, true),
        ],
    },
    Schema {
        name: "oxygen-saturation",
        quantities: &[
            quantity("oxygen_saturation", Metric::Spo2, &["%"]),
            Quantity { key: "supplemental_oxygen_flow_rate", metric: Metric::OxygenFlow, units: &["L/min"], required: false },
        ],
        versions: &[version("2.0", true, true), version("1.0", false, true)],
    },
    Schema {
        name: "respiratory-rate",
        quantities: &[quantity("respiratory_rate", Metric::RespiratoryRate, &["breaths/min"])],
        versions: &[version("2.0", true, true), version("1.0", false, true)],
    },
    Schema {
        name: "body-temperature",
        quantities: &[quantity("body_temperature", Metric::Temperature, &["C", "F", "K"])],
        versions: &[version("4.0", true, false), version("3.0", true, true), version("2.0", false, true), version("1.0", false, true)],
    },
    Schema {
        name: "body-weight",
        quantities: &[quantity("body_weight", Metric::Weight, &["kg", "g", "lb", "oz"])],
        versions: &[version("3.0", true, false), version("2.0", true, true), version("1.0", false, true)],
    },
    Schema {
        name: "blood-glucose",
        quantities: &[quantity("blood_glucose", Metric::Glucose, &["mg/dL", "mmol/L"])],
        versions: &[version("4.0", true, false), version("3.0", true, true), version("2.0", false, true), version("1.0", false, true)],
    },
    Schema {
        name: "step-count",
        quantities: &[quantity(STEPS, Metric::Steps, &["steps"])],
        versions: &[version("3.0", true, true), version("2.0", true, true), version("1.0", false, true)],
    },
];

/// Words that the schemas allow. What is spelled otherwise is no document of theirs.
pub(super) const WORDS: [(&str, &[&str]); 11] = [
    ("temporal_relationship_to_physical_activity", &["at rest", "active", "before exercise", "after exercise", "during exercise"]),
    ("temporal_relationship_to_sleep", &["before sleeping", "during sleep", "on waking"]),
    (
        "temporal_relationship_to_meal",
        &[
            "fasting",
            "not fasting",
            "before meal",
            "after meal",
            "before breakfast",
            "after breakfast",
            "before lunch",
            "after lunch",
            "before dinner",
            "after dinner",
            "2 hours postprandial",
            "not related to meals",
            "with meal",
            "with food",
        ],
    ),
    ("position_during_measurement", &["sitting", "lying down", "standing"]),
    ("body_posture", &["sitting", "lying down", "standing", "semi-recumbent"]),
    ("blood_specimen_type", &["whole blood", "plasma", "serum"]),
    (
        "specimen_source",
        &["breath", "capillary blood", "interstitial fluid", "lacrimal fluid", "plasma", "saliva", "serum", "sweat", "tears", "urine", "whole blood"],
    ),
    ("system", &["peripheral capillary"]),
    ("measurement_method", &["pulse oximetry"]),
    ("oxygen_therapy_mode_of_administration", &["nasal cannula"]),
    ("modality", &["sensed", "self-reported"]),
];

/// Statistics that the schemas' own examples give for a value; they are stored as one.
pub(super) const OF_A_VALUE: [&str; 3] = ["average", "maximum", "minimum"];
pub(super) const STATISTICS: [&str; 14] = [
    "count",
    "median",
    "standard deviation",
    "sum",
    "variance",
    "20th percentile",
    "80th percentile",
    "lower quartile",
    "upper quartile",
    "quartile deviation",
    "1st quintile",
    "2nd quintile",
    "3rd quintile",
    "4th quintile",
];
