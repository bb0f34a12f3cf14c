//! `vigil decode`: what would be stored of a message, in the words of its dead letter, without a server.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use intake::{Explained, Mapping, Mappings};
use serde_json::{Map, Value, json};

use crate::exit::Usage;
use crate::installation::now;
use crate::output;

#[derive(Debug, Args)]
pub struct Decode {
    /// The message as a device would publish it; `-` is standard input
    pub file: PathBuf,
    /// json, senml, senml-cbor, omh or fhir
    #[arg(long = "as", value_name = "FORMAT", required_unless_present = "mapping", conflicts_with = "mapping")]
    pub as_format: Option<String>,
    /// One that comes with Vigil, by its name, or a file
    #[arg(long)]
    pub mapping: Option<String>,
}

pub fn run(args: &Decode) -> anyhow::Result<()> {
    let shipped = Mappings::shipped()?;
    let own;
    let format = match (&args.as_format, &args.mapping) {
        (Some(name), _) => intake::Format::named(name).ok_or_else(|| Usage(format!("--as {name}: one of {}", intake::Format::NAMES.join(", "))))?,
        (None, Some(name)) if shipped.named(name).is_none() => {
            let known = || shipped.iter().map(Mapping::name).collect::<Vec<_>>().join(", ");
            let text = std::fs::read_to_string(name).with_context(|| format!("--mapping {name}: neither a file nor one of {}", known()))?;
            own = Mapping::parse(&text).map_err(|error| anyhow::anyhow!("{name}, {error}"))?;
            intake::Format::Mapped(&own)
        }
        (None, Some(name)) => intake::Format::Mapped(shipped.named(name).context("a mapping")?),
        (None, None) => return Err(Usage("--as or --mapping says how to read it".to_owned()).into()),
    };
    let mut payload = Vec::new();
    if args.file == Path::new("-") {
        std::io::stdin().read_to_end(&mut payload)?;
    } else {
        payload = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    }
    let explained = intake::explain(&payload, format, now());
    let rows: Vec<_> = explained.iter().filter_map(row).collect();
    output::print(&rows)?;
    let refused = explained.iter().filter(|one| one.outcome.is_err()).count();
    anyhow::ensure!(refused == 0, "{refused} of {} entries would be dead letters", explained.len());
    Ok(())
}

fn row(one: &Explained) -> Option<Map<String, Value>> {
    let verdict = if one.outcome.is_ok() { "stored" } else { "refused" };
    json!({"entry": one.entry, "verdict": verdict, "what": one.to_string()}).as_object().cloned()
}
