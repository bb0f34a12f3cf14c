//! The link in a page: it shows what it would do, and only the button does it. Programs that look at every link of a mail open it without
//! taking the alert.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemas::EventTime;
use store::StoreError;
use store::audit::AuditEntry;
use store::episodes::{Act, Action, Episode, State as Alert};
use store::links::Link;

use super::actions::until;
use crate::App;
use crate::frame::Shown;
use crate::problem::Problem;

/// What the page says of the alert: what the page on the phone said, no more.
struct Known {
    link: Link,
    episode: Episode,
    /// Whom the page was for, or the channel that it came by.
    who: String,
}

/// Shows what the link of a page would do.
#[utoipa::path(get, path = "/take/{token}", tag = "alerts", params(("token" = String, Path)), security(()),
    responses((status = 200, description = "a page with one button", content_type = "text/html"), (status = 410, description = "the link is over or was used")))]
pub(crate) async fn show(State(app): State<Arc<App>>, Path(token): Path<String>) -> Result<Response, Problem> {
    let now = crate::now();
    let Some(known) = known(&app, &token, now).await? else { return Ok(over()) };
    if app.store.link_used(&token).await? {
        return Ok(over());
    }
    let line = line(&app, &known.episode).await?;
    let state = state(&known.episode, now);
    let form = format!("<p>{}</p><p>{}</p><form method=\"post\"><button type=\"submit\">I take it</button></form>", escape(&line), escape(&state));
    Ok(page(StatusCode::OK, &form))
}

/// Takes the alert, once.
#[utoipa::path(post, path = "/take/{token}", tag = "alerts", params(("token" = String, Path)), security(()),
    responses((status = 200, description = "taken", content_type = "text/html"), (status = 410, description = "the link is over or was used")))]
pub(crate) async fn take(State(app): State<Arc<App>>, Path(token): Path<String>) -> Result<Response, Problem> {
    let now = crate::now();
    let Some(Known { link, episode, who }) = known(&app, &token, now).await? else { return Ok(over()) };
    let entry = AuditEntry {
        at: now,
        person: who.clone(),
        action: "alert.acknowledge".to_owned(),
        patient: Some(episode.patient.clone()),
        detail: format!("{} by link", link.alert),
    };
    app.auditor.entry(entry).await?;
    let action = Action::Acknowledge { until: Some(until(&app, None, now)) };
    let act = Act { alert: link.alert, by: &who, note: Some("by the link of a page"), now, if_match: None, request: None, action };
    let (act, token) = (&act, &token);
    let outcome = app
        .store
        .transaction(|tx| {
            Box::pin(async move {
                if !tx.use_link(token, now).await? {
                    return Ok(None);
                }
                tx.act(act).await.map(Some)
            })
        })
        .await;
    let line = line(&app, &episode).await?;
    match outcome {
        Ok(Some(_)) => Ok(page(StatusCode::OK, &format!("<p>{}</p><p>You have it. Nobody else is paged for now.</p>", escape(&line)))),
        Ok(None) => Ok(over()),
        Err(StoreError::Conflict(_)) => {
            let episode = app.store.episode(link.alert).await?;
            Ok(page(StatusCode::OK, &format!("<p>{}</p><p>{}</p>", escape(&line), escape(&state(&episode, now)))))
        }
        Err(error) => Err(error.into()),
    }
}

/// `None`: not a link of ours, or over.
async fn known(app: &App, token: &str, now: EventTime) -> Result<Option<Known>, Problem> {
    let Some(link) = Link::open(token, &app.store.link_key().await?, now) else { return Ok(None) };
    let episode = match app.store.episode(link.alert).await {
        Ok(episode) => episode,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let pages = app.store.notifications(link.alert).await?;
    let Some(page) = pages.into_iter().find(|page| link.is_of(&page.id)) else { return Ok(None) };
    let who = page.person.unwrap_or(page.channel);
    Ok(Some(Known { link, episode, who }))
}

async fn line(app: &App, episode: &Episode) -> Result<String, Problem> {
    let ward = match app.store.patient(&episode.patient).await {
        Ok(patient) => app.store.ward(&patient.ward).await?.name,
        Err(StoreError::NotFound { .. }) => "unknown ward".to_owned(),
        Err(error) => return Err(error.into()),
    };
    Ok(format!("Patient alert {}, {}, {ward}", episode.alert.code(), format!("{:?}", episode.priority).to_lowercase()))
}

fn state(episode: &Episode, now: EventTime) -> String {
    match (&episode.acknowledged, episode.state) {
        (Some(given), _) if episode.taken(now) => format!("{} has it already.", given.by),
        (_, Alert::Open) => "Nobody has taken it yet.".to_owned(),
        _ => "It is over. Somebody should still look at it.".to_owned(),
    }
}

fn over() -> Response {
    page(StatusCode::GONE, "<p>This link was used, or it is too old. Sign in to Vigil to see the alert.</p>")
}

fn page(status: StatusCode, body: &str) -> Response {
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"><title>Vigil</title></head><body><main>{body}</main></body></html>"
    );
    let mut response = (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response();
    response.extensions_mut().insert(Shown);
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
