//! `vigil rule`: what is looked for in vitals.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;

use crate::config::Config;
use crate::installation::{self, console, now};
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
    /// Puts the rules of the file into force, in place of all that are
    Load {
        file: PathBuf,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
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
        RuleCommand::Load { file, config } => {
            let (toml, count) = read(&file)?;
            let store = installation::open_store(&Config::load(&config)?).await?;
            let before = store.rules().await?.map_or(0, |rules| rules.version);
            let loaded = store.put_rules(&toml, &console(), before, now()).await?;
            store.close().await;
            let version = loaded.version;
            let words = format_args!("version {version}: {count} rules, in force as soon as the installation runs");
            output::tell(&json!({"version": version, "rules": count}), words)?;
        }
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
fn read(file: &Path) -> anyhow::Result<(String, usize)> {
    let toml = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    match engine::compile(&toml) {
        // one is Vigil's own
        Ok(book) => {
            let mut said = std::io::stderr();
            book.warnings.iter().try_for_each(|warning| writeln!(said, "{warning}"))?;
            Ok((toml, book.rules.len().saturating_sub(1)))
        }
        Err(errors) => anyhow::bail!("{}:\n{errors}", file.display()),
    }
}
