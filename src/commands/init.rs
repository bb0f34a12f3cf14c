//! `vigil init DIR`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use store::wards::Ward;

use crate::config::Config;
use crate::installation::{self, Plan};
use crate::output;

#[derive(Debug, Args)]
pub struct Init {
    /// A folder for this installation; it is made
    pub dir: PathBuf,
    /// The name of the first administrator
    #[arg(long, default_value = "admin")]
    pub admin: String,
    /// The first ward
    #[arg(long, default_value = "ward-1")]
    pub ward: String,
    /// The time zone of the ward: an IANA name
    #[arg(long, default_value = "UTC")]
    pub timezone: String,
    /// Fixed for the life of the installation
    #[arg(long, default_value_t = 4)]
    pub partitions: u32,
    /// Brokers of a Kafka journal, host:port,host:port; without it the journal is one embedded file
    #[arg(long)]
    pub kafka: Option<String>,
    /// A Kafka of a single broker, for development: what is then not promised is logged
    #[arg(long, requires = "kafka")]
    pub development: bool,
    /// postgres://user@host/database; without it the store is one SQLite file
    #[arg(long)]
    pub store: Option<String>,
}

pub async fn run(args: Init) -> anyhow::Result<()> {
    let known = jiff::tz::TimeZone::get(&args.timezone).is_ok();
    crate::exit::usage(known, || format!("--timezone {}: it is an IANA name such as Europe/Berlin", args.timezone))?;
    let text = |value: &str| toml::Value::from(value).to_string();
    let mut keys = Vec::new();
    if let Some(bootstrap) = &args.kafka {
        keys.push(("journal", "kind", text("kafka")));
        keys.push(("journal", "bootstrap", text(bootstrap)));
        keys.push(("journal", "development", args.development.to_string()));
    }
    if let Some(url) = &args.store {
        keys.push(("store", "url", text(url)));
    }
    let ward = Ward { name: args.ward.clone(), id: args.ward, timezone: args.timezone };
    let made = installation::make(&args.dir, &Plan { admin: &args.admin, ward, partitions: args.partitions, keys: &keys }).await?;
    let config = Config::load(&made.config)?;
    let (file, link) = (made.config.display(), format!("{}/sign-in#token={}", config.dashboard_url(None), *made.link));
    let admin = &args.admin;
    let words = format_args!(
        "made      {file}
start     vigil serve --config {file}
sign in   {link}
          once, within 24 hours, as {admin}; `vigil user link {admin}` makes another
patient   vigil patient add --config {file} --help
device    vigil device add --config {file} --help"
    );
    Ok(output::tell(&json!({"config": file.to_string(), "user": admin, "sign_in": link}), words)?)
}
