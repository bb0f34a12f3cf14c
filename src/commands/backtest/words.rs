//! A report as people read it, and as a spreadsheet does.

use std::io::{self, Write};

use processor::backtest::{Burden, Detection, Differences, Report, Side};
use schemas::{Priority, RuleId};

pub const fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
    }
}

/// Sides in columns: what is tried, and what it is held against.
pub fn write(report: &Report, recorded: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    let data = &report.data;
    writeln!(out, "data      {} readings of {} patients, {} patient-days, in {} files", data.readings, data.patients, data.patient_days, data.files)?;
    writeln!(out, "arrived   {} to {}", data.first_arrived, data.last_arrived)?;
    let from = report.period.from.map_or_else(|| "the lake's beginning".to_owned(), |from| from.to_string());
    let to = report.period.to.map_or_else(|| "the lake's end".to_owned(), |to| to.to_string());
    writeln!(out, "counted   from {from} to {to}")?;
    writeln!(out, "hashes    rules {}, data {}, engine {}", rules_of(&report.trial), short(&data.hash), report.engine)?;
    if let Some(against) = &report.against {
        writeln!(out, "against   rules {}", rules_of(against))?;
    }
    if !report.trial.drafts.is_empty() {
        let drafts: Vec<&str> = report.trial.drafts.iter().map(RuleId::as_str).collect();
        writeln!(out, "not tried {}: drafts; try them with state = \"shadow\" or \"live\"", drafts.join(", "))?;
    }
    if let Some(id) = recorded {
        writeln!(out, "recorded  {id}")?;
    }
    writeln!(out)?;
    writeln!(out, "{}", totals(report))?;
    writeln!(out, "\n{}", by_rule(report))?;
    writeln!(out, "\nby hour of the day ({}): {}", report.period.timezone, hours(&report.trial.burden))?;
    top(&report.trial.burden, out)?;
    if let Some(detection) = &report.trial.detection {
        unwatched(detection, out)?;
    }
    if let Some(differences) = &report.differences {
        differ(differences, out)?;
    }
    Ok(())
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn rules_of(side: &Side) -> &str {
    side.rules.as_deref().map_or("of the log", short)
}

fn table(header: &[&str], sides: usize) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    let mut header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    if sides > 1 {
        header.push("against".to_owned());
    }
    table.set_header(header);
    table
}

fn totals(report: &Report) -> comfy_table::Table {
    let sides: Vec<&Side> = std::iter::once(&report.trial).chain(&report.against).collect();
    let mut table = table(&["", "trial"], sides.len());
    let mut row = |name: &str, value: &dyn Fn(&Side) -> String| {
        table.add_row(std::iter::once(name.to_owned()).chain(sides.iter().map(|side| value(side))));
    };
    row("alerts", &|side| side.burden.alerts.to_string());
    row("alerts per patient-day", &|side| format!("{:.2}", side.burden.per_patient_day));
    row("pages per patient-day", &|side| format!("{:.2}", side.burden.pages_per_patient_day));
    row("high / medium / low", &|side| {
        let of = |priority| side.burden.by_priority.get(&priority).copied().unwrap_or(0);
        format!("{} / {} / {}", of(Priority::High), of(Priority::Medium), of(Priority::Low))
    });
    if sides.iter().any(|side| side.burden.shadow > 0) {
        row("of rules on trial", &|side| side.burden.shadow.to_string());
    }
    row("technical", &|side| side.burden.technical.to_string());
    row("late", &|side| side.burden.late.to_string());
    row("withdrawn", &|side| side.burden.withdrawn.to_string());
    row("still open", &|side| side.burden.open.to_string());
    if report.trial.detection.is_some() {
        let detection = |side: &Side, say: &dyn Fn(&Detection) -> String| side.detection.as_ref().map(say).unwrap_or_default();
        let window = report.trial.detection.as_ref().map_or(0.0, |detection| detection.window_hours);
        row(&format!("events seen within {window} h before"), &|side| detection(side, &|d| format!("{} of {}", d.detected, d.events)));
        row("events missed", &|side| detection(side, &|d| d.missed.to_string()));
        row("lead time (h): median (quartiles)", &|side| {
            detection(side, &|d| d.lead_hours.map_or_else(|| "–".to_owned(), |q| format!("{:.1} ({:.1}–{:.1})", q.median, q.first, q.third)))
        });
        row("false alerts", &|side| detection(side, &|d| d.false_alerts.to_string()));
        row("false alerts per patient-day", &|side| detection(side, &|d| format!("{:.2}", d.false_per_patient_day)));
        row("share of alerts about an event", &|side| detection(side, &|d| d.precision.map_or_else(|| "–".to_owned(), |p| format!("{:.1} %", 100.0 * p))));
    }
    row("late readings", &|side| side.late_readings.to_string());
    row("readings beyond the horizon", &|side| side.beyond_horizon.to_string());
    table
}

fn by_rule(report: &Report) -> comfy_table::Table {
    let detected = report.trial.detection.as_ref();
    let mut header = vec!["rule", "priority", "alerts", "a patient-day", "minutes open"];
    header.extend(detected.map(|_| "events seen"));
    let mut table = table(&header, if report.against.is_some() { 2 } else { 1 });
    for rule in &report.trial.burden.by_rule {
        let mut row = vec![
            rule.rule.to_string(),
            format!("{}{}", priority(rule.priority), if rule.shadow { ", on trial" } else { "" }),
            rule.alerts.to_string(),
            format!("{:.2}", rule.per_patient_day),
            rule.median_minutes.map_or_else(|| "–".to_owned(), |minutes| format!("{minutes:.0}")),
        ];
        row.extend(detected.map(|d| d.by_rule.get(&rule.rule).map_or(0, |of| of.detected).to_string()));
        if let Some(against) = &report.against {
            let same = against.burden.by_rule.iter().find(|other| other.rule == rule.rule);
            row.push(same.map_or_else(|| "–".to_owned(), |other| other.alerts.to_string()));
        }
        table.add_row(row);
    }
    table
}

fn hours(burden: &Burden) -> String {
    let shown: Vec<String> = burden.by_hour.iter().map(ToString::to_string).collect();
    shown.join(" ")
}

fn top(burden: &Burden, out: &mut impl Write) -> io::Result<()> {
    let top = &burden.top_patients;
    writeln!(out, "the {} patients (a tenth) with most alerts have {:.0} % of them; {} have none", top.tenth, 100.0 * top.share, top.without)?;
    let named: Vec<String> = top.patients.iter().map(|(patient, n)| format!("{patient} {n}")).collect();
    if named.is_empty() { Ok(()) } else { writeln!(out, "most: {}", named.join(", ")) }
}

fn unwatched(detection: &Detection, out: &mut impl Write) -> io::Result<()> {
    if detection.events_of_unwatched == 0 {
        return Ok(());
    }
    writeln!(out, "{} of the events are of patients without a reading: nothing could be seen, and they count as missed", detection.events_of_unwatched)
}

/// How many of each side are printed; JSON has all.
const SHOWN: usize = 10;

fn differ(differences: &Differences, out: &mut impl Write) -> io::Result<()> {
    let (here, there) = (&differences.only_here, &differences.only_there);
    writeln!(out, "\nboth tell {} alerts; {} are only in the trial, {} only in the other", differences.both, here.len(), there.len())?;
    for (side, alerts) in [("only trial", here), ("only other", there)] {
        for alert in alerts.iter().take(SHOWN) {
            writeln!(out, "  {side}  {}  {}  {}  {}", alert.known_at, alert.patient, alert.rule, priority(alert.priority))?;
        }
        if alerts.len() > SHOWN {
            writeln!(out, "  … {} more", alerts.len() - SHOWN)?;
        }
    }
    Ok(())
}

pub fn csv(report: &Report, out: impl Write) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["side", "rule", "name", "priority", "technical", "alerts", "per_patient_day", "median_minutes", "events_detected", "median_lead_hours"])?;
    for (name, side) in [("trial", Some(&report.trial)), ("against", report.against.as_ref())] {
        for rule in side.iter().flat_map(|side| &side.burden.by_rule) {
            let found = side.and_then(|side| side.detection.as_ref()).and_then(|detection| detection.by_rule.get(&rule.rule));
            csv.write_record([
                name.to_owned(),
                rule.rule.to_string(),
                rule.name.clone(),
                priority(rule.priority).to_owned(),
                rule.technical.to_string(),
                rule.alerts.to_string(),
                rule.per_patient_day.to_string(),
                rule.median_minutes.map(|minutes| minutes.to_string()).unwrap_or_default(),
                found.map(|found| found.detected.to_string()).unwrap_or_default(),
                found.and_then(|found| found.lead_hours).map(|lead| lead.median.to_string()).unwrap_or_default(),
            ])?;
        }
    }
    Ok(csv.flush()?)
}
