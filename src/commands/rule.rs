//! `vigil rule`: what is looked for in vitals.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use engine::RuleBook;
use serde_json::json;

use crate::config::Config;
use crate::installation;
use crate::output;

#[derive(Debug, Subcommand)]
pub enum RuleCommand {
    /// Reads rules and says what is wrong with them; changes nothing
    Check { file: PathBuf },
    /// Plays the cases of rule files through the engine: what is measured when, and what is expected to be said of it (docs/rules.md)
    Test {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Says what is different in a file of rules: new, gone, changed, on its way to the people
    Diff(super::activation::Diff),
    /// Puts the rules of the file into force, in place of all that are; where two persons are asked for, proposes them
    Load(super::activation::Load),
    /// Puts what somebody else proposed into force
    Approve(super::activation::Decide),
    /// Turns down what was proposed
    Reject(super::activation::Decide),
    /// Lists who put which rules into force on what grounds, and what waits
    Changes {
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Counts by day what rules on trial raised beside the live ones
    ShadowReport(super::shadow::ShadowReport),
    /// Tries rules on the history in the lake: what they would have told, and what that would have cost
    Backtest(Box<super::backtest::Backtest>),
    /// Tries one rule on history with every threshold and hold of a grid
    Sweep(Box<super::sweep::Sweep>),
    /// Says why a rule had or had not raised for a patient
    Explain(super::explain::Explain),
    /// Prints the rules in force, as a file that `load` takes
    Show {
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
}

pub async fn run(command: RuleCommand) -> anyhow::Result<()> {
    match command {
        RuleCommand::Check { file } => {
            let (_, count) = read(&file)?;
            let file = file.display().to_string();
            output::tell(&json!({"file": file, "rules": count}), format_args!("{file} is good: {count} rules"))?;
        }
        RuleCommand::Test { files } => test(&files)?,
        RuleCommand::Diff(diff) => super::activation::diff(diff).await?,
        RuleCommand::Load(load) => super::activation::load(load).await?,
        RuleCommand::Approve(decide) => super::activation::approve(decide).await?,
        RuleCommand::Reject(decide) => super::activation::reject(decide).await?,
        RuleCommand::Changes { config } => super::activation::changes(&config).await?,
        RuleCommand::ShadowReport(report) => super::shadow::run(report).await?,
        RuleCommand::Backtest(backtest) => super::backtest::run(*backtest).await?,
        RuleCommand::Sweep(sweep) => super::sweep::run(*sweep).await?,
        RuleCommand::Explain(explain) => super::explain::run(explain).await?,
        RuleCommand::Show { config } => {
            let store = installation::open_store(&Config::load(&config)?).await?;
            let rules = store.rules().await?;
            store.close().await;
            let rules = rules.context("no rules were ever loaded; `vigil rule load FILE` does so")?;
            // a file, wherever it goes
            let mut out = std::io::stdout();
            writeln!(out, "# version {}, by {}", rules.version, rules.author)?;
            write!(out, "{}", rules.toml)?;
        }
    }
    Ok(())
}

/// Fails when a case says something else than is expected of it, or when there is none.
fn test(files: &[PathBuf]) -> anyhow::Result<()> {
    let (mut played, mut failed) = (0, 0);
    for file in files {
        let toml = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.display().to_string();
        let reports = engine::run_cases(&toml).map_err(|errors| anyhow::anyhow!("{name}:\n{errors}"))?;
        anyhow::ensure!(!reports.is_empty(), "{name} has no [[case]]; docs/rules.md shows how one is written");
        for report in reports {
            played += 1;
            failed += usize::from(!report.passed());
            let row = json!({"file": name, "line": report.line, "case": report.name, "passed": report.passed(), "report": report.to_string()});
            output::tell(&row, format_args!("{name}: {report}"))?;
        }
    }
    anyhow::ensure!(failed == 0, "{failed} of {played} cases are not as expected");
    Ok(())
}

/// The file's text, and how many rules it holds.
pub(super) fn read(file: &Path) -> anyhow::Result<(String, usize)> {
    let (toml, book) = compiled(file)?;
    // one is Vigil's own
    Ok((toml, (book.rules.len() + book.drafts.len()).saturating_sub(1)))
}

/// The file's text, and what it says; warnings go to standard error.
pub(super) fn compiled(file: &Path) -> anyhow::Result<(String, RuleBook)> {
    let toml = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let book = engine::compile(&toml).map_err(|errors| anyhow::anyhow!("{}:\n{errors}", file.display()))?;
    let mut said = std::io::stderr();
    book.warnings.iter().try_for_each(|warning| writeln!(said, "{warning}"))?;
    Ok((toml, book))
}
