//! J1: what was acknowledged before a SIGKILL is there afterwards. The child is this test binary again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::{Journal, Mode, Start, Topic};

use crate::{P0, append, number, read};

const FOLDER: &str = "VIGIL_TEST_KILLED_FOLDER";

fn open(folder: &std::path::Path) -> EmbeddedJournal {
    EmbeddedJournal::open(&EmbeddedConfig::new(folder.join("journal.db"), "test", 1)).unwrap()
}

/// Not a test of its own: appends for ever, and says each receipt, when it runs as a child.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let journal = open(folder.as_ref());
    let first = journal.range(Topic::Inputs, P0).await.unwrap().next.0 as u32;
    let mut out = std::io::stdout();
    writeln!(out, "\nfrom {first}").unwrap();
    for round in 0..u32::MAX / 16 {
        let receipts: Vec<_> = (0..16).map(|n| append(&journal, P0, (first + round * 16 + n).to_le_bytes().to_vec())).collect();
        for receipt in receipts {
            let offset = receipt.await.unwrap();
            writeln!(out, "ack {offset}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[tokio::test]
async fn j1_an_acknowledged_append_survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let seed = std::env::var("VIGIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    println!("VIGIL_TEST_SEED={seed}");
    let mut random = seed;
    let mut acknowledged: i64 = -1;
    for _ in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["killed::child", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = (random >> 33) % 400;
        let mut lines =
            BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("ack ")?.parse::<i64>().ok());
        let mut seen = lines.by_ref().take(after as usize + 1).last().expect("the child acknowledges");
        child.kill().unwrap();
        // what it still said before it died counts as well
        seen = lines.last().unwrap_or(seen);
        child.wait().unwrap();
        acknowledged = acknowledged.max(seen);

        let journal = open(folder.path());
        let range = journal.range(Topic::Inputs, P0).await.unwrap();
        assert!(range.next.0 > acknowledged, "acknowledged up to {acknowledged}, stored up to {}", range.next);
        let mut reader = journal.reader(Topic::Inputs, Mode::Follow).unwrap();
        let records = read(&mut *reader, P0, Start::Earliest, range.next.0 as usize).await;
        assert!(records.iter().enumerate().all(|(n, record)| record.offset.0 == n as i64 && number(record) == n as u32), "each once, in order");
        journal.close().await;
    }
}
