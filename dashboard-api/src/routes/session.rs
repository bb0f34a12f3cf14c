//! Signing in and out.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::{Cookie, SameSite};
use schemas::EventTime;
use serde::Deserialize;
use store::audit::AuditEntry;
use store::users::User;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::auth::{SignedIn, cookie_name, micros, not_from_another_site};
use crate::listen::Peer;
use crate::problem::Problem;
use crate::sent::Sent;
use crate::view::{Session, Time};
use crate::{App, names};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    name: String,
    #[schema(format = Password)]
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// What stands after `#token=` in the address of the link.
    token: String,
}

fn view(app: &App, user: &User, expires_at: Option<EventTime>) -> Session {
    Session {
        user: user.name.clone(),
        role: user.role.into(),
        expires_at: expires_at.map(Time),
        installation: app.installation.clone(),
        server_time: crate::now().into(),
        wards: app.hub.ward_views(),
    }
}

/// HttpOnly, SameSite=Strict, for the whole site; without an age: the server knows when it ends.
fn cookie(app: &App, token: &str) -> Result<HeaderValue, Problem> {
    let mut cookie = Cookie::build((cookie_name(app.tls), token)).http_only(true).same_site(SameSite::Strict).path("/").secure(app.tls);
    if token.is_empty() {
        cookie = cookie.removal();
    }
    HeaderValue::from_str(&cookie.build().to_string()).map_err(|_| Problem::internal("report this"))
}

/// The start of a session is recorded before the cookie leaves.
async fn started(app: &App, user: &User, token: &str, expires_at: EventTime, how: &str) -> Result<Response, Problem> {
    let entry = AuditEntry { at: crate::now(), person: user.name.clone(), action: "session.start".to_owned(), patient: None, detail: how.to_owned() };
    app.auditor.entry(entry).await?;
    let mut response = Json(view(app, user, Some(expires_at))).into_response();
    response.headers_mut().insert(SET_COOKIE, cookie(app, token)?);
    Ok(response)
}

fn refused(reason: &'static str, detail: &str, remedy: &str) -> Problem {
    metrics::counter!(names::SIGN_IN_REFUSED, "reason" => reason).increment(1);
    Problem::new(StatusCode::UNAUTHORIZED, "/problems/sign-in", "Not signed in", detail, remedy)
}

/// Signs in with name and password.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", security(()), request_body = SignIn,
    responses((status = 200, body = Session, description = "signed in; the cookie is set"), (status = 429, description = "too many attempts: Retry-After")))]
pub(crate) async fn sign_in(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
    Sent(asked): Sent<SignIn>,
) -> Result<Response, Problem> {
    let password = Zeroizing::new(asked.password);
    not_from_another_site(&headers, &uri)?;
    let wrong = || refused("password", "the name or the password is wrong", "check both; an administrator can send a one-time link");
    if asked.name.len() > 64 || password.len() > 1024 {
        return Err(wrong());
    }
    limited(&app, Some(&asked.name), &peer)?;
    // hashing takes 19 MiB each: few at a time
    let turn = app.sign_ins.acquire().await.map_err(|_| Problem::internal("try again"))?;
    let user = app.store.check_password(&asked.name, &password).await?.ok_or_else(wrong)?;
    drop(turn);
    app.limits.give_back(Some(&asked.name), peer.address.ip());
    let now = crate::now();
    let expires_at = now + micros(app.session);
    let token = app.store.new_session(&user.name, now, expires_at).await?;
    started(&app, &user, &token, expires_at, "with a password").await
}

/// Signs in with a one-time link.
#[utoipa::path(post, path = "/api/v1/session/link", tag = "session", security(()), request_body = Link,
    responses((status = 200, body = Session, description = "signed in; the cookie is set"), (status = 429, description = "too many attempts: Retry-After")))]
pub(crate) async fn use_link(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
    Sent(asked): Sent<Link>,
) -> Result<Response, Problem> {
    let link = Zeroizing::new(asked.token);
    not_from_another_site(&headers, &uri)?;
    limited(&app, None, &peer)?;
    let gone = || refused("link", "the link is unknown, used or too old", "ask for a new one: `vigil user link NAME`");
    if link.len() > 256 {
        return Err(gone());
    }
    let now = crate::now();
    let expires_at = now + micros(app.session);
    let (user, token) = app.store.use_one_time_link(&link, now, expires_at).await?.ok_or_else(gone)?;
    app.limits.give_back(None, peer.address.ip());
    started(&app, &user, &token, expires_at, "with a one-time link").await
}

fn limited(app: &App, name: Option<&str>, peer: &Peer) -> Result<(), Problem> {
    app.limits.take(name, peer.address.ip(), Instant::now()).inspect_err(|_| {
        metrics::counter!(names::SIGN_IN_REFUSED, "reason" => "limit").increment(1);
    })
}

/// Who is signed in, until when.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", responses((status = 200, body = Session)))]
pub(crate) async fn session(State(app): State<Arc<App>>, SignedIn(who): SignedIn) -> Json<Session> {
    Json(view(&app, who.user(), who.expires_at))
}

/// Signs out; streams of the session end.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session", responses((status = 204, description = "signed out")))]
pub(crate) async fn sign_out(State(app): State<Arc<App>>, SignedIn(who): SignedIn) -> Result<Response, Problem> {
    let Some(token) = who.session_token() else {
        return Err(Problem::of_status(StatusCode::CONFLICT, "an API token has no session to end", "revoke the token instead"));
    };
    app.store.end_session(token).await?;
    app.auditor.record(&who, "session.end", None, "").await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(SET_COOKIE, cookie(&app, "")?);
    Ok(response)
}
