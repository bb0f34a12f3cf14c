//! A worker that fails because something is away starts again; any other failure ends the role.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::AlertsError;

/// Failures in a row from which on an operator is asked for.
const MANY: u32 = 6;
/// Who ran this long has recovered.
const WELL: Duration = Duration::from_secs(120);

pub(crate) async fn supervise<F>(worker: &'static str, stop: CancellationToken, run: impl Fn(CancellationToken) -> F) -> Result<(), AlertsError>
where
    F: Future<Output = Result<(), AlertsError>>,
{
    let mut failures = 0;
    loop {
        let began = tokio::time::Instant::now();
        let error = match run(stop.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        if stop.is_cancelled() {
            return Ok(());
        }
        failures = if began.elapsed() > WELL { 1 } else { failures + 1 };
        if !wait(worker, &error, failures, &stop).await {
            return Ok(());
        }
    }
}

/// Says what is away and waits before the next attempt; `false`: stopped.
pub(crate) async fn wait(worker: &'static str, error: &AlertsError, failures: u32, stop: &CancellationToken) -> bool {
    let pause = pause(failures);
    if failures < MANY {
        tracing::warn!(worker, %error, again_in = ?pause, "alerts wait");
    } else {
        tracing::error!(worker, %error, failures, again_in = ?pause, "alerts wait and nobody may be paged");
    }
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}

/// 100 ms to 15 s, with chance in it, so that processes that failed together do not come back together.
fn pause(failures: u32) -> Duration {
    let most = Duration::from_millis(100).saturating_mul(1 << failures.min(8)).min(Duration::from_secs(15));
    most.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}
