//! One job's process: begun, listened to, and ended when it is no longer wanted or leaves too little room on the disk.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::record::{Job, Kind, Progress};
use super::{File, Jobs, listing};

/// Of what it says of itself, the last lines are kept.
const LINES: usize = 20;
const WATCH: Duration = Duration::from_secs(1);
/// Others wait behind it.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

pub(super) enum Ended {
    Done(Value, Vec<File>),
    Failed(String),
    Cancelled,
    /// The dashboard ends.
    Stopped,
}

/// A line that is meant for us, and not for people.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Progress {
        progress: Progress,
    },
    /// Under which id the result is kept.
    Backtest {
        backtest: String,
    },
}

pub(super) async fn run(how: &Jobs, job: &Job, folder: &Path, cancel: &CancellationToken, stop: &CancellationToken, tell: impl Fn(Progress)) -> Ended {
    let began = prepare(how, job, folder).and_then(|mut command| command.spawn());
    let mut child = match began {
        Ok(child) => child,
        Err(error) => return Ended::Failed(format!("it could not be begun: {error}")),
    };
    let ended = listen(how, &mut child, folder, cancel, stop, tell).await;
    // whatever happened, nothing of it runs on
    if let Err(error) = child.kill().await {
        tracing::debug!(%error, "a job's process had ended");
    }
    drop(std::fs::remove_dir_all(folder.join("tmp")));
    match ended {
        Ok(said) => finish(job, folder, said).unwrap_or_else(|error| Ended::Failed(format!("its result cannot be kept: {error}"))),
        Err(ended) => ended,
    }
}

fn prepare(how: &Jobs, job: &Job, folder: &Path) -> io::Result<Command> {
    // what an earlier attempt left
    for left in ["out", "tmp"] {
        match std::fs::remove_dir_all(folder.join(left)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::create_dir(folder.join("tmp"))?;
    if job.kind != Kind::Export {
        std::fs::create_dir(folder.join("out"))?;
    }
    // in a file, not in the arguments: those stand in the list of processes for everybody
    let request = json!({"person": job.person, "arguments": job.arguments});
    std::fs::write(folder.join("request.json"), request.to_string())?;
    let (folder, config) = (folder.canonicalize()?, how.config.canonicalize()?);
    let mut command = Command::new(&how.program);
    command.arg("job").arg(&folder).arg("--config").arg(config);
    command.current_dir(&folder).env("TMPDIR", folder.join("tmp"));
    command.stdin(Stdio::piped()).stdout(std::fs::File::create(folder.join("stdout"))?).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

/// `Ok`: it ended by itself, and well; with what it said of its result.
async fn listen(
    how: &Jobs,
    child: &mut Child,
    folder: &Path,
    cancel: &CancellationToken,
    stop: &CancellationToken,
    tell: impl Fn(Progress),
) -> Result<Value, Ended> {
    // held open: the process ends when this one is gone
    let _held = child.stdin.take();
    let mut lines = child.stderr.take().map(|said| BufReader::new(said).lines());
    let (mut last, mut result) = (VecDeque::new(), Value::Null);
    let (began, mut watch) = (tokio::time::Instant::now(), tokio::time::interval(WATCH));
    let status = loop {
        let line = async {
            match &mut lines {
                Some(lines) => lines.next_line().await,
                None => Ok(None),
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Ended::Cancelled),
            () = stop.cancelled() => return Err(Ended::Stopped),
            _ = watch.tick() => {
                if began.elapsed() > LONGEST {
                    return Err(Ended::Failed("it was ended after six hours, because others wait behind it: ask for less at a time".to_owned()));
                }
                if let Some(free) = room(folder).filter(|free| *free < how.leave) {
                    let (free, leave) = (free >> 20, how.leave >> 20);
                    return Err(Ended::Failed(format!("it was ended: the disk has {free} MiB left, and {leave} are kept for readings (dashboard.jobs_leave); ask for less, or free some")));
                }
            }
            line = line => match line {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(Said::Progress { progress }) => tell(progress),
                    Ok(Said::Backtest { backtest }) => result = json!({"backtest": backtest}),
                    Err(_) => {
                        last.push_back(line);
                        if last.len() > LINES {
                            last.pop_front();
                        }
                    }
                },
                _ => break child.wait().await,
            }
        }
    };
    match status {
        Ok(status) if status.success() => Ok(result),
        Ok(status) => {
            let said = Vec::from(last).join("\n");
            let said = said.trim().trim_start_matches("vigil: ");
            Err(Ended::Failed(if said.is_empty() {
                format!("its process ended with {status}; it may have needed more memory than there is")
            } else {
                said.to_owned()
            }))
        }
        Err(error) => Err(Ended::Failed(format!("its process: {error}"))),
    }
}

/// Bytes that are free for us.
fn room(folder: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(folder).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

/// What it printed and wrote becomes its result.
fn finish(job: &Job, folder: &Path, said: Value) -> io::Result<Ended> {
    let printed = std::fs::read(folder.join("stdout"))?;
    let mut result: Value = serde_json::from_slice(&printed).unwrap_or_default();
    if job.kind == Kind::Backtest {
        if !job.identified {
            nobody(&mut result);
        }
        std::fs::write(folder.join("out/report.json"), serde_json::to_vec_pretty(&result)?)?;
        // the report is in the file: a list of jobs is no place for it
        result = said;
    }
    if let Value::Object(result) = &mut result {
        // where it lies is nobody's business
        result.remove("folder");
        result.remove("file");
    }
    Ok(Ended::Done(result, listing(&folder.join("out"))?))
}

/// Takes out of a report whom it speaks of.
fn nobody(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("patient");
            if let Some(Value::Object(top)) = object.get_mut("top_patients") {
                top.remove("patients");
            }
            object.values_mut().for_each(nobody);
        }
        Value::Array(array) => array.iter_mut().for_each(nobody),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_patients_keeps_its_numbers() {
        let mut report =
            json!({"burden": {"alerts": 3, "top_patients": {"share": 0.5, "patients": [["ada", 2]]}}, "events": [{"patient": "ada", "lead_hours": 1.0}]});
        nobody(&mut report);
        assert_eq!(report, json!({"burden": {"alerts": 3, "top_patients": {"share": 0.5}}, "events": [{"lead_hours": 1.0}]}));
    }
}
