//! What a command prints: a table on a terminal, one JSON object a line in a pipe. Progress goes elsewhere (stderr).

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Ndjson,
}

/// What `--format` asked for.
static ASKED: OnceLock<Format> = OnceLock::new();

/// Every command prints as it was asked to; said once, before the command runs.
pub fn ask(format: Option<Format>) {
    if let Some(format) = format {
        ASKED.get_or_init(|| format);
    }
}

/// What was asked for.
pub fn asked() -> Option<Format> {
    ASKED.get().copied()
}

/// What was asked for, or what suits where it goes.
pub fn format() -> Format {
    ASKED.get().copied().unwrap_or(if std::io::stdout().is_terminal() { Format::Table } else { Format::Ndjson })
}

/// Prints one object.
pub fn print_one(row: &Value) -> std::io::Result<()> {
    print(row.as_object().map(std::slice::from_ref).unwrap_or_default())
}

/// Prints one object for programs; for people, the words.
pub fn tell(row: &Value, words: impl std::fmt::Display) -> std::io::Result<()> {
    match format() {
        Format::Table => writeln!(std::io::stdout(), "{words}"),
        Format::Json | Format::Ndjson => print_one(row),
    }
}

/// Prints rows that all have the same keys.
pub fn print(rows: &[Map<String, Value>]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match format() {
        Format::Json => writeln!(out, "{:#}", Value::Array(rows.iter().cloned().map(Value::Object).collect())),
        Format::Ndjson => rows.iter().try_for_each(|row| writeln!(out, "{}", Value::Object(row.clone()))),
        Format::Table => {
            let mut table = comfy_table::Table::new();
            table.load_preset(comfy_table::presets::NOTHING);
            if let Some(first) = rows.first() {
                table.set_header(first.keys());
            }
            for row in rows {
                table.add_row(row.values().map(|value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)));
            }
            writeln!(out, "{table}")
        }
    }
}
