//! From accept to an open connection: TLS, CONNECT, password. Until then a peer costs a task and little else.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use metrics::counter;
use mqtt_protocol_core::mqtt::result_code::ConnectReasonCode;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::closed::Closed;
use crate::connection::{Connection, Socket, part, poll_read};
use crate::connections::Place;
use crate::conversation::Conversation;
use crate::gateway::Shared;
use crate::hello::{Hello, Refusal};
use crate::identity::Identified;
use crate::onlooker::{Greeting, Sight, Watched};
use crate::reply::Listener;
use crate::telemetry::{CLOSED, CONNECTS_REFUSED, HALF_OPEN_DROPPED, RECEIPTS_FAILED};
use crate::tls::fingerprint;
use crate::wire::{Frame, Version, frame, kind};

/// From accept to CONNECT, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The largest CONNECT: who has not said its name yet gets no more memory than this.
pub(crate) const MAX_CONNECT: usize = 8 << 10;

/// Why no CONNECT came.
#[derive(Debug, thiserror::Error)]
enum NoHello {
    #[error("the peer is gone")]
    Gone,
    #[error("the socket failed: {0}")]
    Socket(#[from] std::io::Error),
    #[error("no CONNECT came in time")]
    Late,
    #[error("its place was needed, or the server stops")]
    Dropped,
    #[error("what came is no CONNECT")]
    Stranger,
}

impl NoHello {
    const fn label(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Socket(_) => "socket",
            Self::Late => "late",
            Self::Dropped => "dropped",
            Self::Stranger => "no_connect",
        }
    }
}

pub(crate) async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, place: Place, shared: Arc<Shared>) {
    let deadline = Instant::now() + CONNECT_WITHIN;
    tell(&shared, &place, || Sight::Arrived { tls: acceptor.is_some() });
    let Some(acceptor) = acceptor else { return converse(stream, None, place, shared, deadline).await };
    // boxed: a plain connection must not pay for the size of TLS
    Box::pin(async move {
        let accepted = tokio::select! {
            accepted = timeout_at(deadline, acceptor.accept(stream)) => accepted.map_err(|_| NoHello::Late).and_then(|accepted| Ok(accepted?)),
            _ = place.signal.any() => Err(NoHello::Dropped),
        };
        match accepted {
            Ok(stream) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(fingerprint);
                converse(stream, certificate, place, shared, deadline).await;
            }
            Err(error) => dropped(&error, &shared, &place),
        }
    })
    .await;
}

/// To whoever looks on.
fn tell<'a>(shared: &Shared, place: &Place, sight: impl FnOnce() -> Sight<'a>) {
    if let Some(onlooker) = &shared.onlooker {
        onlooker.see(place.id, sight());
    }
}

fn dropped(error: &NoHello, shared: &Shared, place: &Place) {
    tell(shared, place, || Sight::Stranger { detail: error.to_string() });
    counter!(HALF_OPEN_DROPPED, "reason" => error.label()).increment(1);
    tracing::debug!(%error, "a connection ended before its connect");
}

async fn converse<S: Socket>(mut stream: S, certificate: Option<String>, mut place: Place, shared: Arc<Shared>, deadline: Instant) {
    let mut input = BytesMut::new();
    let certified = certificate.is_some();
    let hello = tokio::select! {
        hello = timeout_at(deadline, hello(&mut stream, &mut input, certified)) => hello.unwrap_or(Err(NoHello::Late)),
        _ = place.signal.any() => Err(NoHello::Dropped),
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(error) => return dropped(&error, &shared, &place),
    };
    let admitted = match hello {
        Ok(mut hello) => match admit(&mut hello, certificate, &mut place, &shared) {
            Ok(identified) => Ok((hello, identified)),
            Err(refusal) => Err((refusal.within(hello.max_packet), hello.user)),
        },
        Err(refusal) => Err((refusal, String::new())),
    };
    let (hello, identified) = match admitted {
        Ok(admitted) => admitted,
        Err((refusal, user)) => {
            tell(&shared, &place, || Sight::Refused { user: &user, detail: refusal.detail });
            counter!(CONNECTS_REFUSED, "reason" => refusal.label).increment(1);
            tracing::debug!(reason = refusal.label, detail = refusal.detail, "connect refused");
            drop(place);
            return part(stream, &refusal.encode()).await;
        }
    };
    let listener = Listener { version: hello.version, problems: hello.problems, max_packet: hello.max_packet };
    let device = identified.device;
    let watched = shared.onlooker.as_ref().map(|onlooker| Watched::new(onlooker, place.id));
    let mut conversation = Conversation::new(shared.clone(), device.clone(), listener, input, watched);
    conversation.output.extend_from_slice(&hello.accept(shared.max_packet));
    tell(&shared, &place, || {
        let keep_alive = hello.patience.map(|patience| patience * 2 / 3);
        Sight::Connected(Greeting {
            device: &device,
            mqtt_5: hello.version == Version::V5,
            client: &hello.client,
            assigned: hello.assigned,
            keep_alive,
            certificate: certified,
        })
    });
    shared.meters.connections.increment(1);
    tracing::debug!(%device, version = ?hello.version, "device connected");
    let closed = Connection::new(stream, place.signal.clone(), conversation, hello.patience).run().await;
    shared.meters.connections.decrement(1);
    counter!(CLOSED, "reason" => closed.label()).increment(1);
    tell(&shared, &place, || Sight::Ended { reason: closed.label(), detail: closed.to_string() });
    match &closed {
        Closed::Receipt(error) => {
            counter!(RECEIPTS_FAILED).increment(1);
            if shared.unwritten.now() {
                tracing::error!(%device, %error, "a message could not be made durable and is not acknowledged; the device will send it again");
            }
        }
        closed => tracing::debug!(%device, reason = closed.label(), detail = %closed, "connection ended"),
    }
}

/// Waits for a whole CONNECT. What comes behind it stays in `input`.
async fn hello<S: Socket>(stream: &mut S, input: &mut BytesMut, certified: bool) -> Result<Result<Hello, Refusal>, NoHello> {
    loop {
        if input.first().is_some_and(|first| first >> 4 != kind::CONNECT) {
            return Err(NoHello::Stranger);
        }
        match frame(input, MAX_CONNECT) {
            Frame::Partial | Frame::Begun { .. } => {}
            Frame::Whole { header, total } => {
                let packet = input.split_to(total);
                return Ok(Hello::parse(&packet, header, certified));
            }
            Frame::TooLarge | Frame::Malformed => return Err(NoHello::Stranger),
        }
        if poll_fn(|context| poll_read(stream, context, input)).await? == 0 {
            return Err(NoHello::Gone);
        }
    }
}

/// Verifies certificate or password, and puts the connection among the open ones.
fn admit(hello: &mut Hello, certificate: Option<String>, place: &mut Place, shared: &Shared) -> Result<Identified, Refusal> {
    let view = shared.view.borrow().clone();
    let identified = match certificate {
        Some(fingerprint) => Identified::by_certificate(&view, hello, &fingerprint)?,
        None => Identified::by_password(&view, hello)?,
    };
    hello.password = None;
    if shared.is_full() {
        let detail = "there is no room for more messages until the journal has taken those that wait; try again later";
        return Err(Refusal::new(hello.version, ConnectReasonCode::QuotaExceeded, "full", detail));
    }
    if hello.assigned {
        hello.client = format!("{}-{:016x}", identified.device, rand::random::<u64>());
    }
    if hello.max_packet < usize::MAX && hello.accept(shared.max_packet).len() > hello.max_packet {
        // what is not offered here must be said, and may not be: there is no CONNACK to give
        let detail = "the CONNACK is larger than the client's Maximum Packet Size";
        return Err(Refusal::new(hello.version, ConnectReasonCode::PacketTooLarge, "max_packet", detail));
    }
    place.open(&identified.device, &hello.client, &identified.credential);
    // it may have been revoked since `view`, and before it stood where a revocation looks for it
    if !shared.view.borrow().admits(&identified.device, &identified.credential) {
        return Err(Refusal::new(hello.version, ConnectReasonCode::NotAuthorized, "revoked", "this device is revoked"));
    }
    Ok(identified)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size_of_output<A, B, C, D, F: Future>(_: &impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// A connection's task holds this from accept to end, whatever it does.
    #[test]
    fn a_connection_costs_little() {
        let size = size_of_output(&serve);
        assert!(size <= 3 << 10, "{size} bytes");
    }
}
