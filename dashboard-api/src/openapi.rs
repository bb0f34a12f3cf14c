//! The OpenAPI document: what the handlers say of themselves, and what is true of all of them.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};

use crate::problem::ProblemBody;
use crate::view::{Delta, Snapshot};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vigil",
        description = "Patients at home, their newest values, their alerts. Times are RFC 3339 in UTC. Whatever is refused is an \
            `application/problem+json` with a remedy. A bearer token's scopes: `read` (wards, patients, alerts, devices, the stream), `write` \
            (that, and acknowledge and change settings), `lake` (back-tests, exports and queries), `metrics` (only /metrics), `admin` (all); never more than its user's role allows: an \
            analyst sees counts and the lake, and nobody's name; a clinician all but /metrics; what is exported an administrator approves. With the cookie, a request that changes something needs \
            `Sec-Fetch-Site: same-origin` or an `Origin` that is this host: browsers send them."
    ),
    components(schemas(ProblemBody, Snapshot, Delta)),
    security(("token" = []), ("session" = []))
)]
struct Document;

pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// What is true of every operation: how it refuses, and who may call it.
pub(crate) fn complete(document: &mut utoipa::openapi::OpenApi) {
    document.info.version = "1".to_owned();
    document.info.contact = None;
    document.info.license = None;
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            let problem = ResponseBuilder::new()
                .description("refused, with what to do about it")
                .content("application/problem+json", Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem")))))
                .header("x-request-id", utoipa::openapi::Header::new(utoipa::openapi::schema::Object::with_type(utoipa::openapi::Type::String)))
                .build();
            operation.responses.responses.entry("default".to_owned()).or_insert(problem.into());
        }
    }
    if let Some(components) = &mut document.components {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("vigil_…").description(Some("an API token")).build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let cookie = ApiKeyValue::with_description("vigil_session", "set by POST /api/v1/session; under TLS it is named __Host-vigil_session");
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}
