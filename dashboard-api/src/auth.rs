//! Who asks, and what they may: a bearer token with scopes, or the cookie of a session; and a role.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::CookieJar;
use schemas::{EventTime, Micros};
use store::users::{Role, User};
use store::{Store, StoreError};
use zeroize::Zeroizing;

use crate::App;
use crate::problem::Problem;

/// What an endpoint needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Wards and counts: names nobody.
    Counts,
    /// Patients, their values, alerts and devices.
    Patients,
    /// Acknowledge, and change settings.
    Act,
    /// The lake and the back-test, nobody's name.
    Ask,
    /// Allow what somebody else asked for, and see it.
    Approve,
    Metrics,
}

/// The words in an API token, and what each allows; never more than its user's role does.
const SCOPES: [(&str, &[Right]); 5] = [
    ("read", &[Right::Counts, Right::Patients]),
    ("write", &[Right::Counts, Right::Patients, Right::Act]),
    ("lake", &[Right::Counts, Right::Ask]),
    ("metrics", &[Right::Metrics]),
    ("admin", &[Right::Counts, Right::Patients, Right::Act, Right::Ask, Right::Approve, Right::Metrics]),
];

fn role_allows(role: Role, right: Right) -> bool {
    match role {
        Role::Admin => true,
        Role::Clinician => !matches!(right, Right::Metrics | Right::Approve),
        Role::Analyst => matches!(right, Right::Counts | Right::Ask),
    }
}

enum Credential {
    Session,
    Token { scopes: Vec<String> },
}

/// Somebody who proved who they are.
pub(crate) struct Principal {
    user: User,
    credential: Credential,
    secret: Zeroizing<String>,
    pub expires_at: Option<EventTime>,
}

impl Principal {
    pub fn name(&self) -> &str {
        &self.user.name
    }

    pub const fn user(&self) -> &User {
        &self.user
    }

    /// The cookie's token, if that is how they came.
    pub fn session_token(&self) -> Option<&str> {
        matches!(self.credential, Credential::Session).then_some(&*self.secret)
    }

    pub fn may(&self, right: Right) -> Result<(), Problem> {
        if !role_allows(self.user.role, right) {
            let remedy = match right {
                Right::Metrics | Right::Approve => "ask an administrator",
                _ => "ask an administrator for the role of a clinician",
            };
            return Err(Problem::forbidden(format!("the role {} may not do this", self.user.role), remedy));
        }
        if let Credential::Token { scopes } = &self.credential {
            let within = SCOPES.iter().any(|(word, rights)| rights.contains(&right) && scopes.iter().any(|scope| scope == word));
            if !within {
                return Err(Problem::forbidden("the token's scopes do not allow this", "make a token with the scope read, write, lake, metrics or admin"));
            }
        }
        Ok(())
    }

    /// Whether it is still good, and until when; for streams, which outlive their request.
    pub async fn still_good(&self, app: &App) -> Result<Option<Option<EventTime>>, StoreError> {
        let now = crate::now();
        match &self.credential {
            Credential::Session => Ok(app.store.session(&self.secret, now).await?.map(|session| Some(session.expires_at))),
            Credential::Token { .. } => Ok(app.store.api_token(&self.secret, now).await?.map(|(_, token)| token.expires_at)),
        }
    }
}

pub(crate) fn cookie_name(tls: bool) -> &'static str {
    if tls { "__Host-vigil_session" } else { "vigil_session" }
}

/// A browser says from where a request comes: one that another site made is refused.
pub(crate) fn same_site(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let refused = || Problem::forbidden("the request came from another site", "send it from Vigil's own page, or with an API token");
    if let Some(site) = headers.get("sec-fetch-site") {
        return if matches!(site.as_bytes(), b"same-origin" | b"none") { Ok(()) } else { Err(refused()) };
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).or_else(|| uri.authority().map(axum::http::uri::Authority::as_str));
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let of = origin.and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    if of.is_some() && of == host { Ok(()) } else { Err(refused()) }
}

/// Only for a request that carries a header at all: signing in needs no cookie yet, and a program sends neither.
pub(crate) fn not_from_another_site(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let says = headers.contains_key("sec-fetch-site") || headers.contains_key(ORIGIN);
    if says { same_site(headers, uri) } else { Ok(()) }
}

/// In front of every endpoint that is not open.
pub(crate) async fn authenticate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    match identify(&app, request.method(), request.uri(), request.headers()).await {
        Ok(principal) => {
            request.extensions_mut().insert(Arc::new(principal));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The bearer's token of a request.
fn bearer(headers: &HeaderMap) -> Option<Result<&str, Problem>> {
    let value = headers.get(AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Some(token.map(|(_, token)| token.trim()).ok_or_else(|| Problem::unauthenticated("the header `authorization` holds no bearer token")))
}

/// By its API token.
pub(crate) async fn by_token(store: &Store, headers: &HeaderMap) -> Result<Option<Principal>, Problem> {
    let Some(token) = bearer(headers).transpose()? else { return Ok(None) };
    let known = if token.len() <= 256 { store.api_token(token, crate::now()).await? } else { None };
    let (user, found) = known.ok_or_else(|| Problem::unauthenticated("the token is unknown, expired or revoked"))?;
    Ok(Some(Principal { user, credential: Credential::Token { scopes: found.scopes }, secret: Zeroizing::new(token.to_owned()), expires_at: found.expires_at }))
}

async fn identify(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Principal, Problem> {
    if let Some(principal) = by_token(&app.store, headers).await? {
        return Ok(principal);
    }
    let jar = CookieJar::from_headers(headers);
    let Some(cookie) = jar.get(cookie_name(app.tls)).filter(|cookie| cookie.value().len() <= 256) else {
        return Err(Problem::unauthenticated("neither a session nor a token came with the request"));
    };
    let secret = Zeroizing::new(cookie.value().to_owned());
    let now = crate::now();
    let session = app.store.session(&secret, now).await?.ok_or_else(|| Problem::unauthenticated("the session is over"))?;
    if !method.is_safe() {
        same_site(headers, uri)?;
    }
    let expires_at = extended(app, &secret, session.expires_at, now).await;
    Ok(Principal { user: session.user, credential: Credential::Session, secret, expires_at: Some(expires_at) })
}

/// A session goes on while it is used. Written once a minute at most; a store that takes no writes just now ends nobody's session early.
async fn extended(app: &App, secret: &str, expires_at: EventTime, now: EventTime) -> EventTime {
    let length = micros(app.session);
    let wanted = now + length;
    let step = Micros((length.0 / 20).min(Micros::minutes(1).0));
    if wanted - expires_at <= step {
        return expires_at;
    }
    match tokio::time::timeout(Duration::from_secs(1), app.store.extend_session(secret, wanted)).await {
        Ok(Ok(true)) => wanted,
        Ok(Ok(false)) => expires_at,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a session was not extended");
            expires_at
        }
        Err(_) => expires_at,
    }
}

pub(crate) fn micros(span: Duration) -> Micros {
    Micros(i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4))
}

/// The metrics are for a token with the scope, or for who is on this machine and not behind a proxy.
pub(crate) async fn may_read_metrics(store: &Store, headers: &HeaderMap, peer: SocketAddr) -> Result<(), Problem> {
    if let Some(principal) = by_token(store, headers).await? {
        return principal.may(Right::Metrics);
    }
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    if peer.ip().to_canonical().is_loopback() && !forwarded {
        return Ok(());
    }
    Err(Problem::unauthenticated("the metrics need a token with the scope `metrics` from another machine"))
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident => $right:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name(#[allow(dead_code, reason = "not every handler asks who")] pub Arc<Principal>);

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Problem;
            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
                let principal = parts.extensions.get::<Arc<Principal>>().cloned().ok_or_else(|| Problem::unauthenticated("nobody is signed in"))?;
                principal.may($right)?;
                Ok(Self(principal))
            }
        }
    )*};
}

rights! {
    /// Somebody who may see counts.
    MayCount => Right::Counts;
    /// Somebody who may see patients.
    MayRead => Right::Patients;
    /// Somebody who may acknowledge and change settings.
    MayAct => Right::Act;
    /// Somebody who may ask the lake.
    MayAsk => Right::Ask;
    /// Somebody who may allow what others asked for.
    MayApprove => Right::Approve;
}

/// Anybody who is signed in.
pub(crate) struct SignedIn(pub Arc<Principal>);

impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Arc<Principal>>().cloned().map(Self).ok_or_else(|| Problem::unauthenticated("nobody is signed in"))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_request_that_another_site_made_is_refused() {
        let uri = Uri::from_static("/api/v1/session");
        for (headers, good) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            // the browser's word counts, not what stands beside it
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://vigil:8080"), ("host", "vigil:8080")], false),
            (&[("origin", "http://vigil:8080"), ("host", "vigil:8080")], true),
            (&[("origin", "http://vigil:8081"), ("host", "vigil:8080")], false),
            (&[("origin", "null"), ("host", "vigil:8080")], false),
            (&[("host", "vigil:8080")], false),
            (&[], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(same_site(&map, &uri).is_ok(), good, "{headers:?}");
        }
    }

    #[test]
    fn roles_and_scopes_bound_each_other() {
        let of = |role, scopes: Option<&[&str]>| Principal {
            user: User { name: "ito".to_owned(), role, created_at: EventTime(0), disabled_at: None },
            credential: scopes.map_or(Credential::Session, |scopes| Credential::Token { scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect() }),
            secret: Zeroizing::new(String::new()),
            expires_at: None,
        };
        for (role, scopes, [counts, patients, act, ask, approve, metrics]) in [
            (Role::Admin, None, [true; 6]),
            (Role::Clinician, None, [true, true, true, true, false, false]),
            (Role::Analyst, None, [true, false, false, true, false, false]),
            (Role::Analyst, Some(&["admin"][..]), [true, false, false, true, false, false]),
            (Role::Clinician, Some(&["read"]), [true, true, false, false, false, false]),
            (Role::Clinician, Some(&["write"]), [true, true, true, false, false, false]),
            (Role::Clinician, Some(&["lake"]), [true, false, false, true, false, false]),
            (Role::Admin, Some(&["metrics"]), [false, false, false, false, false, true]),
            (Role::Admin, Some(&["admin"]), [true; 6]),
            (Role::Admin, Some(&["other"]), [false; 6]),
            (Role::Admin, Some(&[]), [false; 6]),
        ] {
            let principal = of(role, scopes);
            let may = |right| principal.may(right).is_ok();
            let found = [Right::Counts, Right::Patients, Right::Act, Right::Ask, Right::Approve, Right::Metrics].map(may);
            assert_eq!(found, [counts, patients, act, ask, approve, metrics], "{role} {scopes:?}");
        }
    }
}
