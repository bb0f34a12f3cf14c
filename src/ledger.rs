//! What a device remembers of its publishes: every publish and every PUBACK, one JSON line each, fsynced in groups.
//!
//! A PUBACK in the ledger was received, so what the ledger calls acknowledged the system must have.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use serde::Serialize;

/// A line of the ledger.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    Publish {
        seq: u64,
        topic: String,
        payload: String,
    },
    /// `refused` names the reason code of a publish that was kept as a dead letter.
    Puback {
        seq: u64,
        refused: Option<String>,
    },
}

#[derive(Clone)]
pub struct Ledger(Option<SyncSender<Entry>>);

pub struct Writer(Option<JoinHandle<std::io::Result<()>>>);

impl Ledger {
    /// Appends to `path`; without one nothing is kept.
    pub fn open(path: Option<&Path>) -> anyhow::Result<(Self, Writer)> {
        let Some(path) = path else { return Ok((Self(None), Writer(None))) };
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("cannot open the ledger {}", path.display()))?;
        let (sender, lines) = sync_channel(65_536);
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || write(file, &lines)).context("cannot start the ledger's thread")?;
        Ok((Self(Some(sender)), Writer(Some(thread))))
    }

    pub fn write(&self, entry: Entry) -> anyhow::Result<()> {
        match &self.0 {
            Some(lines) => lines.send(entry).map_err(|_| anyhow!("the ledger cannot be written any more")),
            None => Ok(()),
        }
    }
}

impl Writer {
    /// Waits until everything is on disk. Every [`Ledger`] must be gone by then.
    pub fn finish(self) -> anyhow::Result<()> {
        match self.0 {
            Some(thread) => thread.join().map_err(|_| anyhow!("the ledger's thread ended badly"))?.context("cannot write the ledger"),
            None => Ok(()),
        }
    }
}

/// One fsync for whatever waited during the last one.
fn write(file: File, lines: &Receiver<Entry>) -> std::io::Result<()> {
    let mut out = BufWriter::new(file);
    while let Ok(first) = lines.recv() {
        for entry in std::iter::once(first).chain(lines.try_iter()) {
            serde_json::to_writer(&mut out, &entry)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        out.get_ref().sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_on_disk_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let (ledger, writer) = Ledger::open(Some(&path)).unwrap();
        for seq in 0..1000 {
            ledger.write(Entry::Publish { seq, topic: "v1/devices/d/vitals".to_owned(), payload: "{}".to_owned() }).unwrap();
            ledger.write(Entry::Puback { seq, refused: None }).unwrap();
        }
        drop(ledger);
        writer.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 2000);
        assert_eq!(text.lines().nth(1), Some(r#"{"puback":{"seq":0,"refused":null}}"#));
    }
}
