//! `vigil ward`: where patients belong, and in which time zone their day is told.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use store::wards::Ward;

use crate::config::Config;
use crate::exit::usage;
use crate::installation;
use crate::output;

#[derive(Debug, Subcommand)]
pub enum WardCommand {
    /// Adds a ward, or gives one another name or time zone
    Add {
        id: String,
        /// As people call it; the id, when left out
        #[arg(long)]
        name: Option<String>,
        /// An IANA name
        #[arg(long, default_value = "UTC")]
        timezone: String,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Lists the wards
    List {
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
}

pub async fn run(command: WardCommand) -> anyhow::Result<()> {
    match command {
        WardCommand::Add { id, name, timezone, config } => {
            usage(jiff::tz::TimeZone::get(&timezone).is_ok(), || format!("--timezone {timezone}: it is an IANA name such as Europe/Berlin"))?;
            let store = installation::open_store(&Config::load(&config)?).await?;
            store.put_ward(&Ward { name: name.unwrap_or_else(|| id.clone()), id, timezone }).await?;
            store.close().await;
        }
        WardCommand::List { config } => {
            let store = installation::open_store(&Config::load(&config)?).await?;
            let wards = store.wards().await?;
            store.close().await;
            let rows = wards.iter().filter_map(|w| json!({"ward": w.id, "name": w.name, "timezone": w.timezone}).as_object().cloned()).collect::<Vec<_>>();
            output::print(&rows)?;
        }
    }
    Ok(())
}
