//! What a care team decided for one patient: read, and changed against the version that was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemas::{EventTime, Metric, Micros, Pause, Settings};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::App;
use crate::auth::{MayAct, MayRead};
use crate::people::Person;
use crate::problem::Problem;
use crate::sent::{Sent, if_match, patient_id};
use crate::view::SettingsView;

/// The settings as they are to be, whole: what is left out would be lost, so only `patient`, `limits_until`, `enrolled_at`, `version` and
/// `author` may be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsChange {
    /// If it is there, it is the patient of the address.
    patient: Option<String>,
    monitored: bool,
    /// `spo2.low` → 88.
    limits: BTreeMap<String, f64>,
    /// Until when a limit of `limits` counts; one without an entry counts until it is changed. As it is, when it is left out.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    limits_until: Option<BTreeMap<String, EventTime>>,
    /// 0 is on air, `null` is unknown.
    #[serde(deserialize_with = "present")]
    #[schema(required = true)]
    oxygen_l_min: Option<f64>,
    #[schema(minimum = 1, maximum = 2)]
    news2_scale: u8,
    pauses: Vec<PauseChange>,
    expected_interval_s: BTreeMap<String, i64>,
    /// As it is, when it is left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    enrolled_at: Option<EventTime>,
    /// Ignored: `if-match` says which version was read.
    #[serde(default, rename = "version")]
    #[schema(value_type = Option<u64>)]
    _version: Option<IgnoredAny>,
    /// Ignored: it is who is signed in.
    #[serde(default, rename = "author")]
    #[schema(value_type = Option<String>)]
    _author: Option<IgnoredAny>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseChange {
    #[schema(value_type = String, format = DateTime)]
    from: EventTime,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    until: Option<EventTime>,
    reason: String,
}

/// `null` is an answer, a missing key is not.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// The newest, or what holds before the first.
pub(crate) async fn current(app: &App, person: &Person) -> Result<Settings, Problem> {
    let found = app.store.settings(&person.id).await?;
    Ok(found.unwrap_or_else(|| Settings {
        patient: person.id.clone(),
        version: 0,
        monitored: true,
        limits: BTreeMap::new(),
        limits_until: BTreeMap::new(),
        oxygen_l_min: None,
        news2_scale: 1,
        pauses: Vec::new(),
        expected_interval: BTreeMap::new(),
        enrolled_at: person.created_at,
        author: String::new(),
    }))
}

fn answer(settings: &Settings) -> Response {
    let mut response = Json(SettingsView::from(settings)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", settings.version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// A patient's settings; the ETag is for `if-match`.
#[utoipa::path(get, path = "/api/v1/patients/{id}/settings", tag = "patients", params(("id" = String, Path)),
    responses((status = 200, body = SettingsView, headers(("etag" = String)))))]
pub(crate) async fn read(State(app): State<Arc<App>>, MayRead(who): MayRead, Path(id): Path<String>) -> Result<Response, Problem> {
    let patient = patient_id(&id)?;
    let person = app.known_patient(&patient)?;
    let settings = current(&app, &person).await?;
    app.auditor.record(&who, "read.settings", Some(&patient), "").await?;
    Ok(answer(&settings))
}

/// Changes a patient's settings. The next version is on its way to the engine when this answers.
#[utoipa::path(put, path = "/api/v1/patients/{id}/settings", tag = "patients",
    params(("id" = String, Path), ("if-match" = String, Header, description = "the ETag that was read")), request_body = SettingsChange,
    responses((status = 200, body = SettingsView, headers(("etag" = String))),
        (status = 412, description = "changed in the meantime: `current`"), (status = 428, description = "if-match is missing")))]
pub(crate) async fn write(
    State(app): State<Arc<App>>,
    MayAct(who): MayAct,
    Path(id): Path<String>,
    headers: HeaderMap,
    Sent(change): Sent<SettingsChange>,
) -> Result<Response, Problem> {
    let patient = patient_id(&id)?;
    let person = app.known_patient(&patient)?;
    let version = if_match(&headers)?.ok_or_else(|| {
        let status = StatusCode::PRECONDITION_REQUIRED;
        Problem::of_status(status, "`if-match` is missing", "read the settings and send their ETag, so that nobody's change is overwritten unseen")
    })?;
    let before = current(&app, &person).await?;
    let rules = app.store.rules().await?;
    let known = rules.map(|rules| limit_names(&rules.toml)).unwrap_or_default();
    let new = check(change, &before, &known, who.name())?;
    app.auditor.record(&who, "settings.change", Some(&patient), format!("from version {version}")).await?;
    let stored = app.store.put_settings(&new, version, crate::now()).await?;
    Ok(answer(&stored))
}

/// The names in `limit('…'`: a limit that no rule asks for would silently do nothing.
fn limit_names(toml: &str) -> BTreeSet<String> {
    let calls = toml.split("limit(").skip(1);
    calls.filter_map(|rest| rest.trim_start().strip_prefix('\'')?.split_once('\'')).map(|(name, _)| name.to_owned()).collect()
}

fn check(change: SettingsChange, before: &Settings, known: &BTreeSet<String>, author: &str) -> Result<Settings, Problem> {
    let bad = |detail: String, remedy: &str| Err(Problem::invalid(detail, remedy));
    let short = |text: &str| text.chars().take(64).collect::<String>();
    if change.patient.as_deref().is_some_and(|patient| patient != before.patient.as_str()) {
        return bad("`patient` is another one than in the address".to_owned(), "send it to that patient's address, or leave it out");
    }
    if change.limits.len() > 64 || change.pauses.len() > 100 {
        return bad("more than 64 limits or 100 pauses".to_owned(), "leave out those that are over");
    }
    for (name, value) in &change.limits {
        if !known.is_empty() && !known.contains(name) && !before.limits.contains_key(name) {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            return bad(format!("limits: no rule asks for `{}`", short(name)), &format!("use one of {}", names.join(", ")));
        }
        if name.is_empty() || name.len() > 64 || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
            return bad(format!("limits: `{}` is no name of a limit", short(name)), "use the name in the rule, such as spo2.low");
        }
        let (low, high) = match name.split('.').next().and_then(|metric| metric.parse::<Metric>().ok()) {
            Some(metric) => metric.plausible(),
            None => (-1e6, 1e6),
        };
        if !(low..=high).contains(value) {
            return bad(format!("limits: {name} = {value} cannot be measured"), &format!("use a number between {low} and {high}"));
        }
    }
    // who knows nothing of an end does not make a limit last for ever
    let mut limits_until = change.limits_until.unwrap_or_else(|| before.limits_until.clone());
    if let Some(name) = limits_until.keys().find(|name| !change.limits.contains_key(*name) && !before.limits_until.contains_key(*name)) {
        return bad(format!("limits_until: there is no limit `{}`", short(name)), "name one of `limits`");
    }
    limits_until.retain(|name, _| change.limits.contains_key(name));
    if change.oxygen_l_min.is_some_and(|flow| !(0.0..=80.0).contains(&flow)) {
        return bad("oxygen_l_min is not between 0 and 80".to_owned(), "use litres a minute, 0 on air, null when it is not known");
    }
    if !matches!(change.news2_scale, 1 | 2) {
        return bad(format!("news2_scale = {}", change.news2_scale), "use 1, or 2 when a clinician has documented a target of 88–92 %");
    }
    let mut pauses = Vec::with_capacity(change.pauses.len());
    for pause in change.pauses {
        if pause.until.is_some_and(|until| until <= pause.from) {
            return bad(format!("pauses: the one from {} ends before it begins", pause.from), "choose a later `until`, or null");
        }
        if pause.reason.chars().count() > 500 {
            return bad("pauses: a reason has more than 500 characters".to_owned(), "say it shorter");
        }
        pauses.push(Pause { from: pause.from, until: pause.until, reason: pause.reason });
    }
    let mut expected_interval = BTreeMap::new();
    for (name, seconds) in change.expected_interval_s {
        let Ok(metric) = name.parse::<Metric>() else {
            return bad(format!("expected_interval_s: `{}` is no metric", short(&name)), &format!("use one of {}", Metric::ALL.map(Metric::name).join(", ")));
        };
        if !(1..=30 * 86_400).contains(&seconds) {
            return bad(format!("expected_interval_s: {name} = {seconds}"), "use seconds between 1 and 2592000 (30 days)");
        }
        expected_interval.insert(metric, Micros::seconds(seconds));
    }
    Ok(Settings {
        patient: before.patient.clone(),
        version: 0,
        monitored: change.monitored,
        limits: change.limits,
        limits_until,
        oxygen_l_min: change.oxygen_l_min,
        news2_scale: change.news2_scale,
        pauses,
        expected_interval,
        enrolled_at: change.enrolled_at.unwrap_or(before.enrolled_at),
        author: author.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_limits_are_found_in_the_rules() {
        let names = limit_names(engine::DEFAULT_RULES);
        assert!(names.contains("spo2.low") && names.contains("heart_rate.high"), "{names:?}");
        assert!(limit_names("no rule").is_empty());
    }
}
