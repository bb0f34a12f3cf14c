//! What a command prints: a table on a terminal, one JSON object a line in a pipe. Progress goes elsewhere (stderr).

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

/// A program is told how far it is this often.
const EVERY: Duration = Duration::from_millis(250);

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

/// Progress is told in JSON, a line at a time.
static FOR_A_PROGRAM: AtomicBool = AtomicBool::new(false);

pub fn for_a_program() {
    FOR_A_PROGRAM.store(true, Ordering::Relaxed);
}

/// How far something long has come: a bar on a terminal, lines for a program, nothing in a pipe.
pub struct Bar {
    bar: ProgressBar,
    unit: &'static str,
    told: Instant,
}

impl Bar {
    pub fn new(unit: &'static str) -> Self {
        let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = match unit {
            "bytes" => "{bar:40} {bytes}/{total_bytes} {eta}".to_owned(),
            unit => format!("{{bar:40}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} {{eta}}"),
        };
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::with_draw_target(Some(0), target).with_style(style), unit, told: Instant::now() }
    }

    pub fn at(&mut self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        if FOR_A_PROGRAM.load(Ordering::Relaxed) && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let line = json!({"progress": {"done": done, "total": total, "unit": self.unit}});
            // whoever does not listen learns of the end all the same
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }

    pub fn end(self) {
        self.bar.finish_and_clear();
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
