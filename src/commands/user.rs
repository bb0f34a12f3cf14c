//! `vigil user`: who may sign in, and tokens for programs.

use std::path::PathBuf;

use clap::Subcommand;
use schemas::Micros;
use serde_json::json;
use store::users::{Role, User};

use crate::config::Config;
use crate::installation::{self, now};
use crate::output;

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Adds a user; they sign in by the link that this prints, once
    Add {
        name: String,
        /// admin, clinician or analyst
        #[arg(long, default_value = "clinician")]
        role: Role,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Prints a link that signs the user in once, within 24 hours
    Link {
        name: String,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Reads a password from standard input and sets it; 12 characters or more
    Password {
        name: String,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Ends the user's sessions and tokens, and lets nobody in by that name
    Disable {
        name: String,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Refuses a token from now on, by the id that `token` printed
    Revoke {
        id: String,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
    /// Makes a token for a program that acts as the user; it is shown this once
    Token {
        name: String,
        /// What it is for
        #[arg(long)]
        label: String,
        /// What it may do, and never more than its user
        #[arg(long, default_values = ["read"], value_parser = ["read", "write", "lake", "metrics", "admin"])]
        scope: Vec<String>,
        #[arg(long, default_value = "vigil.toml")]
        config: PathBuf,
    },
}

pub async fn run(command: UserCommand) -> anyhow::Result<()> {
    let path = match &command {
        UserCommand::Add { config, .. } | UserCommand::Link { config, .. } | UserCommand::Password { config, .. } => config,
        UserCommand::Disable { config, .. } | UserCommand::Revoke { config, .. } | UserCommand::Token { config, .. } => config,
    };
    let config = Config::load(path)?;
    let store = installation::open_store(&config).await?;
    match command {
        UserCommand::Add { name, role, .. } => {
            store.add_user(&User { name: name.clone(), role, created_at: now(), disabled_at: None }).await?;
            link(&config, &store, &name).await?;
        }
        UserCommand::Link { name, .. } => link(&config, &store, &name).await?,
        UserCommand::Password { name, .. } => {
            let mut line = zeroize::Zeroizing::new(String::new());
            std::io::stdin().read_line(&mut line)?;
            store.set_password(&name, line.trim_end_matches(['\r', '\n'])).await?;
            output::tell(&json!({"user": name, "password": "set"}), format_args!("the password of {name} is set"))?;
        }
        UserCommand::Disable { name, .. } => {
            store.disable_user(&name, now()).await?;
            output::tell(&json!({"user": name, "disabled": true}), format_args!("{name} is refused from now on"))?;
        }
        UserCommand::Revoke { id, .. } => {
            store.revoke_api_token(&id, now()).await?;
            output::tell(&json!({"id": id, "revoked": true}), format_args!("the token {id} is refused from now on"))?;
        }
        UserCommand::Token { name, label, scope, .. } => {
            let scopes: Vec<&str> = scope.iter().map(String::as_str).collect();
            let (made, token) = store.new_api_token(&name, &label, &scopes, now(), None).await?;
            let row = json!({"id": made.id, "token": token.as_str(), "scopes": made.scopes.join(" ")});
            output::print_one(&row)?;
        }
    }
    store.close().await;
    Ok(())
}

async fn link(config: &Config, store: &store::Store, name: &str) -> anyhow::Result<()> {
    let token = store.new_one_time_link(name, now() + Micros::hours(24)).await?;
    let link = format!("{}/sign-in#token={}", config.dashboard_url(None), token.as_str());
    Ok(output::tell(&json!({"user": name, "sign_in": link}), &link)?)
}
