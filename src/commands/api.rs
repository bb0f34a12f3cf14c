//! The dashboard's API, for commands that speak through it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reqwest::RequestBuilder;
use serde_json::Value;

use crate::config::Config;
use crate::exit::{Unreachable, Usage};

const PATIENCE: Duration = Duration::from_secs(10);

/// How a command finds the dashboard, and who it is there.
#[derive(Debug, Args)]
pub struct Access {
    /// A user's token: `vigil user token NAME --label WHAT` prints one
    #[arg(long, env = "VIGIL_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The dashboard's address, such as https://vigil.example; as the configuration says, when left out
    #[arg(long)]
    pub url: Option<String>,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub struct Api {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Api {
    /// `label` is what the token would be called, with the scope that it needs.
    pub fn new(access: Access, label: &str) -> anyhow::Result<Self> {
        let token = access.token.ok_or_else(|| Usage(format!("VIGIL_TOKEN is not set: `vigil user token NAME --label {label}` prints a token")))?;
        crate::telemetry::cryptography();
        let base = match access.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => Config::load(Path::new(&access.config))?.dashboard_url(None),
        };
        Ok(Self { client: reqwest::Client::builder().timeout(PATIENCE).build()?, base, token })
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.client.get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> anyhow::Result<Value> {
        let mut request = self.client.post(self.url(path)).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let answer = request.bearer_auth(&self.token).send().await.map_err(|error| {
            let error = error.without_url();
            Unreachable(format!("the dashboard does not answer ({error}); is `vigil serve` running?"))
        })?;
        let status = answer.status();
        let body: Value = answer.json().await.context("the dashboard's answer is no JSON")?;
        if !status.is_success() {
            let said = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            anyhow::bail!("{} {}; {}", status.as_u16(), said("detail"), said("remedy"));
        }
        Ok(body)
    }
}
