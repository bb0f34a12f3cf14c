//! `vigil rule sweep`: where a threshold should lie, and how long it should hold.

mod page;
mod plot;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use processor::backtest::{Grid, Point, Sweep as Swept};
use schemas::{Micros, RuleId};

use super::history::{History, span};
use super::rule;
use crate::exit::Usage;
use crate::installation::micros;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub struct Sweep {
    /// The file that holds the rule
    rules: PathBuf,
    /// The rule, which is tried alone
    #[arg(long)]
    rule: RuleId,
    /// The limit that is varied, from..to:step or a,b,c: spo2.low=85..92:1
    #[arg(long)]
    limit: String,
    /// For how long it must hold: 0s,1min,5min
    #[arg(long, default_value = "0s,1min,5min")]
    hold: String,
    #[command(flatten)]
    history: History,
    /// Prints the grid as CSV
    #[arg(long)]
    csv: bool,
    /// Writes a page with plots here; it needs nothing from elsewhere
    #[arg(long)]
    html: Option<PathBuf>,
}

pub async fn run(args: Sweep) -> anyhow::Result<()> {
    let (toml, _) = rule::read(&args.rules)?;
    let (limit, thresholds) = thresholds(&args.limit)?;
    let holds = args.hold.split(',').map(|hold| span("--hold", hold).map(micros)).collect::<Result<Vec<_>, _>>()?;
    let grid = Grid { rule: args.rule.clone(), limit, thresholds, holds };
    let opened = args.history.open().await?;
    let swept = opened.run("rule sweep", move |objects, plan, question, progress| grid.sweep(objects, plan, question, &toml, progress)).await?;
    if let Some(store) = &opened.store {
        store.close().await;
    }
    if let Some(file) = &args.html {
        std::fs::write(file, page::page(&swept)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut out = io::stdout().lock();
    if args.csv {
        return csv(&swept, out);
    }
    match output::format() {
        Format::Table => Ok(write(&swept, &mut out)?),
        Format::Ndjson => Ok(writeln!(out, "{}", serde_json::to_string(&swept)?)?),
        Format::Json => Ok(writeln!(out, "{}", serde_json::to_string_pretty(&swept)?)?),
    }
}

/// `spo2.low=85..92:1`, both ends included, or `spo2.low=85,88,90`.
fn thresholds(text: &str) -> Result<(String, Vec<f64>), Usage> {
    let wrong = || Usage(format!("--limit {text}: write name=from..to:step or name=a,b,c, such as spo2.low=85..92:1"));
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong);
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let Some((from, rest)) = values.split_once("..") else {
        return Ok((name.to_owned(), values.split(',').map(number).collect::<Result<_, _>>()?));
    };
    let (to, step) = rest.split_once(':').unwrap_or((rest, "1"));
    let (from, to, step) = (number(from)?, number(to)?, number(step)?);
    if step <= 0.0 || to < from || (to - from) / step > 1000.0 {
        return Err(wrong());
    }
    // counted, so that no error adds up
    let steps = ((to - from) / step + 1e-9).floor() as u64;
    let rounded = |value: f64| (value * 1e9).round() / 1e9;
    Ok((name.to_owned(), (0..=steps).map(|n| rounded(from + n as f64 * step)).collect()))
}

/// Its distinct values, in the order of the grid.
fn distinct<T: PartialEq + Copy>(points: &[Point], of: impl Fn(&Point) -> T) -> Vec<T> {
    let mut values = Vec::new();
    for value in points.iter().map(of) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

fn hold(seconds: i64) -> String {
    Micros::seconds(seconds).to_string()
}

/// What is known of each point: its name, and how it is shown.
type Shown = (&'static str, fn(&Point) -> String);

fn shown(swept: &Swept) -> Vec<Shown> {
    let mut shown: Vec<Shown> = vec![("alerts per patient-day", |point| format!("{:.2}", point.per_patient_day))];
    if swept.events.is_some() {
        shown.push(("events detected", |point| point.detected.map_or_else(|| "–".to_owned(), |n| n.to_string())));
        shown.push(("median lead (h)", |point| point.median_lead_hours.map_or_else(|| "–".to_owned(), |lead| format!("{lead:.1}"))));
        shown.push(("false alerts per patient-day", |point| point.false_per_patient_day.map_or_else(|| "–".to_owned(), |n| format!("{n:.2}"))));
    }
    shown
}

fn write(swept: &Swept, out: &mut impl Write) -> io::Result<()> {
    let data = &swept.data;
    writeln!(
        out,
        "{} alone, {} varied, over {} readings of {} patients, {} patient-days",
        swept.rule, swept.limit, data.readings, data.patients, data.patient_days
    )?;
    if let (Some(events), Some(window)) = (swept.events, swept.window_hours) {
        writeln!(out, "{events} events; an alert is about one within {window} h before it")?;
    }
    let holds = distinct(&swept.points, |point| point.hold_s);
    for (name, say) in shown(swept) {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_header(std::iter::once(swept.limit.clone()).chain(holds.iter().map(|seconds| format!("held {}", hold(*seconds)))));
        for row in swept.points.chunks(holds.len().max(1)) {
            let threshold = row.first().map(|point| point.threshold.to_string()).unwrap_or_default();
            table.add_row(std::iter::once(threshold).chain(row.iter().map(say)));
        }
        writeln!(out, "\n{name}\n{table}")?;
    }
    Ok(())
}

fn csv(swept: &Swept, out: impl Write) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record([
        "rule",
        "limit",
        "threshold",
        "hold_s",
        "alerts",
        "per_patient_day",
        "pages_per_patient_day",
        "events",
        "detected",
        "median_lead_hours",
        "false_per_patient_day",
    ])?;
    let text = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let count = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    for point in &swept.points {
        csv.write_record([
            swept.rule.to_string(),
            swept.limit.clone(),
            point.threshold.to_string(),
            point.hold_s.to_string(),
            point.alerts.to_string(),
            point.per_patient_day.to_string(),
            point.pages_per_patient_day.to_string(),
            count(swept.events),
            count(point.detected),
            text(point.median_lead_hours),
            text(point.false_per_patient_day),
        ])?;
    }
    Ok(csv.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_ranges_or_lists() {
        let values = |text: &str| thresholds(text).map(|(name, values)| (name, format!("{values:?}"))).map_err(|error| error.to_string());
        for (text, name, expected) in [
            ("spo2.low=85..88:1", "spo2.low", "[85.0, 86.0, 87.0, 88.0]"),
            ("t=36..36.5:0.1", "t", "[36.0, 36.1, 36.2, 36.3, 36.4, 36.5]"),
            ("a=1..4:2", "a", "[1.0, 3.0]"),
            ("a=1..2", "a", "[1.0, 2.0]"),
            ("a=90,85.5", "a", "[90.0, 85.5]"),
        ] {
            assert_eq!(values(text), Ok((name.to_owned(), expected.to_owned())), "{text}");
        }
        for text in ["spo2.low", "a=", "a=1..0", "a=1..2:0", "a=1..2:-1", "a=x", "a=0..1:0.0001", "a=inf"] {
            assert!(values(text).unwrap_err().contains("spo2.low=85..92:1"), "{text}");
        }
    }
}
