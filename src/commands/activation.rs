//! Rules into force: on what grounds, by whom, and, where the configuration asks for it, by a second person.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use engine::BookDiff;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::Store;
use store::rule_changes::{NewRules, RuleChange};
use store::users::Role;

use super::rule::compiled;
use crate::config::Config;
use crate::exit::Usage;
use crate::installation::{self, console, now};
use crate::output;

/// A reason says something.
const LEAST: usize = 10;

#[derive(Debug, Args)]
pub struct Load {
    pub file: PathBuf,
    /// The back-test of these very rules: `vigil rule backtest` prints its id
    #[arg(long)]
    pub backtest: Option<String>,
    /// Why rules go live without a back-test, or what is to be said beside it
    #[arg(long)]
    pub reason: Option<String>,
    #[command(flatten)]
    pub who: Who,
}

/// Who decides.
#[derive(Debug, Args)]
pub struct Who {
    /// A token of yours, so that the change is yours and not the console's: `vigil user token NAME --label rules` prints one
    #[arg(long, env = "VIGIL_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Decide {
    /// As `vigil rule load` and `vigil rule changes` print it
    pub change: String,
    #[arg(long, default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub who: Who,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The rules before; the only file: those after, and the rules in force are before
    pub old: PathBuf,
    pub new: Option<PathBuf>,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn load(args: Load) -> anyhow::Result<()> {
    let (toml, book) = compiled(&args.file)?;
    let config = Config::load(&args.who.config)?;
    let store = installation::open_store(&config).await?;
    let current = store.rules().await?;
    let before = current.as_ref().map(|rules| engine::compile(&rules.toml)).transpose()?.unwrap_or_default();
    let diff = BookDiff::of(&before, &book);
    let reason = args.reason.as_deref().unwrap_or("").trim();
    grounds(&store, &diff, &toml, args.backtest.as_deref(), reason).await?;
    let person = person(&store, &args.who, config.rules.second_person).await?;
    let new = NewRules { toml: &toml, base: current.map_or(0, |rules| rules.version), backtest: args.backtest.as_deref(), reason };
    let two = config.rules.second_person;
    let change = if two { store.propose_rules(&new, &person, now()).await? } else { store.load_rules(&new, &person, now()).await? };
    store.close().await;
    let count = book.rules.len().saturating_sub(1);
    let row = json!({"change": change.id, "version": change.version, "rules": count, "drafts": book.drafts.len(), "by": person});
    let words = match change.version {
        Some(version) => format!("{diff}\nversion {version}: {count} rules, in force as soon as the installation runs"),
        None => format!("{diff}\nchange {id} waits for a second person: `vigil rule approve {id}`", id = change.id),
    };
    Ok(output::tell(&row, words)?)
}

/// Rules that page people from now on, or for something else than before, do so on grounds that can be read later.
async fn grounds(store: &Store, diff: &BookDiff, toml: &str, backtest: Option<&str>, reason: &str) -> anyhow::Result<()> {
    if let Some(id) = backtest {
        let known = store.backtest(id).await?.with_context(|| format!("no back-test {id} is recorded; `vigil rule backtest` prints the id of one"))?;
        if known.rules_hash != hash(toml) {
            return Err(Usage(format!("back-test {id} was of other rules than this file: `vigil rule backtest` it as it is to be loaded")).into());
        }
        return Ok(());
    }
    let live: Vec<&str> = diff.rules.iter().filter(|rule| rule.activates()).map(|rule| rule.rule.as_str()).collect();
    if live.is_empty() || reason.chars().count() >= LEAST {
        return Ok(());
    }
    let what = live.join(", ");
    let remedy = "say what they were tried on with --backtest ID, or why not with --reason \"…\", or give them state = \"shadow\"";
    Err(Usage(format!("{what} would page people in another way than now: {remedy}")).into())
}

fn hash(toml: &str) -> String {
    Sha256::digest(toml.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A user by their token; the console where one person is enough.
async fn person(store: &Store, who: &Who, two: bool) -> anyhow::Result<String> {
    let Some(token) = &who.token else {
        if two {
            return Err(Usage("rules.second_person is set: VIGIL_TOKEN says who you are; `vigil user token NAME --label rules` prints one".to_owned()).into());
        }
        return Ok(console());
    };
    let (user, token) = store.api_token(token, now()).await?.context("VIGIL_TOKEN is not a token of a user of this installation, or no longer")?;
    let may = user.role == Role::Admin && token.scopes.iter().any(|scope| scope == "admin");
    anyhow::ensure!(may, "{} may not change rules: it takes the role admin, and a token made with --scope admin", user.name);
    Ok(user.name)
}

pub async fn approve(args: Decide) -> anyhow::Result<()> {
    let store = installation::open_store(&Config::load(&args.who.config)?).await?;
    let person = person(&store, &args.who, true).await?;
    let rules = store.approve_rules(&args.change, &person, now()).await?;
    store.close().await;
    let row = json!({"change": args.change, "version": rules.version, "by": rules.author});
    Ok(output::tell(&row, format_args!("version {}, in force as soon as the installation runs", rules.version))?)
}

pub async fn reject(args: Decide) -> anyhow::Result<()> {
    let store = installation::open_store(&Config::load(&args.who.config)?).await?;
    let person = person(&store, &args.who, true).await?;
    store.reject_rules(&args.change, &person, &args.reason, now()).await?;
    store.close().await;
    Ok(output::tell(&json!({"change": args.change, "state": "rejected"}), format_args!("change {} is rejected", args.change))?)
}

pub async fn changes(config: &Path) -> anyhow::Result<()> {
    let store = installation::open_store(&Config::load(config)?).await?;
    let changes = store.rule_changes(100).await?;
    store.close().await;
    let rows: Vec<_> = changes.iter().filter_map(|change| row(change).as_object().cloned()).collect();
    Ok(output::print(&rows)?)
}

fn row(c: &RuleChange) -> Value {
    json!({
        "change": c.id, "state": c.state.as_str(), "version": c.version, "proposed_by": c.proposed_by, "proposed_at": c.proposed_at.to_string(),
        "decided_by": c.decided_by, "backtest": c.backtest, "reason": c.reason,
    })
}

pub async fn diff(args: Diff) -> anyhow::Result<()> {
    let (before, after) = match &args.new {
        Some(new) => (compiled(&args.old)?.1, compiled(new)?.1),
        None => {
            let store = installation::open_store(&Config::load(&args.config)?).await?;
            let rules = store.rules().await?;
            store.close().await;
            (rules.map(|rules| engine::compile(&rules.toml)).transpose()?.unwrap_or_default(), compiled(&args.old)?.1)
        }
    };
    let diff = BookDiff::of(&before, &after);
    if output::format() == output::Format::Table {
        return Ok(output::tell(&Value::Null, &diff)?);
    }
    let state = |state: Option<engine::State>| state.map(|state| state.to_string());
    let rows = diff.rules.iter().map(|rule| {
        let fields: serde_json::Map<String, Value> =
            rule.fields.iter().map(|field| (field.field.to_owned(), json!({"before": field.before, "after": field.after}))).collect();
        json!({"rule": rule.rule.as_str(), "before": state(rule.before), "after": state(rule.after), "activates": rule.activates(), "fields": fields})
    });
    Ok(output::print(&rows.filter_map(|row| row.as_object().cloned()).collect::<Vec<_>>())?)
}
