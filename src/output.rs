//! What a command prints: a table on a terminal, one JSON object a line in a pipe. Progress goes elsewhere (stderr).

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Ndjson,
}

impl Format {
    /// What was asked for, or what suits where it goes.
    pub fn or_default(asked: Option<Self>) -> Self {
        asked.unwrap_or(if std::io::stdout().is_terminal() { Self::Table } else { Self::Ndjson })
    }
}

/// Prints rows that all have the same keys.
pub fn print(format: Format, rows: &[Map<String, Value>]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
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
