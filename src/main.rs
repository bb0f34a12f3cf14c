//! The `vigil` binary: arguments → configuration → telemetry → build every role → run → drain.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod certify;
mod commands;
mod config;
mod device;
mod exit;
mod installation;
mod ledger;
mod output;
mod project;
mod recorded;
mod recording;
mod roles;
mod telemetry;
mod ward;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use roles::Role;
use serde_json::json;

/// Watches patients at home: vitals in over MQTT, alerts out to who must act.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Arguments {
    /// How to print: a table on a terminal, a JSON object a line in a pipe, when left out
    #[arg(long, global = true, value_enum)]
    format: Option<output::Format>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows Vigil at work: simulated patients, every role in this process
    Demo(commands::demo::Demo),
    /// Makes an installation: configuration, keys, the first administrator
    Init(commands::init::Init),
    /// Runs every role in this process
    Serve(commands::serve::Serve),
    /// Runs the gateway that devices connect to (Kafka only)
    Ingest(commands::serve::One),
    /// Runs the engine and the archive (Kafka only)
    Processor(commands::serve::One),
    /// Runs episodes, pages and the relay of settings (Kafka only)
    Alerts(commands::serve::One),
    /// Runs the dashboard (Kafka only)
    DashboardApi(commands::serve::Serve),
    /// Says what this installation holds and whether it answers
    Status(commands::status::Status),
    /// Registers patients
    #[command(subcommand)]
    Patient(commands::patient::PatientCommand),
    /// Registers and assigns devices
    #[command(subcommand)]
    Device(commands::device::DeviceCommand),
    /// Leads a vendor's device through a list, and writes a report: docs/certify.md
    Certify(commands::certify::Certify),
    /// Shows what would be stored of a message, or why not; needs no installation
    Decode(commands::decode::Decode),
    /// Checks rules, and puts them into force
    #[command(subcommand)]
    Rule(commands::rule::RuleCommand),
    /// Says who is on call, loads who will be, and rehearses the night: docs/oncall.md
    #[command(subcommand)]
    Oncall(commands::oncall::OnCallCommand),
    /// Makes, checks and prunes what analysts read: docs/lake.md
    #[command(subcommand)]
    Lake(commands::lake::LakeCommand),
    /// Asks the lake in SQL, read-only: docs/lake.md
    Sql(commands::sql::Sql),
    /// Writes a folder for somebody else, without identities unless asked: docs/export.md
    Export(Box<commands::export::Export>),
    /// Adds wards
    #[command(subcommand)]
    Ward(commands::ward::WardCommand),
    /// Adds users, links and tokens
    #[command(subcommand)]
    User(commands::user::UserCommand),
    /// Looks at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Runs what somebody asked for over the API: the dashboard begins it, nobody else
    #[command(hide = true)]
    Job(commands::job::Job),
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
    // names, vitals, keys: what this process writes is for its own user
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let remedy = exit::remedy(&error).map(|remedy| format!("; {remedy}")).unwrap_or_default();
            drop(writeln!(std::io::stderr(), "vigil: {error:#}{remedy}"));
            exit::code(&error)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    output::ask(arguments.format);
    match arguments.command {
        Command::Config(ConfigCommand::Check { config }) => {
            let read = config::Config::load(&config)?;
            let (kind, at) = match read.journal.kind {
                config::JournalKind::Embedded => ("embedded", read.path(&read.journal.path).display().to_string()),
                config::JournalKind::Kafka => ("kafka", read.journal.bootstrap.clone()),
            };
            let (file, store, lake) = (config.display().to_string(), read.store_shown(), read.path(&read.lake.path).display().to_string());
            let row = json!({"config": file, "journal": {"kind": kind, "at": at}, "store": store, "lake": lake});
            Ok(output::tell(&row, format_args!("{file} is good\njournal  {kind}  {at}\nstore    {store}\nlake     {lake}"))?)
        }
        Command::Demo(demo) => runtime()?.block_on(commands::demo::run(demo)),
        Command::Init(init) => runtime()?.block_on(commands::init::run(init)),
        Command::Serve(serve) => runtime()?.block_on(commands::serve::run(serve, &Role::ALL, None)),
        Command::Ingest(one) => runtime()?.block_on(commands::serve::run(one.serve, &[Role::Ingest], one.operations)),
        Command::Processor(one) => runtime()?.block_on(commands::serve::run(one.serve, &[Role::Processor], one.operations)),
        Command::Alerts(one) => runtime()?.block_on(commands::serve::run(one.serve, &[Role::Alerts], one.operations)),
        Command::DashboardApi(serve) => runtime()?.block_on(commands::serve::run(serve, &[Role::DashboardApi], None)),
        Command::Status(status) => runtime()?.block_on(commands::status::run(status)),
        Command::Patient(command) => runtime()?.block_on(commands::patient::run(command)),
        Command::Device(command) => runtime()?.block_on(commands::device::run(command)),
        Command::Certify(certify) => runtime()?.block_on(commands::certify::run(certify)),
        Command::Decode(decode) => commands::decode::run(&decode),
        Command::Rule(command) => runtime()?.block_on(commands::rule::run(command)),
        Command::Oncall(command) => runtime()?.block_on(commands::oncall::run(command)),
        Command::Lake(command) => runtime()?.block_on(commands::lake::run(command)),
        Command::Sql(sql) => runtime()?.block_on(commands::sql::run(sql)),
        Command::Export(export) => runtime()?.block_on(commands::export::run(*export)),
        Command::Ward(command) => runtime()?.block_on(commands::ward::run(command)),
        Command::User(command) => runtime()?.block_on(commands::user::run(command)),
        Command::Job(job) => run(commands::job::begin(job)?),
        Command::Replay(replay) => runtime()?.block_on(commands::replay::run(replay)),
        Command::Simulate(simulate) => runtime()?.block_on(commands::simulate::run(simulate)),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
