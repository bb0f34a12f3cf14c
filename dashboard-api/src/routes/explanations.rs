//! Why a rule had or had not raised.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use processor::backtest::{self, ExplainError, Plan, Rules, WarmUp};
use schemas::{Arrived, Micros, RuleId};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use crate::App;
use crate::auth::MayRead;
use crate::problem::Problem;
use crate::sent::{Asked, instant, patient_id};

/// What is read before the time that is asked about, unless a rule looks further back.
const WARM_UP: Micros = Micros::days(2);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    patient: String,
    rule: String,
    /// As one could know it then (RFC 3339); now unless told.
    at: Option<String>,
}

/// Why a rule had or had not raised for a patient: every column with its samples, what each predicate said, the hold, what was late.
#[utoipa::path(get, path = "/api/v1/explanations", tag = "rules", params(Which),
    responses((status = 200, description = "as `vigil rule explain --format json` prints it", body = Object)))]
pub(crate) async fn explanation(State(app): State<Arc<App>>, MayRead(who): MayRead, Asked(which): Asked<Which>) -> Result<Json<Value>, Problem> {
    let patient = patient_id(&which.patient)?;
    app.known_patient(&patient)?;
    let rule = RuleId::parse(&which.rule).map_err(|error| Problem::invalid(format!("the rule's id: {error}"), "use an id of the rules in force"))?;
    let now = crate::now();
    let at = instant("at", which.at.as_deref())?.unwrap_or(now);
    if at > now {
        return Err(Problem::invalid(format!("`at`: {at} is yet to come"), "leave it out for now"));
    }
    app.auditor.record(&who, "read.explanation", Some(&patient), format!("{rule} at {at}")).await?;
    let mut plan = Plan { warm_up: WarmUp::Span(WARM_UP), ..Plan::new(app.engine) };
    if let Some(rules) = app.store.rules().await? {
        plan = plan.warm_for(&[Rules::Trial(rules.toml)]).map_err(|error| failed(&error.into()))?;
    }
    let asked = backtest::Asked { patient, rule, at: Arrived(at.0) };
    // each reads a patient's days anew: not many at once
    let Ok(_turn) = app.explanations.acquire().await else { return Err(Problem::unavailable("the dashboard ends", "ask again")) };
    let explained = backtest::explain(app.objects.clone(), Some(app.journal.clone()), app.engine, app.journal.partitions(), asked, plan.warm_up).await;
    explained.map(|past| Json(json!(past))).map_err(|error| failed(&error))
}

fn failed(error: &ExplainError) -> Problem {
    match error {
        ExplainError::NoRule { .. } => Problem::invalid(error.to_string(), "ask for one of those, or for another time"),
        ExplainError::Nothing { .. } => Problem::invalid(error.to_string(), "ask for a later time"),
        ExplainError::Gap { .. } => Problem::unavailable(error.to_string(), "wait until the archive has written it: lake.roll_after"),
        _ => {
            tracing::error!(%error, "nothing was explained");
            Problem::unavailable("the history cannot be read", "see the log; `vigil lake verify` says whether the lake is whole")
        }
    }
}
