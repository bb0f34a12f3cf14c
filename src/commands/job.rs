//! `vigil job`: what somebody asked for over the API, in a process of its own.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Parser};
use serde::Deserialize;

use super::rule::RuleCommand;
use crate::exit::Usage;
use crate::{Arguments, Command, installation, output};

#[derive(Debug, Args)]
pub struct Job {
    /// Where its request lies
    folder: PathBuf,
    #[arg(long)]
    config: PathBuf,
}

#[derive(Deserialize)]
struct Request {
    person: String,
    arguments: Vec<String>,
}

/// The command that was asked for, by whom it was asked for.
pub fn begin(job: Job) -> anyhow::Result<Arguments> {
    yield_to_others();
    let file = job.folder.join("request.json");
    let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let request: Request = serde_json::from_slice(&text).with_context(|| format!("{} is no request", file.display()))?;
    installation::act_for(request.person);
    output::for_a_program();
    let mut arguments: Vec<OsString> = ["vigil".into(), "--format=ndjson".into()].into();
    arguments.extend(request.arguments.into_iter().map(OsString::from));
    // before what is no option
    let at = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    arguments.splice(at..at, ["--config".into(), job.config.into()]);
    let asked = Arguments::try_parse_from(arguments).map_err(|error| Usage(error.render().to_string().trim_start_matches("error: ").trim_end().to_owned()))?;
    match &asked.command {
        Command::Sql(_) | Command::Export(_) | Command::Rule(RuleCommand::Backtest(_)) => Ok(asked),
        _ => bail!("no job does this"),
    }
}

/// Whatever watches patients goes first: by time, and when memory runs out. And when whoever began this is gone, so is this.
fn yield_to_others() {
    // where neither can be had the system chooses by itself
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000").and_then(|()| Ok(rustix::process::nice(10)?)) {
        tracing::debug!(%error, "this job goes beside everything else");
    }
    std::thread::spawn(|| {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(130);
    });
}
