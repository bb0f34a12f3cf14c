//! What can be measured: codes, units with their exact conversions, and the range outside of which a value cannot be true of a
//! living person at home.
//!
//! Codes: LOINC 2.8x and FHIR R4 vital signs; MDC are ISO/IEEE 11073-10101 (partition × 65536 + term); SNOMED CT are observable
//! entities, as Open mHealth and HL7's examples use them. Plausible ranges are bounds of
//! measurement, not of health: they are wide on purpose, because an implausible reading is refused and an abnormal one pages.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Acvpu;

/// A vital sign or what stands beside one. The numbers are on the wire: never change or reuse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Metric {
    HeartRate = 1,
    Spo2 = 2,
    RespiratoryRate = 3,
    Temperature = 4,
    SystolicPressure = 5,
    DiastolicPressure = 6,
    MeanPressure = 7,
    Weight = 8,
    Glucose = 9,
    Steps = 10,
    /// Supplemental oxygen: 0 is on air.
    OxygenFlow = 11,
    /// The number of an [`Acvpu`].
    Consciousness = 12,
    Battery = 13,
    /// No vital sign: 1 and 0 in turn, by which Vigil hears whether its own evaluation lives. No device may send it.
    Canary = 14,
}

/// Under which codes others know a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// LOINC; the first is the one we write.
    pub loinc: &'static [&'static str],
    /// UCUM unit of the values that we keep.
    pub ucum: &'static str,
    /// ISO/IEEE 11073-10101 (`urn:iso:std:iso:11073:10101`).
    pub mdc: &'static [u32],
    /// SNOMED CT.
    pub snomed: &'static [&'static str],
}

/// A unit that is accepted for a metric: `value × scale + shift` is in the metric's own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    pub name: &'static str,
    pub scale: f64,
    pub shift: f64,
}

const fn unit(name: &'static str) -> Unit {
    Unit { name, scale: 1.0, shift: 0.0 }
}

const fn scaled(name: &'static str, scale: f64) -> Unit {
    Unit { name, scale, shift: 0.0 }
}

/// What a conversion of units or the binary form of a decimal number may be off by, in the last digit that is shown.
const ROUNDING: f64 = 1e-9;

struct Entry {
    metric: Metric,
    name: &'static str,
    label: &'static str,
    codes: Codes,
    /// How a person writes the unit.
    display_unit: &'static str,
    decimals: u8,
    plausible: (f64, f64),
    units: &'static [Unit],
}

const PER_MINUTE: &[Unit] = &[unit("/min"), unit("bpm"), unit("beats/min"), unit("breaths/min"), unit("1/min"), unit("{beats}/min"), unit("{breaths}/min")];
const PERCENT: &[Unit] = &[unit("%")];
// 1 kPa = 7.500 615 758 mmHg (conventional millimetre of mercury, 133.322 387 415 Pa)
const PRESSURE: &[Unit] = &[unit("mm[Hg]"), unit("mmHg"), scaled("kPa", 1000.0 / 133.322_387_415), scaled("Pa", 1.0 / 133.322_387_415)];

// molar mass of glucose 180.156 g/mol
const MG_DL_PER_MMOL_L: f64 = 18.015_6;
/// No meter reads less: what is below is true of mmol/L.
const LEAST_MG_DL: f64 = 20.0;
/// No meter reads more: what is above is true of mg/dL.
const MOST_MMOL_L: f64 = 50.0;

static ENTRIES: [Entry; 14] = [
    Entry {
        metric: Metric::HeartRate,
        name: "heart_rate",
        label: "Heart rate",
        codes: Codes { loinc: &["8867-4", "8889-8"], ucum: "/min", mdc: &[147_842, 149_530, 149_546], snomed: &["364075005", "78564009"] },
        display_unit: "/min",
        decimals: 0,
        plausible: (10.0, 350.0),
        units: PER_MINUTE,
    },
    Entry {
        metric: Metric::Spo2,
        name: "spo2",
        label: "SpO₂",
        codes: Codes { loinc: &["59408-5", "2708-6"], ucum: "%", mdc: &[150_456], snomed: &["431314004"] },
        display_unit: "%",
        decimals: 0,
        plausible: (0.0, 100.0),
        units: PERCENT,
    },
    Entry {
        metric: Metric::RespiratoryRate,
        name: "respiratory_rate",
        label: "Respiratory rate",
        codes: Codes { loinc: &["9279-1"], ucum: "/min", mdc: &[151_562, 151_578, 151_658], snomed: &["86290005"] },
        display_unit: "/min",
        decimals: 0,
        plausible: (1.0, 120.0),
        units: PER_MINUTE,
    },
    Entry {
        metric: Metric::Temperature,
        name: "temperature",
        label: "Temperature",
        codes: Codes { loinc: &["8310-5", "8331-1"], ucum: "Cel", mdc: &[150_364, 188_424, 188_428, 188_452, 150_388], snomed: &["386725007"] },
        display_unit: "°C",
        decimals: 1,
        plausible: (20.0, 46.0),
        units: &[
            unit("Cel"),
            unit("°C"),
            unit("C"),
            Unit { name: "[degF]", scale: 5.0 / 9.0, shift: -160.0 / 9.0 },
            Unit { name: "°F", scale: 5.0 / 9.0, shift: -160.0 / 9.0 },
            Unit { name: "F", scale: 5.0 / 9.0, shift: -160.0 / 9.0 },
            Unit { name: "K", scale: 1.0, shift: -273.15 },
        ],
    },
    Entry {
        metric: Metric::SystolicPressure,
        name: "systolic_pressure",
        label: "Systolic pressure",
        codes: Codes { loinc: &["8480-6"], ucum: "mm[Hg]", mdc: &[150_021], snomed: &["271649006"] },
        display_unit: "mmHg",
        decimals: 0,
        plausible: (30.0, 320.0),
        units: PRESSURE,
    },
    Entry {
        metric: Metric::DiastolicPressure,
        name: "diastolic_pressure",
        label: "Diastolic pressure",
        codes: Codes { loinc: &["8462-4"], ucum: "mm[Hg]", mdc: &[150_022], snomed: &["271650006"] },
        display_unit: "mmHg",
        decimals: 0,
        plausible: (10.0, 250.0),
        units: PRESSURE,
    },
    Entry {
        metric: Metric::MeanPressure,
        name: "mean_pressure",
        label: "Mean pressure",
        codes: Codes { loinc: &["8478-0"], ucum: "mm[Hg]", mdc: &[150_023], snomed: &["6797001"] },
        display_unit: "mmHg",
        decimals: 0,
        plausible: (15.0, 280.0),
        units: PRESSURE,
    },
    Entry {
        metric: Metric::Weight,
        name: "weight",
        label: "Weight",
        codes: Codes { loinc: &["29463-7", "3141-9"], ucum: "kg", mdc: &[188_736], snomed: &["27113001"] },
        display_unit: "kg",
        decimals: 1,
        plausible: (0.3, 650.0),
        // avoirdupois: 1 lb = 0.453 592 37 kg = 16 oz, 1 stone = 14 lb
        units: &[
            unit("kg"),
            scaled("g", 0.001),
            scaled("[lb_av]", 0.453_592_37),
            scaled("lb", 0.453_592_37),
            scaled("[oz_av]", 0.453_592_37 / 16.0),
            scaled("oz", 0.453_592_37 / 16.0),
            scaled("[stone_av]", 0.453_592_37 * 14.0),
        ],
    },
    Entry {
        metric: Metric::Glucose,
        name: "glucose",
        label: "Glucose",
        codes: Codes { loinc: &["41653-7", "2339-0", "14743-9", "15074-8"], ucum: "mg/dL", mdc: &[160_184, 160_368], snomed: &["434912009"] },
        display_unit: "mg/dL",
        decimals: 0,
        plausible: (10.0, 1500.0),
        units: &[unit("mg/dL"), scaled("mmol/L", MG_DL_PER_MMOL_L), scaled("g/L", 100.0)],
    },
    Entry {
        metric: Metric::Steps,
        name: "steps",
        label: "Steps",
        codes: Codes { loinc: &["55423-8", "41950-7"], ucum: "{steps}", mdc: &[], snomed: &[] },
        display_unit: "steps",
        decimals: 0,
        plausible: (0.0, 200_000.0),
        units: &[unit("{steps}"), unit("steps"), unit("1")],
    },
    Entry {
        metric: Metric::OxygenFlow,
        name: "oxygen_flow",
        label: "Oxygen flow",
        codes: Codes { loinc: &["3151-8"], ucum: "L/min", mdc: &[], snomed: &[] },
        display_unit: "L/min",
        decimals: 1,
        plausible: (0.0, 80.0),
        units: &[unit("L/min"), unit("l/min")],
    },
    Entry {
        metric: Metric::Consciousness,
        name: "consciousness",
        label: "Consciousness",
        // the observable of NEWS2 is of SNOMED's UK edition; 80288-4 has a list of its own, of which only ACVPU's answers are read
        codes: Codes { loinc: &["67775-7", "80288-4"], ucum: "{ACVPU}", mdc: &[], snomed: &["1104441000000107"] },
        display_unit: "ACVPU",
        decimals: 0,
        plausible: (0.0, 4.0),
        units: &[unit("{ACVPU}"), unit("ACVPU")],
    },
    Entry {
        metric: Metric::Battery,
        name: "battery",
        label: "Battery",
        codes: Codes { loinc: &[], ucum: "%", mdc: &[67_996], snomed: &[] },
        display_unit: "%",
        decimals: 0,
        plausible: (0.0, 100.0),
        units: PERCENT,
    },
    Entry {
        metric: Metric::Canary,
        name: "canary",
        label: "Canary",
        codes: Codes { loinc: &[], ucum: "1", mdc: &[], snomed: &[] },
        display_unit: "",
        decimals: 0,
        plausible: (0.0, 1.0),
        units: &[unit("1")],
    },
];

/// The table stands in the order of the numbers: [`Metric::entry`] relies on it.
const _: () = {
    let mut at = 0;
    while at < ENTRIES.len() {
        assert!(ENTRIES[at].metric as usize == at + 1);
        at += 1;
    }
};

/// A value that cannot be taken for this metric. The text says what is expected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnitError {
    #[error("{metric} {value} {unit}; expected {expected}")]
    Unknown { metric: Metric, value: f64, unit: String, expected: String },
    /// A value that is true of another unit: SpO2 as a fraction.
    #[error("{metric} {value}; expected {expected}")]
    Mismatch { metric: Metric, value: f64, expected: String },
    #[error("{metric} {value} {unit}; expected {expected}")]
    Implausible { metric: Metric, value: f64, unit: String, expected: String },
    #[error("{metric} is not a number; leave the reading out when nothing was measured")]
    NotANumber { metric: Metric },
}

impl Metric {
    /// What can be measured: all but the canary.
    pub const ALL: [Self; 13] = [
        Self::HeartRate,
        Self::Spo2,
        Self::RespiratoryRate,
        Self::Temperature,
        Self::SystolicPressure,
        Self::DiastolicPressure,
        Self::MeanPressure,
        Self::Weight,
        Self::Glucose,
        Self::Steps,
        Self::OxygenFlow,
        Self::Consciousness,
        Self::Battery,
    ];

    fn entry(self) -> &'static Entry {
        &ENTRIES[self as usize - 1]
    }
    /// The word in topics, payloads and rules: `spo2`.
    pub fn name(self) -> &'static str {
        self.entry().name
    }
    /// For people: `SpO₂`.
    pub fn label(self) -> &'static str {
        self.entry().label
    }
    pub fn codes(self) -> Codes {
        self.entry().codes
    }
    /// How a person writes the unit: `mmHg`.
    pub fn display_unit(self) -> &'static str {
        self.entry().display_unit
    }
    /// Digits after the point, wherever a value is shown.
    pub fn decimals(self) -> u8 {
        self.entry().decimals
    }
    /// Rounded half up to the metric's digits, as a person rounds the decimal number: 38.05 is 38.1, whatever its nearest binary fraction is.
    pub fn rounded(self, value: f64) -> f64 {
        let scale = 10_f64.powi(i32::from(self.decimals()));
        (value * scale + 0.5 + ROUNDING).floor() / scale
    }
    /// For people, without the unit: `84`, `38.1`, `A`.
    pub fn text(self, value: f64) -> String {
        match Acvpu::from_value(value) {
            Some(level) if self == Self::Consciousness => level.to_string(),
            _ => format!("{:.*}", usize::from(self.decimals()), self.rounded(value)),
        }
    }
    /// Bounds of measurement, inclusive, in the metric's own unit.
    pub fn plausible(self) -> (f64, f64) {
        self.entry().plausible
    }
    /// Units that are accepted; the first is the metric's own.
    pub fn units(self) -> &'static [Unit] {
        self.entry().units
    }
    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }
    pub fn from_number(number: u32) -> Option<Self> {
        if number == Self::Canary.number() { Some(Self::Canary) } else { Self::ALL.get((number as usize).checked_sub(1)?).copied() }
    }
    pub fn from_loinc(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.codes().loinc.contains(&code))
    }
    pub fn from_mdc(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.codes().mdc.contains(&code))
    }

    pub fn from_snomed(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.codes().snomed.contains(&code))
    }

    /// The one unit that a LOINC code allows: a concentration by mass is not one by amount of substance.
    pub fn unit_of_loinc(code: &str) -> Option<&'static str> {
        match code {
            "2339-0" | "41653-7" => Some("mg/dL"),
            "15074-8" | "14743-9" => Some("mmol/L"),
            _ => None,
        }
    }

    fn expected(self) -> String {
        let (low, high) = self.plausible();
        format!("{} between {low} and {high}", self.codes().ucum)
    }

    /// A value in `unit`, in the metric's own unit; an absent unit is the metric's own.
    pub fn convert(self, value: f64, unit: Option<&str>) -> Result<f64, UnitError> {
        if !value.is_finite() {
            return Err(UnitError::NotANumber { metric: self });
        }
        let own = self.units()[0];
        let unit = match unit {
            None => own,
            Some(name) => *self.units().iter().find(|unit| unit.name == name).ok_or_else(|| UnitError::Unknown {
                metric: self,
                value,
                unit: name.chars().take(32).collect(),
                expected: format!("one of {}", self.units().iter().map(|unit| unit.name).collect::<Vec<_>>().join(", ")),
            })?,
        };
        // a fraction where a percentage belongs: 0.96 is plausible as 0.96 %, and never true
        if self == Self::Spo2 && value > 0.0 && value <= 1.0 {
            return Err(UnitError::Mismatch { metric: self, value, expected: self.expected() });
        }
        if self == Self::Glucose {
            let other = match unit.name {
                "mg/dL" if value > 0.0 && value < LEAST_MG_DL => Some(format!("at least {LEAST_MG_DL} mg/dL; this is true of mmol/L")),
                "mmol/L" if value > MOST_MMOL_L => Some(format!("at most {MOST_MMOL_L} mmol/L; this is true of mg/dL")),
                _ => None,
            };
            if let Some(expected) = other {
                return Err(UnitError::Mismatch { metric: self, value, expected });
            }
        }
        let converted = if unit.scale == 1.0 && unit.shift == 0.0 { value } else { value * unit.scale + unit.shift };
        let (low, high) = self.plausible();
        if !(low..=high).contains(&converted) {
            return Err(UnitError::Implausible { metric: self, value, unit: unit.name.to_owned(), expected: self.expected() });
        }
        if self == Self::Consciousness && converted.fract() != 0.0 {
            return Err(UnitError::Implausible {
                metric: self,
                value,
                unit: unit.name.to_owned(),
                expected: "0 alert, 1 confused, 2 voice, 3 pain or 4 unresponsive".to_owned(),
            });
        }
        Ok(converted)
    }

    /// The closest known name, for an error: `spo` → `spo2`.
    pub fn nearest(word: &str) -> Option<Self> {
        let distance = |name: &str| edit_distance(word, name);
        Self::ALL
            .into_iter()
            .map(|metric| (distance(metric.name()), metric))
            .min_by_key(|(d, _)| *d)
            .filter(|(d, metric)| *d <= 1 + metric.name().len() / 3)
            .map(|(_, metric)| metric)
    }
}

/// Levenshtein's, for words of a few letters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMetric(pub String);

impl fmt::Display for UnknownMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a metric", self.0)?;
        match Metric::nearest(&self.0) {
            Some(metric) => write!(f, "; did you mean {metric}?"),
            None => write!(f, "; known are {}", Metric::ALL.map(Metric::name).join(", ")),
        }
    }
}

impl std::error::Error for UnknownMetric {}

impl FromStr for Metric {
    type Err = UnknownMetric;
    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        Self::ALL.into_iter().chain([Self::Canary]).find(|metric| metric.name() == text).ok_or_else(|| UnknownMetric(text.chars().take(32).collect()))
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_units_agree() {
        for metric in Metric::ALL.into_iter().chain([Metric::Canary]) {
            assert_eq!(Metric::from_number(metric.number()), Some(metric));
            assert_eq!(metric.name().parse(), Ok(metric));
            assert_eq!(metric.units()[0].name, metric.codes().ucum);
        }
        assert_eq!([Metric::from_snomed("271650006"), Metric::from_loinc("3141-9")], [Some(Metric::DiastolicPressure), Some(Metric::Weight)]);
        assert_eq!(Metric::from_number(0), None);
        assert_eq!(Metric::from_number(15), None);
    }

    /// LOINC's check digit is mod 10 over the digits before the dash (Luhn).
    #[test]
    fn loinc_check_digits_hold() {
        for code in Metric::ALL.iter().flat_map(|metric| metric.codes().loinc) {
            let (digits, check) = code.split_once('-').unwrap();
            let odd: String = digits.chars().rev().step_by(2).collect::<Vec<_>>().into_iter().rev().collect();
            let even: String = digits.chars().rev().skip(1).step_by(2).collect::<Vec<_>>().into_iter().rev().collect();
            let joined = format!("{even}{}", odd.parse::<u64>().unwrap() * 2);
            let sum: u32 = joined.chars().map(|c| c.to_digit(10).unwrap()).sum();
            assert_eq!((10 - sum % 10) % 10, check.parse::<u32>().unwrap(), "{code}");
        }
    }

    #[test]
    fn conversions_are_exact_where_the_unit_is() {
        for (metric, value, unit, expected) in [
            (Metric::Temperature, 98.6, "[degF]", 37.0),
            (Metric::Weight, 150.0, "[lb_av]", 68.038_855_5),
            (Metric::Glucose, 5.5, "mmol/L", 99.085_8),
            (Metric::SystolicPressure, 16.0, "kPa", 120.009_852_1),
            (Metric::Spo2, 84.0, "%", 84.0),
            (Metric::Temperature, 310.15, "K", 37.0),
            (Metric::Weight, 11.0, "[stone_av]", 69.853_224_98),
            (Metric::Weight, 2400.0, "[oz_av]", 68.038_855_5),
            (Metric::Glucose, 0.99, "g/L", 99.0),
            (Metric::MeanPressure, 12_000.0, "Pa", 90.007_389_1),
        ] {
            let got = metric.convert(value, Some(unit)).unwrap();
            assert!((got - expected).abs() < 1e-6, "{metric} {value} {unit}: {got}");
        }
    }

    #[test]
    fn values_are_rounded_as_decimal_numbers_half_up() {
        for (metric, value, text) in [
            (Metric::Temperature, 38.05, "38.1"),
            (Metric::Temperature, 38.049_999, "38.0"),
            (Metric::Temperature, 35.05, "35.1"),
            (Metric::Temperature, 36.15, "36.2"),
            (Metric::Spo2, 91.5, "92"),
            (Metric::Spo2, 91.499_999, "91"),
            (Metric::HeartRate, 130.5, "131"),
            (Metric::Consciousness, 0.0, "A"),
            (Metric::Consciousness, 4.0, "U"),
            (Metric::OxygenFlow, 2.0, "2.0"),
            (Metric::Spo2, 84.5, "85"),
            (Metric::Temperature, 37.25, "37.3"),
            (Metric::Steps, 0.0, "0"),
        ] {
            assert_eq!(metric.text(value), text, "{metric} {value}");
        }
        // every half of a tenth that a thermometer can show
        for tenths in 200..460 {
            let half = f64::from(tenths) / 10.0 + 0.05;
            assert_eq!(Metric::Temperature.rounded(half), f64::from(tenths + 1) / 10.0, "{half}");
        }
        let from_fahrenheit = Metric::Temperature.convert(100.4, Some("[degF]")).unwrap();
        assert_eq!(Metric::Temperature.rounded(from_fahrenheit), 38.0);
    }

    #[test]
    fn what_cannot_be_true_says_what_to_change() {
        for (metric, value, unit, text) in [
            (Metric::Spo2, 0.96, None, "spo2 0.96; expected % between 0 and 100"),
            (Metric::Spo2, 104.0, Some("%"), "spo2 104 %; expected % between 0 and 100"),
            (Metric::HeartRate, 72.0, Some("Hz"), "heart_rate 72 Hz; expected one of /min, bpm, beats/min, breaths/min, 1/min, {beats}/min, {breaths}/min"),
            (Metric::Glucose, 5.5, Some("mg/dL"), "glucose 5.5; expected at least 20 mg/dL; this is true of mmol/L"),
            (Metric::Glucose, 99.0, Some("mmol/L"), "glucose 99; expected at most 50 mmol/L; this is true of mg/dL"),
            (Metric::Temperature, f64::NAN, None, "temperature is not a number; leave the reading out when nothing was measured"),
        ] {
            assert_eq!(metric.convert(value, unit).unwrap_err().to_string(), text);
        }
        assert_eq!("spo".parse::<Metric>().unwrap_err().to_string(), "`spo` is not a metric; did you mean spo2?");
    }
}
