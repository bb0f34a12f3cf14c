//! `vigil patient observe`: what a person saw or was told, its void, and the score that rests on it.

use anyhow::Context;
use clap::Args;
use schemas::{EventTime, Metric, PatientId, ReadingId};
use serde_json::{Map, Value, json};

use super::api::{Access, Api};
use crate::exit::usage;
use crate::installation::now;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub struct Observe {
    pub patient: String,
    /// consciousness, oxygen_flow, systolic_pressure and so on, as in a device's message
    #[arg(long)]
    pub metric: Metric,
    /// A number; of consciousness A, C, V, P or U; of oxygen_flow also `air`
    #[arg(long, allow_hyphen_values = true)]
    pub value: String,
    /// mmHg, kPa, °C and so on; the metric's own, when left out
    #[arg(long)]
    pub unit: Option<String>,
    /// When it was so (RFC 3339); now, when left out
    #[arg(long)]
    pub at: Option<String>,
    /// The same key again is the same observation, stored once; a new one, when left out
    #[arg(long)]
    pub key: Option<String>,
    #[command(flatten)]
    pub access: Access,
}

#[derive(Debug, Args)]
pub struct Unsee {
    pub patient: String,
    /// The reading's id, as `observe` and the list of samples give it
    pub reading: String,
    /// What is wrong with it
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub access: Access,
}

#[derive(Debug, Args)]
pub struct Score {
    pub patient: String,
    /// At this time (RFC 3339), at most two hours ago; now, when left out
    #[arg(long)]
    pub at: Option<String>,
    /// How old a value may be and still count, in hours
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=24))]
    pub hours: u32,
    #[command(flatten)]
    pub access: Access,
}

pub async fn observe(args: Observe) -> anyhow::Result<()> {
    let patient = PatientId::parse(&args.patient)?;
    let at = args.at.as_deref().map(EventTime::parse).transpose().context("--at")?.unwrap_or_else(now);
    let key = args.key.unwrap_or_else(store::secrets::random_id);
    let value = args.value.parse::<f64>().map_or_else(|_| Value::from(args.value.as_str()), Value::from);
    let body = json!({"measured_at": at, "values": [{"metric": args.metric, "value": value, "unit": args.unit}]});
    let answer = Api::new(args.access, "observe --scope write")?.post(&format!("/patients/{patient}/observations"), Some(&key), &body).await?;
    let stored = answer.pointer("/observations/0").cloned().context("the dashboard's answer names nothing that was stored")?;
    let text = |name: &str| stored.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut words = format!("{} {} {} of {}, as {}", text("metric"), text("text"), text("unit"), text("observed_at"), text("id"));
    if stored.get("beyond_horizon") == Some(&Value::Bool(true)) {
        words += "; so late that it is shown and no rule looks at it";
    }
    Ok(output::tell(&stored, words)?)
}

pub async fn unsee(args: Unsee) -> anyhow::Result<()> {
    let (patient, reading) = (PatientId::parse(&args.patient)?, args.reading.parse::<ReadingId>()?);
    usage(!args.reason.trim().is_empty(), || "--reason: say in a few words what is wrong with the reading".to_owned())?;
    let body = json!({"reason": args.reason});
    let answer = Api::new(args.access, "observe --scope write")?.post(&format!("/patients/{patient}/observations/{reading}/void"), None, &body).await?;
    Ok(output::tell(&answer, format_args!("{reading} is void: it is no longer shown, and no rule looks at it"))?)
}

pub async fn score(args: Score) -> anyhow::Result<()> {
    let patient = PatientId::parse(&args.patient)?;
    let at = args.at.as_deref().map(EventTime::parse).transpose().context("--at")?;
    let at = at.map(|at| format!("&at={at}")).unwrap_or_default();
    let answer = Api::new(args.access, "score")?.get(&format!("/patients/{patient}/news2?age_s={}{at}", u64::from(args.hours) * 3_600)).await?;
    if output::format() != Format::Table {
        return Ok(output::print_one(&answer)?);
    }
    let parts = answer.get("parts").and_then(Value::as_array).cloned().unwrap_or_default();
    output::print(&parts.iter().map(line).collect::<Vec<_>>())?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let caution = text("caution");
    let caution = if caution.is_empty() { caution } else { format!("\n{caution}") };
    Ok(output::tell(&answer, format_args!("{}\nrisk {}, scale {}{caution}", text("summary"), text("risk"), answer.get("scale").unwrap_or(&Value::Null)))?)
}

fn line(part: &Value) -> Map<String, Value> {
    let said = |name: &str| part.get(name).filter(|value| !value.is_null()).cloned().unwrap_or_else(|| Value::from("-"));
    ["part", "points", "text", "unit", "observed_at", "from"].map(|name| (name.to_owned(), said(name))).into_iter().collect()
}
