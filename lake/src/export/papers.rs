//! What lies beside the data: the dictionary, the manifest and the README.

use schemas::{EventTime, Metric};
use serde::Serialize;

use super::anonymity::Anonymity;
use super::identity::{Cohort, Profile};
use super::{Form, Request};
use crate::manifest::Manifest;
use crate::tables::Table;

/// A file of data as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub table: String,
    pub file: String,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
    #[serde(skip)]
    pub columns: Vec<Described>,
}

/// A column as the dictionary describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub of: String,
    pub what: String,
}

/// What the export is and who answers for it.
#[derive(Clone, Debug, Serialize)]
pub struct Slip {
    format: u32,
    project: String,
    profile: Profile,
    purpose: String,
    requester: String,
    approver: String,
    /// Only the year when times are not told.
    created: String,
    vigil: String,
    /// Of the lake: the same version and request make the same content.
    version: u64,
    version_content: String,
    schema_version: u32,
    rules_version: Option<i64>,
    patients: usize,
    cohort: &'static str,
    from: Option<String>,
    until: Option<String>,
    metrics: Vec<String>,
    form: Form,
    #[serde(skip_serializing_if = "Option::is_none")]
    every_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gaps: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anonymity: Option<Anonymity>,
    pub files: Vec<Exported>,
    /// SHA-256 over name, rows and digest of every file.
    pub content: String,
}

impl Slip {
    pub fn new(request: &Request, manifest: &Manifest, patients: usize, anonymity: Option<Anonymity>, files: Vec<Exported>) -> Self {
        let told = |at: EventTime| if request.through.profile == Profile::SafeHarbor { at.to_string().chars().take(4).collect() } else { at.to_string() };
        let lines: String = files.iter().map(|file| format!("{} {} {}\n", file.file, file.rows, file.sha256)).collect();
        Self {
            format: 1,
            project: request.project.clone(),
            profile: request.through.profile,
            purpose: request.purpose.clone(),
            requester: request.requester.clone(),
            approver: request.approver.clone(),
            created: told(request.now),
            vigil: env!("CARGO_PKG_VERSION").to_owned(),
            version: manifest.version,
            version_content: manifest.content.clone(),
            schema_version: manifest.schema_version,
            rules_version: manifest.rules_version,
            patients,
            cohort: match request.cohort {
                Cohort::All => "all",
                Cohort::Ward(_) => "of one ward",
                Cohort::Patients(_) => "listed",
            },
            from: request.through.from.map(told),
            until: request.through.until.map(told),
            metrics: request.through.metrics.iter().map(|metric| metric.name().to_owned()).collect(),
            form: request.form,
            every_s: request.every.map(|every| every.step.0 as f64 / 1e6),
            gaps: request.every.map(|every| every.gaps.what()),
            anonymity,
            content: crate::file::sha256(lines.as_bytes()),
            files,
        }
    }

    /// For a person who finds the folder.
    pub fn readme(&self) -> String {
        let mut text = format!("# {}\n\n{}\n\n", self.project, self.profile.what());
        text += &format!(
            "Purpose: {}. Requested by {}, approved by {}.\n\n{} patients, version {} of the lake; manifest.json has the rest. Columns: dictionary.md, dictionary.csv.\n\n| file | table | rows |\n|---|---|---|\n",
            self.purpose, self.requester, self.approver, self.patients, self.version
        );
        for file in &self.files {
            text += &format!("| {} | {} | {} |\n", file.file, file.table, file.rows);
        }
        text.push_str("\nReadings that were voided or came from a device under test are not here; one that was corrected has its last value.\n");
        if let (Some(every), Some(gaps)) = (self.every_s, &self.gaps) {
            text += &format!("\nReadings are resampled to steps of {every} s, each from its beginning on: {gaps}.\n");
        }
        if self.profile == Profile::SafeHarbor {
            text.push_str(
                "\nNot addressed: a series of readings is itself unlike any other. Who knows some of a patient's readings and their times can find the rest. Whoever knows when this was made, \
                 and that a patient was watched until then, knows the patient's first day: end the period earlier when that matters.\n",
            );
        }
        if self.profile == Profile::ExpertDetermination {
            text.push_str("\nNot addressed: a series of readings is itself unlike any other. k-anonymity.json speaks of the table patients alone; the expert judges the rest.\n");
        }
        text
    }
}

/// The columns of every file, and the metrics with their codes.
pub fn dictionary(files: &[Exported]) -> (String, String) {
    let mut rows = vec![["file", "column", "type", "unit (UCUM)", "LOINC", "meaning"].map(str::to_owned)];
    for file in files {
        for column in &file.columns {
            let metric = Metric::ALL.into_iter().find(|metric| metric.name() == column.name);
            let (unit, loinc) = metric.map(codes).unwrap_or_default();
            rows.push([file.file.clone(), column.name.clone(), column.of.clone(), unit, loinc, column.what.clone()]);
        }
    }
    // what stands in a column `metric`
    for metric in Metric::ALL.into_iter().filter(|metric| *metric != Metric::Canary) {
        let (unit, loinc) = codes(metric);
        rows.push(["*".to_owned(), format!("metric = {}", metric.name()), "Float64".to_owned(), unit, loinc, format!("Value of the metric {}", metric.name())]);
    }
    let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
    let csv = rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n").collect();
    let mut markdown = String::from("# Data dictionary\n\nTimes are microseconds, UTC.\n\n");
    for (place, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        markdown += &format!("| {} |\n", cells.join(" | "));
        if place == 0 {
            markdown.push_str("|---|---|---|---|---|---|\n");
        }
    }
    (csv, markdown)
}

fn codes(metric: Metric) -> (String, String) {
    (metric.codes().ucum.to_owned(), metric.codes().loinc.first().copied().unwrap_or_default().to_owned())
}

/// The tables an export may have.
pub fn known(profile: Profile) -> Vec<Table> {
    Table::public().filter(|table| super::identity::columns(profile, *table).is_some()).collect()
}
