//! The early warning score of a patient, part by part.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use engine::news2::{Line, News2, Origin, Risk};
use schemas::{EventTime, Micros, PatientId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::auth::MayRead;
use crate::people::Person;
use crate::problem::Problem;
use crate::sent::{Asked, instant, patient_id};
use crate::view::Time;

/// Unless told: RCP's charts are filled in every 4 to 6 hours for a score of 1 to 4.
const AGE: i64 = 4 * 3_600;
const OLDEST: i64 = 24 * 3_600;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// RFC 3339; now unless told, at most two hours ago.
    at: Option<String>,
    /// How many seconds old a value may be and still count: 14,400 (4 h) unless told, 60 to 86,400.
    age_s: Option<i64>,
}

/// RCP's clinical risk.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = Risk)]
pub(crate) enum RiskWord {
    Low,
    LowMedium,
    Medium,
    High,
}

impl From<Risk> for RiskWord {
    fn from(risk: Risk) -> Self {
        match risk {
            Risk::Low => Self::Low,
            Risk::LowMedium => Self::LowMedium,
            Risk::Medium => Self::Medium,
            Risk::High => Self::High,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Score {
    pub server_time: Time,
    #[schema(value_type = String)]
    pub patient: PatientId,
    pub at: Time,
    pub age_s: i64,
    /// Of SpO2: 2 only on a documented target of 88–92 %.
    #[schema(minimum = 1, maximum = 2)]
    pub scale: u8,
    /// `null` while anything is missing: then it lies between the bounds.
    #[schema(required = true)]
    pub score: Option<u8>,
    /// The points of what is known.
    pub lower_bound: u8,
    /// As if what is missing had the most points that it can.
    pub upper_bound: u8,
    /// Of the lower bound: at least this, while anything is missing.
    pub risk: RiskWord,
    /// Parts that have 3 points, each of which calls for somebody to look.
    #[schema(value_type = Vec<String>)]
    pub red: Vec<&'static str>,
    /// Parts without points. Nothing is taken for normal because it is missing.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<&'static str>,
    #[schema(example = "NEWS2 at least 7: RR 3, SpO₂ 2, pulse 2; consciousness not known")]
    pub summary: String,
    /// In the order of the chart.
    pub parts: Vec<ScorePart>,
    /// Why the score may not be meant for this patient.
    #[schema(required = true)]
    pub caution: Option<&'static str>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ScorePart {
    #[schema(value_type = String, example = "respiratory_rate")]
    pub part: &'static str,
    /// `null`: missing. SpO2 may have a value and no points: on scale 2, while oxygen is not known.
    #[schema(required = true)]
    pub points: Option<u8>,
    #[schema(required = true)]
    pub value: Option<f64>,
    /// As the chart reads it.
    #[schema(required = true, example = "26")]
    pub text: Option<String>,
    pub unit: &'static str,
    /// `null` also for oxygen that the settings say: that holds until they are changed.
    #[schema(required = true)]
    pub observed_at: Option<Time>,
    /// At `at`.
    #[schema(required = true)]
    pub age_s: Option<i64>,
    pub from: Basis,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ScoreBasis)]
pub(crate) enum Basis {
    Measured,
    Typed,
    Settings,
    Nothing,
}

/// NEWS2, from the newest values that rules look at. A score with missing parts is not said: its bounds are.
#[utoipa::path(get, path = "/api/v1/patients/{id}/news2", tag = "patients", params(("id" = String, Path), Query), responses((status = 200, body = Score)))]
pub(crate) async fn news2(
    State(app): State<Arc<App>>,
    MayRead(who): MayRead,
    Path(id): Path<String>,
    Asked(query): Asked<Query>,
) -> Result<Json<Score>, Problem> {
    let patient = patient_id(&id)?;
    let person = app.known_patient(&patient)?;
    let now = crate::now();
    let at = instant("at", query.at.as_deref())?.unwrap_or(now);
    if at > now + Micros::minutes(2) || at < now - app.engine.horizon {
        return Err(Problem::invalid(format!("`at`: {at} is not within the last two hours"), "leave it out for now; …/vitals has what was measured before"));
    }
    let age_s = query.age_s.unwrap_or(AGE);
    if !(60..=OLDEST).contains(&age_s) {
        return Err(Problem::invalid(format!("`age_s`: {age_s}"), "use seconds between 60 and 86400 (24 h)"));
    }
    let found = app.follower.news2(&patient, at, Micros::seconds(age_s)).await.map_err(|_| Problem::internal("try again"))?;
    app.auditor.record(&who, "read.news2", Some(&patient), "").await?;
    Ok(Json(score(&found, &person, now)))
}

fn score(found: &News2, person: &Person, now: EventTime) -> Score {
    Score {
        server_time: now.into(),
        patient: person.id.clone(),
        at: found.at.into(),
        age_s: found.age.as_seconds(),
        scale: found.scale.number(),
        score: found.score(),
        lower_bound: found.least(),
        upper_bound: found.most(),
        risk: found.risk().into(),
        red: found.red().map(|part| part.name()).collect(),
        missing: found.missing().map(|part| part.name()).collect(),
        summary: found.words(),
        parts: found.lines.iter().map(|line| part(line, found.at)).collect(),
        caution: is_under_sixteen(person.born.reveal(), found.at).then_some("NEWS2 is not for people under 16"),
    }
}

fn part(line: &Line, at: EventTime) -> ScorePart {
    let metric = line.part.metric();
    let observed_at = line.known.and_then(|known| if let Origin::Reading { at, .. } = known.origin { Some(at) } else { None });
    ScorePart {
        part: line.part.name(),
        points: line.points,
        value: line.known.map(|known| known.value),
        text: line.known.map(|known| metric.text(known.value)),
        unit: metric.display_unit(),
        observed_at: observed_at.map(Time),
        age_s: observed_at.map(|observed| (at - observed).as_seconds()),
        from: match line.known.map(|known| known.origin) {
            Some(Origin::Reading { typed: true, .. }) => Basis::Typed,
            Some(Origin::Reading { typed: false, .. }) => Basis::Measured,
            Some(Origin::Settings) => Basis::Settings,
            None => Basis::Nothing,
        },
    }
}

/// `born` as `1945-07-14`; dates of this form are ordered as their texts are.
fn is_under_sixteen(born: &str, at: EventTime) -> bool {
    let Some((year, day)) = born.split_once('-').and_then(|(year, day)| Some((year.parse::<u32>().ok()?, day))) else { return false };
    let sixteen = format!("{:04}-{day}", year + 16);
    at.to_string().get(..10).is_some_and(|today| today < sixteen.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_sixteen_today_is_not_under_sixteen() {
        let at = EventTime::parse("2026-11-26T04:00:00Z").unwrap();
        for (born, under) in [("2010-11-26", false), ("2010-11-27", true), ("2010-12-01", true), ("1945-07-14", false), ("2025-01-01", true), ("", false)] {
            assert_eq!(is_under_sixteen(born, at), under, "{born}");
        }
    }
}
