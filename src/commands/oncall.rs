//! `vigil oncall`: who is paged, when, and whether anybody is (docs/oncall.md).

mod night;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alerts::Reach;
use alerts::oncall::{OnCall, Uncovered};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use schemas::{EventTime, Priority};
use serde_json::{Map, Value, json};
use store::Store;

use crate::config::Config;
use crate::exit::Usage;
use crate::installation::{self, console, now};
use crate::output;
use crate::roles;

#[derive(Debug, Subcommand)]
pub enum OnCallCommand {
    /// Puts the on-call file into force, in place of the one that is; refuses one that leaves an hour without anybody
    Load(Load),
    /// Says who is on call, and with --ward or --priority who would be paged step by step
    Who(Who),
    /// Lists the hours in which nobody is on call; fails when there are any
    Gaps(Gaps),
    /// Sends a page that says it is a test, by every channel of a person or by one channel
    Test(Test),
    /// Goes through every rule, patient and hour of a night without paging anybody, and names what would not reach anyone
    Rehearse(night::Rehearse),
    /// Prints the on-call file in force, as `load` takes it
    Show {
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Load {
    pub file: PathBuf,
    /// Into force although hours are uncovered; they are kept beside the version
    #[arg(long)]
    pub force: bool,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Who {
    /// now, 07:00 (the next), 2026-11-27T07:00 on the wall, or RFC 3339 with a zone
    #[arg(long, default_value = "now")]
    pub at: String,
    /// The ward of the patient
    #[arg(long)]
    pub ward: Option<String>,
    /// high, medium or low; high, when only the ward is said
    #[arg(long)]
    pub priority: Option<String>,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Gaps {
    /// The on-call file to look at; the one in force, when left out
    pub file: Option<PathBuf>,
    #[arg(long, default_value = "now")]
    pub from: String,
    /// Until everything that is written has had its turn, when left out: four weeks at least
    #[arg(long)]
    pub until: Option<String>,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Test {
    /// A person of the on-call file, or a channel such as webhook:pager
    pub whom: String,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn run(command: OnCallCommand) -> anyhow::Result<()> {
    match command {
        OnCallCommand::Load(load) => self::load(load).await,
        OnCallCommand::Who(who) => self::who(who).await,
        OnCallCommand::Gaps(gaps) => self::gaps(gaps).await,
        OnCallCommand::Test(test) => self::test(test).await,
        OnCallCommand::Rehearse(rehearse) => night::run(rehearse).await,
        OnCallCommand::Show { config } => {
            let store = installation::open_store(&Config::load(&config)?).await?;
            let loaded = store.oncall().await?;
            store.close().await;
            let loaded = loaded.context(NONE)?;
            let mut out = std::io::stdout();
            writeln!(out, "# version {}, by {}", loaded.version, loaded.author)?;
            write!(out, "{}", loaded.toml)?;
            Ok(())
        }
    }
}

const NONE: &str = "no on-call file was ever loaded: every channel is paged, again and again; `vigil oncall load FILE` loads one";

/// Gaps that a refusal names.
const NAMED: usize = 10;

async fn load(args: Load) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let (text, oncall) = read(&args.file)?;
    let reach = reach(&config)?;
    let store = installation::open_store(&config).await?;
    wards(&store, &oncall).await?;
    warn(&store, &oncall, &reach).await?;
    let from = now();
    let until = oncall.horizon(from);
    let uncovered = oncall.uncovered(from, until, |channel| reach.fails(channel).is_none());
    let forced = uncovered_in_words(&oncall, &uncovered);
    if !uncovered.is_empty() && !args.force {
        bail!(
            "until {} there are hours in which a policy reaches nobody:\n{forced}\nput somebody there who has a channel that works, or load it all the same with --force",
            oncall.wall(until)
        );
    }
    let base = store.oncall_version().await?.unwrap_or(0);
    let loaded = store.put_oncall(&text, &console(), &forced, base, from).await?;
    store.close().await;
    let row = json!({"version": loaded.version, "by": loaded.author, "looked_until": oncall.wall(until), "uncovered": uncovered.len()});
    let forced = if forced.is_empty() { String::new() } else { format!("; forced, although nobody is there:\n{forced}") };
    Ok(output::tell(&row, format_args!("version {} is in force; it was looked at until {}{forced}", loaded.version, oncall.wall(until)))?)
}

fn read(file: &Path) -> anyhow::Result<(String, OnCall)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let oncall = OnCall::parse(&text).with_context(|| file.display().to_string())?;
    Ok((text, oncall))
}

/// The one in force.
async fn in_force(store: &Store) -> anyhow::Result<OnCall> {
    let loaded = store.oncall().await?.context(NONE)?;
    OnCall::parse(&loaded.toml).with_context(|| format!("version {} in force", loaded.version))
}

fn reach(config: &Config) -> anyhow::Result<Reach> {
    crate::telemetry::cryptography();
    Ok(Reach::new(&roles::alerts(config, None)?)?)
}

/// A ward that is not there would leave its patients to another policy.
async fn wards(store: &Store, oncall: &OnCall) -> anyhow::Result<()> {
    let there: Vec<String> = store.wards().await?.into_iter().map(|ward| ward.id).collect();
    for policy in &oncall.policies {
        if let Some(missing) = policy.wards.iter().find(|ward| !there.contains(ward)) {
            bail!("the policy {} is for the ward `{missing}`, which is not there; the wards are: {}", policy.name, there.join(", "));
        }
    }
    Ok(())
}

/// What does not keep a file from being loaded, and should be known.
async fn warn(store: &Store, oncall: &OnCall, reach: &Reach) -> anyhow::Result<()> {
    let users: Vec<String> = store.users().await?.into_iter().filter(|user| user.disabled_at.is_none()).map(|user| user.name).collect();
    let mut said = std::io::stderr();
    for (person, channels) in &oncall.people {
        if !users.contains(person) {
            writeln!(said, "{person} is no user: nobody signs in by that name, and no alert can be given to them; `vigil user add {person}` adds one")?;
        }
        for channel in channels {
            if let Some(why) = reach.fails(channel) {
                writeln!(said, "{person} cannot be paged by {channel}: {why}")?;
            }
        }
    }
    Ok(())
}

fn uncovered_in_words(oncall: &OnCall, uncovered: &[Uncovered]) -> String {
    let words = |one: &Uncovered| format!("  {}: {} until {}", one.policy, oncall.wall(one.gap.from), oncall.wall(one.gap.until));
    let mut lines: Vec<String> = uncovered.iter().take(NAMED).map(words).collect();
    if uncovered.len() > NAMED {
        lines.push(format!("  and {} more", uncovered.len() - NAMED));
    }
    lines.join("\n")
}

async fn who(args: Who) -> anyhow::Result<()> {
    let store = installation::open_store(&Config::load(&args.config)?).await?;
    let oncall = in_force(&store).await?;
    let wards = store.wards().await?;
    store.close().await;
    let at = moment(&oncall, "--at", &args.at, now())?;
    if args.ward.is_none() && args.priority.is_none() {
        let mut rows = Vec::new();
        for (name, schedule) in &oncall.schedules {
            let who = schedule.who(at).join(", ");
            let until = schedule.relieved(at, oncall.horizon(at)).map(|until| oncall.wall(until));
            rows.push(row(json!({"at": oncall.wall(at), "schedule": name, "on_call": who, "until": until})));
        }
        return Ok(output::print(&rows)?);
    }
    if let Some(ward) = args.ward.as_ref().filter(|ward| !wards.iter().any(|one| one.id == **ward)) {
        return Err(Usage(format!("--ward {ward}: there is no such ward; `vigil ward list` lists them")).into());
    }
    let priority = priority(args.priority.as_deref().unwrap_or("high"))?;
    let policy = oncall.policy(args.ward.as_deref(), priority).map(|policy| policy.name.clone());
    let plan = oncall.plan(args.ward.as_deref(), priority, None, at);
    let mut after = schemas::Micros::ZERO;
    let mut rows = Vec::new();
    for step in &plan.steps {
        for to in &step.to {
            let who = to.person.as_deref().unwrap_or("whoever reads it");
            let first = if after == schemas::Micros::ZERO { "at once".to_owned() } else { after.to_string() };
            rows.push(row(json!({"policy": policy, "step": step.index, "after": first, "who": who, "channels": to.channels.join(", then ")})));
        }
        after = after + step.wait;
    }
    anyhow::ensure!(!rows.is_empty(), "nobody is there: every channel of the configuration would be paged");
    Ok(output::print(&rows)?)
}

async fn gaps(args: Gaps) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let oncall = match &args.file {
        Some(file) => read(file)?.1,
        None => {
            let store = installation::open_store(&config).await?;
            let oncall = in_force(&store).await?;
            store.close().await;
            oncall
        }
    };
    let reach = reach(&config)?;
    let from = moment(&oncall, "--from", &args.from, now())?;
    let until = args.until.as_deref().map(|until| moment(&oncall, "--until", until, from)).transpose()?.unwrap_or_else(|| oncall.horizon(from));
    let mut rows = Vec::new();
    let mut add = |what: &str, name: &str, from: EventTime, until: EventTime| {
        rows.push(row(json!({"what": what, "name": name, "from": oncall.wall(from), "until": oncall.wall(until), "hours": (until - from).0 as f64 / 3.6e9})));
    };
    for (name, schedule) in &oncall.schedules {
        for gap in schedule.gaps(from, until) {
            add("schedule", name, gap.from, gap.until);
        }
    }
    let uncovered = oncall.uncovered(from, until, |channel| reach.fails(channel).is_none());
    for one in &uncovered {
        add("policy", &one.policy, one.gap.from, one.gap.until);
    }
    if rows.is_empty() {
        let row = json!({"what": "covered", "from": oncall.wall(from), "until": oncall.wall(until)});
        return Ok(output::tell(&row, format_args!("somebody is there at any time from {} until {}", oncall.wall(from), oncall.wall(until)))?);
    }
    output::print(&rows)?;
    anyhow::ensure!(uncovered.is_empty(), "{} stretches in which a policy reaches nobody", uncovered.len());
    Ok(())
}

async fn test(args: Test) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let reach = reach(&config)?;
    let channels = if args.whom.contains(':') {
        vec![args.whom.clone()]
    } else {
        let store = installation::open_store(&config).await?;
        let oncall = in_force(&store).await?;
        store.close().await;
        let names = || oncall.people.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let channels = oncall.people.get(&args.whom).cloned();
        channels.ok_or_else(|| {
            Usage(format!("{}: nobody of that name is in the on-call file, and it is no channel such as webhook:pager; there are: {}", args.whom, names()))
        })?
    };
    anyhow::ensure!(!channels.is_empty(), "{} has no channel: give them one in the on-call file", args.whom);
    let mut failed = 0;
    for channel in &channels {
        let began = Instant::now();
        let outcome = reach.test(channel, now()).await;
        let took: Duration = began.elapsed();
        failed += usize::from(outcome.is_err());
        let said = outcome.as_ref().err().map_or_else(|| "accepted: ask whether it arrived".to_owned(), Clone::clone);
        let row = json!({"channel": channel, "accepted": outcome.is_ok(), "ms": took.as_millis() as u64, "said": said});
        output::tell(&row, format_args!("{channel}  {said}  ({} ms)", took.as_millis()))?;
    }
    anyhow::ensure!(failed == 0, "{failed} of {} channels did not take the page", channels.len());
    Ok(())
}

fn moment(oncall: &OnCall, option: &str, text: &str, now: EventTime) -> anyhow::Result<EventTime> {
    oncall.moment(text, now).map_err(|error| Usage(format!("{option}: {error}")).into())
}

fn priority(text: &str) -> anyhow::Result<Priority> {
    match text {
        "high" => Ok(Priority::High),
        "medium" => Ok(Priority::Medium),
        "low" => Ok(Priority::Low),
        _ => Err(Usage(format!("--priority {text}: it is high, medium or low")).into()),
    }
}

fn row(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(row) => row,
        _ => Map::new(),
    }
}
