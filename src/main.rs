//! The `vigil` binary: arguments → configuration → telemetry → build every role → run → drain.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod commands;
mod config;
mod device;
mod exit;
mod ledger;
mod output;
mod recording;
mod ward;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Watches patients at home: vitals in over MQTT, alerts out to who must act.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Plays recorded vitals as devices do over MQTT, and keeps a ledger of every PUBACK
    Replay(commands::replay::Replay),
    /// Plays devices with simulated patients against any gateway
    Simulate(commands::simulate::Simulate),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reads the file and says what is wrong with it
    Check {
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "vigil: {error:#}"));
            exit::code(&error)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Config(ConfigCommand::Check { config }) => {
            let read = config::Config::load(&config)?;
            let mut out = std::io::stdout();
            writeln!(out, "{} is good", config.display())?;
            match read.journal.kind {
                config::JournalKind::Embedded => writeln!(out, "journal  embedded  {}", read.path(&read.journal.path).display())?,
                config::JournalKind::Kafka => writeln!(out, "journal  kafka     {}", read.journal.bootstrap)?,
            }
            writeln!(out, "store    {}", read.store_shown())?;
            writeln!(out, "lake     {}", read.path(&read.lake.path).display())?;
            Ok(())
        }
        Command::Replay(replay) => runtime()?.block_on(commands::replay::run(replay)),
        Command::Simulate(simulate) => runtime()?.block_on(commands::simulate::run(simulate)),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
