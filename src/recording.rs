//! Recorded vitals, as devices would have sent them.
//!
//! Two shapes are read, told apart by the header: Vigil's own (`patient,device,metric,value,unit,measured_at,stored_at`) and the
//! `CHARTEVENTS` of MIMIC-III. What has no metric of ours keeps its own name and unit, so that the gateway says so: nothing is left out here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail};
use schemas::{EventTime, Micros};

/// One recorded value.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub patient: String,
    pub device: String,
    pub metric: String,
    pub value: Option<f64>,
    pub unit: Option<&'static str>,
    pub measured_at: EventTime,
    /// When it was sent: a recording has its own lateness.
    pub stored_at: EventTime,
}

/// MIMIC-III item → which device of the patient, metric, unit. Items of D_ITEMS; units as charted ("insp/min" is breaths per minute).
const ITEMS: &[(u32, &str, &str, &str)] = &[
    (211, "monitor", "heart_rate", "/min"),
    (220_045, "monitor", "heart_rate", "/min"),
    (646, "oximeter", "spo2", "%"),
    (220_277, "oximeter", "spo2", "%"),
    (618, "monitor", "respiratory_rate", "/min"),
    (220_210, "monitor", "respiratory_rate", "/min"),
    (615, "ventilator", "respiratory_rate", "/min"),
    (224_690, "ventilator", "respiratory_rate", "/min"),
    (51, "arterial", "systolic_pressure", "mm[Hg]"),
    (8368, "arterial", "diastolic_pressure", "mm[Hg]"),
    (52, "arterial", "mean_pressure", "mm[Hg]"),
    (220_050, "arterial", "systolic_pressure", "mm[Hg]"),
    (220_051, "arterial", "diastolic_pressure", "mm[Hg]"),
    (220_052, "arterial", "mean_pressure", "mm[Hg]"),
    (225_312, "arterial-2", "mean_pressure", "mm[Hg]"),
    (6701, "arterial-2", "systolic_pressure", "mm[Hg]"),
    (8555, "arterial-2", "diastolic_pressure", "mm[Hg]"),
    (6702, "arterial-2", "mean_pressure", "mm[Hg]"),
    (455, "cuff", "systolic_pressure", "mm[Hg]"),
    (8441, "cuff", "diastolic_pressure", "mm[Hg]"),
    (456, "cuff", "mean_pressure", "mm[Hg]"),
    (220_179, "cuff", "systolic_pressure", "mm[Hg]"),
    (220_180, "cuff", "diastolic_pressure", "mm[Hg]"),
    (220_181, "cuff", "mean_pressure", "mm[Hg]"),
    (442, "manual-cuff", "systolic_pressure", "mm[Hg]"),
    (8440, "manual-cuff", "diastolic_pressure", "mm[Hg]"),
    (443, "manual-cuff", "mean_pressure", "mm[Hg]"),
    (676, "thermometer", "temperature", "Cel"),
    (223_762, "thermometer", "temperature", "Cel"),
    (678, "thermometer", "temperature", "[degF]"),
    (223_761, "thermometer", "temperature", "[degF]"),
    (763, "scale", "weight", "kg"),
    (224_639, "scale", "weight", "kg"),
    (226_512, "admission-scale", "weight", "kg"),
    (807, "glucometer", "glucose", "mg/dL"),
    (225_664, "glucometer", "glucose", "mg/dL"),
    (811, "laboratory", "glucose", "mg/dL"),
    (1529, "laboratory-2", "glucose", "mg/dL"),
    (220_621, "laboratory", "glucose", "mg/dL"),
    (226_537, "blood-gas", "glucose", "mg/dL"),
    (223_834, "flowmeter", "oxygen_flow", "L/min"),
];

/// All values of a file (plain or gzip), in the order in which they were sent.
pub fn read(path: &Path) -> anyhow::Result<Vec<Recorded>> {
    let file = File::open(path).with_context(|| format!("cannot open the recording {}", path.display()))?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|ending| ending == "gz") {
        Box::new(flate2::read::GzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    parse(reader).with_context(|| format!("{} is not a recording that Vigil reads", path.display()))
}

fn parse(reader: impl Read) -> anyhow::Result<Vec<Recorded>> {
    let mut csv = csv::Reader::from_reader(reader);
    let header: HashMap<String, usize> = csv.headers()?.iter().enumerate().map(|(at, name)| (name.to_owned(), at)).collect();
    let column = |name: &str| header.get(name).copied().with_context(|| format!("column `{name}` is missing"));
    let mut rows = Vec::new();
    if header.contains_key("itemid") {
        let items: HashMap<u32, _> = ITEMS.iter().map(|(item, device, metric, unit)| (*item, (*device, *metric, *unit))).collect();
        let (subject, item, label, charted, stored, value) =
            (column("subject_id")?, column("itemid")?, column("label")?, column("charttime")?, column("storetime")?, column("valuenum")?);
        for row in csv.records() {
            let row = row?;
            let number: u32 = row[item].parse().with_context(|| format!("itemid `{}`", &row[item]))?;
            let measured_at = EventTime::parse(&row[charted])?;
            let (device, metric, unit) = match items.get(&number) {
                Some((device, metric, unit)) => (*device, (*metric).to_owned(), Some(*unit)),
                None => ("chart", row[label].to_owned(), None),
            };
            rows.push(Recorded {
                patient: format!("mimic-{}", &row[subject]),
                device: format!("mimic-{}-{device}", &row[subject]),
                metric,
                value: row[value].parse().ok(),
                unit,
                measured_at,
                stored_at: if row[stored].is_empty() { measured_at } else { EventTime::parse(&row[stored])? },
            });
        }
    } else if header.contains_key("measured_at") {
        let (patient, device, metric, value, unit, measured, stored) =
            (column("patient")?, column("device")?, column("metric")?, column("value")?, column("unit")?, column("measured_at")?, column("stored_at")?);
        for row in csv.records() {
            let row = row?;
            let known: schemas::Metric = row[metric].parse().map_err(|error: schemas::UnknownMetric| anyhow::anyhow!("{error}"))?;
            let named = known.units().iter().find(|known| known.name == &row[unit]);
            rows.push(Recorded {
                patient: row[patient].to_owned(),
                device: row[device].to_owned(),
                metric: row[metric].to_owned(),
                value: row[value].parse().ok(),
                unit: named.map(|unit| unit.name),
                measured_at: EventTime::parse(&row[measured])?,
                stored_at: EventTime::parse(&row[stored])?,
            });
        }
    } else {
        bail!("the header names neither `measured_at` (Vigil) nor `itemid` (MIMIC-III)");
    }
    rows.sort_by_key(|row| row.stored_at);
    Ok(rows)
}

/// Moves every patient's record so that its last value was sent at `end`: recordings carry shifted dates, and a gateway rightly
/// corrects a stamp from the future. Lateness, order and gaps stay as they were.
pub fn shift_to(rows: &mut [Recorded], end: EventTime) {
    let mut last: HashMap<&str, EventTime> = HashMap::new();
    for row in rows.iter() {
        let newest = last.entry(&row.patient).or_insert(EventTime::MIN);
        *newest = (*newest).max(row.stored_at).max(row.measured_at);
    }
    let shifts: HashMap<String, Micros> = last.into_iter().map(|(patient, newest)| (patient.to_owned(), end - newest)).collect();
    for row in rows.iter_mut() {
        let shift = shifts.get(&row.patient).copied().unwrap_or_default();
        row.measured_at = row.measured_at + shift;
        row.stored_at = row.stored_at + shift;
    }
    rows.sort_by_key(|row| row.stored_at);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIMIC: &str = "row_id,subject_id,itemid,label,charttime,storetime,valuenum\n\
        1,7,220277,O2 saturation,2102-08-31T17:00:00Z,2102-08-31T17:15:00Z,91\n\
        2,7,220045,Heart Rate,2102-08-31T17:10:00Z,2102-08-31T17:11:00Z,88\n\
        3,8,198,GCS Total,2150-01-01T00:00:00Z,,15\n";

    #[test]
    fn a_recording_is_played_in_the_order_it_was_stored_with_its_lateness() {
        let mut rows = parse(MIMIC.as_bytes()).unwrap();
        shift_to(&mut rows, EventTime::parse("2026-01-01T00:00:00Z").unwrap());
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.device.as_str(), row.metric.as_str(), row.measured_at.to_string(), (row.stored_at - row.measured_at).to_string()))
            .collect();
        assert_eq!(
            seen,
            [
                ("mimic-7-monitor", "heart_rate", "2025-12-31T23:55:00Z".to_owned(), "1 min".to_owned()),
                ("mimic-7-oximeter", "spo2", "2025-12-31T23:45:00Z".to_owned(), "15 min".to_owned()),
                ("mimic-8-chart", "GCS Total", "2026-01-01T00:00:00Z".to_owned(), "0 s".to_owned()),
            ]
        );
    }

    #[test]
    fn a_file_of_another_shape_says_what_is_missing() {
        assert!(parse("a,b\n1,2\n".as_bytes()).unwrap_err().to_string().contains("measured_at"));
        assert!(parse("itemid,label\n".as_bytes()).unwrap_err().to_string().contains("`subject_id` is missing"));
    }
}
