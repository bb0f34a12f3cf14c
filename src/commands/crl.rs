//! `vigil device crl`: which certificates of this installation's authority are refused, for whoever else checks them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber};
use schemas::EventTime;
use serde_json::json;
use store::registry::RevokedCertificate;

use crate::config::Config;
use crate::installation::{self, now};
use crate::output;

#[derive(Debug, Args)]
pub struct Crl {
    /// Where the list is written (PEM); to the standard output, when left out
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// For how long it may be relied on: it has to be made again before
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=365))]
    pub days: u32,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn run(args: Crl) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let issuer = installation::authority(&config)?.context("this installation has no authority yet; `vigil device certificate ID` makes it")?;
    let store = installation::open_store(&config).await?;
    let revoked = store.revoked_certificates().await?;
    store.close().await;
    let this_update = SystemTime::now();
    let next_update = this_update + Duration::from_secs(u64::from(args.days) * 86_400);
    let list = CertificateRevocationListParams {
        this_update: this_update.into(),
        next_update: next_update.into(),
        // it has to grow from list to list, also when two are made within a second
        crl_number: SerialNumber::from(u64::try_from(now().0).unwrap_or_default()),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect::<anyhow::Result<_>>()?,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let pem = list.signed_by(&issuer).and_then(|list| list.pem()).context("the list cannot be made")?;
    let Some(file) = args.out else { return Ok(std::io::stdout().write_all(pem.as_bytes())?) };
    replace(&file, pem.as_bytes())?;
    let until = EventTime(now().0 + i64::from(args.days) * 86_400_000_000);
    let row = json!({"list": file.display().to_string(), "revoked": revoked.len(), "next_update": until});
    Ok(output::tell(&row, format_args!("{} certificates are revoked: {}, to be made again before {until}", revoked.len(), file.display()))?)
}

fn entry(revoked: &RevokedCertificate) -> anyhow::Result<RevokedCertParams> {
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(revoked.at.0).unwrap_or_default());
    let reason = if revoked.device_is_revoked { RevocationReason::CessationOfOperation } else { RevocationReason::Superseded };
    Ok(RevokedCertParams {
        serial_number: installation::serial(&revoked.serial).with_context(|| format!("the serial number `{}` is none", revoked.serial))?,
        revocation_time: at.into(),
        reason_code: Some(reason),
        invalidity_date: None,
    })
}

/// Whoever reads the file meanwhile has the list of before, whole.
fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let part = file.with_extension("part");
    std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, file)).with_context(|| format!("cannot write {}", file.display()))
}
