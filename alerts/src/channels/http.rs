//! One HTTP request and what its answer means, for every channel that speaks it.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};

use super::{CONNECT, TOTAL, Undelivered};
use crate::{AlertsError, now};

/// Of an answer no more is read.
const MOST: usize = 16 << 10;

pub(super) fn client() -> Result<Client, AlertsError> {
    // without a provider the client would panic
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(AlertsError::NoTlsProvider);
    }
    let client = Client::builder()
        .connect_timeout(CONNECT)
        .timeout(TOTAL)
        // a redirect would hand the signed page to whoever the answer names
        .redirect(redirect::Policy::none())
        .user_agent(concat!("vigil/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(|error| AlertsError::Channel { channel: "by HTTP".to_owned(), why: error.to_string() })
}

/// The answer's text, when it is a good one.
pub(super) async fn send(request: RequestBuilder) -> Result<String, Undelivered> {
    // the error's own text holds the address, which may hold a token
    let answer = request.send().await.map_err(|error| Undelivered::now(reason(&error.without_url())))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(text(answer).await);
    }
    let after = after(&answer);
    let answered = format!("answered {}", status.as_u16());
    Err(match status {
        StatusCode::GONE => Undelivered::for_good("answered 410: the receiver wants no more"),
        // what is wrong is ours to mend, and then the page still arrives
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            let why = text(answer).await;
            Undelivered::now(format!("{answered}: {why}"))
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Undelivered { after, ..Undelivered::now(answered) },
        _ => Undelivered::now(answered),
    })
}

async fn text(mut answer: Response) -> String {
    let mut all = Vec::new();
    while let Ok(Some(part)) = answer.chunk().await {
        all.extend_from_slice(&part);
        if all.len() >= MOST {
            all.truncate(MOST);
            break;
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// `Retry-After`, in seconds or as a date.
fn after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_microsecond();
    Some(Duration::from_micros(u64::try_from(at - now().0).unwrap_or(0)))
}

/// The outermost error says only that sending failed; the innermost says why.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_timeout() { format!("no answer in time: {cause}") } else { cause.to_string() }
}
