//! The lines of many rounds, as Markdown: the median of each, and how far apart they were.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::Value;

/// What is measured → what makes lines the same measurement, and the columns: heading and where it stands.
type Columns = &'static [(&'static str, &'static str)];
const TABLES: [(&str, &[&str], Columns); 5] = [
    (
        "throughput",
        &["system", "readings"],
        &[
            ("messages / CPU-s", "/messages_per_cpu_s"),
            ("readings / CPU-s", "/readings_per_cpu_s"),
            ("records / CPU-s", "/records_per_cpu_s"),
            ("landed messages / s", "/landed_per_s"),
            ("PUBACKs / s", "/acked_per_s"),
            ("missing", "/missing"),
            ("Kafka CPU-s", "/cpu_s/kafka"),
            ("load CPU-s", "/cpu_s/load"),
            ("other CPU-s", "/cpu_s/other"),
            ("peak MB", "/peak_mb"),
        ],
    ),
    (
        "latency",
        &["system", "readings", "rate"],
        &[("p50 ms", "/p50_ms"), ("p99 ms", "/p99_ms"), ("p99.9 ms", "/p999_ms"), ("max ms", "/max_ms"), ("other CPU-s", "/cpu_s/other")],
    ),
    (
        "windows",
        &["system", "patients", "readings"],
        &[
            ("readings / CPU-s", "/readings_per_cpu_s"),
            ("readings / s", "/readings_per_s"),
            ("windows", "/windows"),
            ("alerts", "/alerts"),
            ("Kafka CPU-s", "/cpu_s/kafka"),
            ("other CPU-s", "/cpu_s/other"),
            ("peak MB", "/peak_mb"),
        ],
    ),
    (
        "alerts",
        &["system", "rate"],
        &[("p50 ms", "/p50_ms"), ("p99 ms", "/p99_ms"), ("p99.9 ms", "/p999_ms"), ("max ms", "/max_ms"), ("other CPU-s", "/cpu_s/other")],
    ),
    ("loss", &["system", "killed", "rate"], &[("acknowledged", "/acked"), ("of these lost", "/lost"), ("duplicates", "/duplicates")]),
];

pub fn of(lines: &str) -> Result<String> {
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut text = String::new();
    for (what, same, columns) in TABLES {
        let mut groups: BTreeMap<Vec<String>, Vec<&Value>> = BTreeMap::new();
        for line in lines.iter().filter(|line| line["what"] == what) {
            groups.entry(same.iter().map(|member| label(&line[*member])).collect()).or_default().push(line);
        }
        if groups.is_empty() {
            continue;
        }
        let headings: Vec<&str> = same.iter().copied().chain(["rounds"]).chain(columns.iter().map(|(heading, _)| *heading)).collect();
        writeln!(text, "| {} |\n|{}", headings.join(" | "), "---|".repeat(headings.len()))?;
        for (labels, rounds) in groups {
            write!(text, "| {} | {} |", labels.join(" | "), rounds.len())?;
            for (_, pointer) in columns {
                write!(text, " {} |", spread(rounds.iter().filter_map(|line| line.pointer(pointer)?.as_f64()).collect()))?;
            }
            text.push('\n');
        }
        text.push('\n');
    }
    Ok(text)
}

fn label(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `median (least–most)`.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => "–".to_owned(),
        [first, .., last] if first != last => format!("{} ({}–{})", values[values.len() / 2], first, last),
        [first, ..] => first.to_string(),
    }
}
