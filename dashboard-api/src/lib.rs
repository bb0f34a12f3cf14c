//! REST, server-sent events, the OpenAPI document and the web page of an installation.
//!
//! It promises **D1**: a read of patient data is answered only when its audit entry is durable, in the store or in a synced file of this machine.
//! And **D2**: every value carries the time it was measured and the time from which it is old, and a stream that lives beats every 2 s, so
//! that a page can tell. An alert is on the streams within some 20 ms of its commit in this process, within 300 ms of one in another.
//!
//! What is shown comes from a *follower*: the processor's snapshots and `vigil.inputs` through the same engine, outputs dropped. Alerts come
//! from the store. It must never decide anything clinical, answer without knowing who asks, buffer without bound for a slow reader, or log
//! a name or a value.
#![allow(clippy::result_large_err, reason = "a problem is made once for a request that is refused")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod audit;
mod auth;
mod dead;
mod deltas;
mod follower;
mod frame;
mod hub;
mod jobs;
mod limits;
mod listen;
mod messages;
mod names;
mod openapi;
mod operations;
mod page;
mod people;
mod problem;
mod pulse;
mod routes;
mod sent;
mod server;
mod view;
mod watch;

pub use jobs::Jobs;
pub use listen::TlsError;
pub use operations::Operations;
pub use server::{Config, Dashboard, DashboardError, Readiness};

pub(crate) use server::App;

/// The OpenAPI document, as `/api/v1/openapi.json` gives it.
pub fn openapi() -> String {
    let mut text = serde_json::to_string_pretty(&routes::document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The wall clock of this machine: for what people are told, never for what is decided.
pub(crate) fn now() -> schemas::EventTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    schemas::EventTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
