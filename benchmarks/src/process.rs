//! Processes under measurement, and what they cost: read from /proc, so Linux only.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Of the times in /proc: 100 on every Linux that anybody runs this on.
const TICKS_PER_S: f64 = 100.0;

/// Killed when it is dropped.
pub struct Process {
    pub name: &'static str,
    child: Child,
}

impl Process {
    /// What it says goes to the end of `log`.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        Ok(Self { name, child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub fn terminate(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended already
        drop(self.kill9());
    }
}

/// Processor time so far: of each process on the ingest path, of Kafka, of the load (this process), and of the whole machine.
pub struct Cost {
    path: Vec<(&'static str, f64)>,
    kafka: f64,
    load: f64,
    machine: f64,
}

impl Cost {
    pub fn now(path: &[Process], kafka: u32) -> Result<Self> {
        let path = path.iter().map(|process| Ok((process.name, cpu_s(process.pid())?))).collect::<Result<_>>()?;
        Ok(Self { path, kafka: if kafka == 0 { 0.0 } else { cpu_s(kafka)? }, load: cpu_s(std::process::id())?, machine: machine_s()? })
    }

    /// Of what is yet to start.
    pub fn nothing(kafka: u32) -> Result<Self> {
        Self::now(&[], kafka)
    }

    pub fn since(self, before: &Self) -> Self {
        let then = |name| before.path.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, seconds)| *seconds);
        let path = self.path.iter().map(|(name, seconds)| (*name, seconds - then(*name))).collect();
        Self { path, kafka: self.kafka - before.kafka, load: self.load - before.load, machine: self.machine - before.machine }
    }

    /// Of the ingest path.
    pub fn path_s(&self) -> f64 {
        self.path.iter().map(|(_, seconds)| seconds).sum()
    }

    pub fn to_json(&self) -> Value {
        let path: serde_json::Map<String, Value> = self.path.iter().map(|(name, seconds)| ((*name).to_owned(), json!(round(*seconds, 2)))).collect();
        let other = self.machine - self.path_s() - self.kafka - self.load;
        json!({"path": path, "kafka": round(self.kafka, 2), "load": round(self.load, 2), "other": round(other, 2)})
    }
}

pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// User and system time of all threads.
fn cpu_s(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} has ended"))?;
    // the command's name may hold anything, also spaces; it ends with the last `)`
    let fields = stat.rsplit_once(')').context("/proc/…/stat")?.1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Ok(ticks as f64 / TICKS_PER_S)
}

/// Of all processors, without idling and waiting for disks.
fn machine_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().context("/proc/stat")?.split_whitespace().skip(1);
    let busy = all.enumerate().filter(|(at, _)| [0, 1, 2, 5, 6, 7].contains(at));
    let ticks: u64 = busy.map(|(_, field)| field.parse::<u64>().unwrap_or(0)).sum();
    Ok(ticks as f64 / TICKS_PER_S)
}

/// The most memory that it has held at once.
pub fn peak_mb(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.split_whitespace().next().context("VmHWM")?.parse::<u64>()? / 1024)
}
