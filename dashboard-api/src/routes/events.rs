//! The stream: a level, not a history. It begins with a snapshot; a reader who loses it begins again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use schemas::EventTime;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;
use utoipa::IntoParams;

use crate::auth::{MayRead, Principal};
use crate::deltas::{TAIL, head};
use crate::listen::Peer;
use crate::problem::Problem;
use crate::sent::Asked;
use crate::view::{Beat, Snapshot};
use crate::{App, names};

const BEAT: Duration = Duration::from_secs(2);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Only its patients and alerts; counts of all wards come anyway.
    ward: Option<String>,
}

/// Counts the open streams, however they end.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!(names::STREAMS).increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(names::STREAMS).decrement(1.0);
    }
}

/// Server-sent events: `snapshot` (see Snapshot), `delta` (see Delta) within 20 ms of a change, `beat` (see Beat) every 2 s. `seq` counts by
/// one; after a gap the reader connects again. A snapshot may come again at any time (a patient is new, or changed wards) and replaces
/// everything. A reader who is too slow is disconnected; the stream ends with the session.
#[utoipa::path(get, path = "/api/v1/events", tag = "stream", params(Query),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 503, description = "too many streams")))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    MayRead(who): MayRead,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<Query>,
) -> Result<Response, Problem> {
    if let Some(ward) = &query.ward {
        app.known_ward(ward)?;
    }
    let detail = query.ward.as_deref().map_or_else(|| "all wards".to_owned(), |ward| format!("ward {ward}"));
    app.auditor.record(&who, "read.stream", None, detail).await?;
    let ward: Option<Arc<str>> = query.ward.map(Into::into);
    let stream = Stream { expires_at: who.expires_at, app, who, ward, seq: 0, seen: 0 };
    let body = stream.run(peer)?;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

struct Stream {
    app: Arc<App>,
    who: Arc<Principal>,
    ward: Option<Arc<str>>,
    seq: u64,
    /// Frames up to this one are in the snapshot.
    seen: u64,
    expires_at: Option<EventTime>,
}

impl Stream {
    fn run(mut self, peer: Peer) -> Result<Body, Problem> {
        let subscription = self.app.hub.subscribe(peer.cut);
        let mut frames = subscription.ok_or_else(|| Problem::unavailable("there are too many streams", "close other pages, or try again later"))?.frames;
        let stop = self.app.streams.clone();
        let counted = Counted::new();
        let body = stream! {
            let _counted = counted;
            yield Ok::<Bytes, Infallible>(Bytes::from_static(b"retry: 1000\n\n"));
            let Some(snapshot) = self.snapshot().await else { return };
            yield Ok(snapshot);
            let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    _ = beat.tick() => {
                        if !self.session_goes_on().await {
                            break;
                        }
                        match event("beat", &self.beat()) {
                            Some(beat) => yield Ok(beat),
                            None => break,
                        }
                    }
                    frame = frames.recv() => {
                        let Some(frame) = frame else { break };
                        if frame.number <= self.seen {
                            continue;
                        }
                        if frame.again {
                            let Some(snapshot) = self.snapshot().await else { break };
                            yield Ok(snapshot);
                        } else if let Some(body) = frame.body(self.ward.as_ref()) {
                            self.seq += 1;
                            yield Ok(Bytes::from(head(self.seq, crate::now().into())));
                            yield Ok(body);
                            yield Ok(Bytes::from_static(TAIL));
                        }
                    }
                }
            }
        };
        Ok(Body::from_stream(body))
    }

    async fn snapshot(&mut self) -> Option<Bytes> {
        self.seq += 1;
        let (app, ward, seq, expires_at, beat) = (self.app.clone(), self.ward.clone(), self.seq, self.expires_at, self.beat());
        let made = tokio::task::spawn_blocking(move || {
            let moment = app.hub.moment(ward.as_deref());
            let snapshot = Snapshot {
                epoch: app.hub.epoch.clone(),
                seq,
                server_time: crate::now().into(),
                build: app.build.clone(),
                session_expires_at: expires_at.map(Into::into),
                wards: moment.wards.clone(),
                patients: moment.rows(),
                alerts: moment.alerts(),
                beat,
            };
            event("snapshot", &snapshot).map(|bytes| (moment.frame, bytes))
        });
        let (frame, bytes) = made.await.ok().flatten()?;
        self.seen = frame;
        Some(bytes)
    }

    fn beat(&self) -> Beat {
        let pulse = &self.app.pulse;
        Beat {
            server_time: crate::now().into(),
            seq: self.seq,
            follower_lag_ms: pulse.lag_ms(),
            engine_clock: pulse.engine_clock(),
            canary_at: pulse.canary_at(),
            session_expires_at: self.expires_at.map(Into::into),
            build: self.app.build.clone(),
        }
    }

    /// A store that does not answer just now ends no stream before its session would end.
    async fn session_goes_on(&mut self) -> bool {
        match tokio::time::timeout(BEAT / 2, self.who.still_good(&self.app)).await {
            Ok(Ok(Some(expires_at))) => self.expires_at = expires_at,
            Ok(Ok(None)) => return false,
            Ok(Err(_)) | Err(_) => {}
        }
        self.expires_at.is_none_or(|expires_at| expires_at > crate::now())
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Option<Bytes> {
    let json = serde_json::to_string(data).ok()?;
    Some(Bytes::from(format!("event: {name}\ndata: {json}\n\n")))
}
