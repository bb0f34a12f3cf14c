//! What is measured: each system as a whole, started from nothing in a folder of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;

const STARTS_WITHIN: Duration = Duration::from_secs(60);
pub const PARTITIONS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// `vigil ingest` into Kafka
    Vigil,
    /// `vigil serve`: every role in one process, the journal one file
    VigilEmbedded,
    /// mosquitto → Telegraf → Kafka, the payload as it came
    Telegraf,
    /// The same with the JSON parsed and written anew
    TelegrafJson,
    /// mosquitto → Benthos → Kafka, the payload as it came
    Benthos,
    /// Alone, storing nothing: what acknowledging costs by itself
    Mosquitto,
}

impl System {
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn is_vigil(self) -> bool {
        matches!(self, Self::Vigil | Self::VigilEmbedded)
    }

    /// Its records are read back from Kafka.
    pub fn on_kafka(self) -> bool {
        !matches!(self, Self::VigilEmbedded | Self::Mosquitto)
    }
}

/// Where everything is.
#[derive(Clone, Debug, clap::Args)]
pub struct Places {
    #[arg(long, env = "VIGIL_BIN", global = true, default_value = "target/debug/vigil")]
    pub vigil: PathBuf,
    #[arg(long, env = "TELEGRAF_BIN", global = true, default_value = "target/bench/telegraf")]
    pub telegraf: PathBuf,
    #[arg(long, env = "BENTHOS_BIN", global = true, default_value = "target/bench/benthos")]
    pub benthos: PathBuf,
    /// Where `Windows.java` is compiled, and the list of its jars
    #[arg(long, env = "BENCH_STREAMS", global = true, default_value = "target/bench/streams")]
    pub streams: PathBuf,
    /// host:port, as `dev/kafka up` prints it
    #[arg(long, env = "BENCH_KAFKA", global = true, default_value = "")]
    pub kafka: String,
    /// The process of that Kafka; 0: none is running
    #[arg(long, env = "BENCH_KAFKA_PID", global = true, default_value_t = 0)]
    pub kafka_pid: u32,
}

/// How the peers batch; the values are those with which they did best here.
#[derive(Clone, Copy)]
pub enum Tuned {
    Throughput,
    Latency,
    /// mosquitto saves its state every second, the most often it can by time, not every half hour
    Loss,
}

/// A system under way. Everything ends, and its folder goes, when it is dropped.
pub struct Running {
    pub processes: Vec<Process>,
    pub address: String,
    pub passwords: Vec<String>,
    /// In Kafka
    pub topic: String,
    commands: Vec<(&'static str, Vec<String>)>,
    folder: TempDir,
}

impl Running {
    /// A folder, and the name of the topic that the peers write to.
    pub fn prepare() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("vigil-bench-").tempdir()?;
        let topic = folder.path().file_name().context("a folder")?.to_string_lossy().into_owned();
        Ok(Self { processes: Vec::new(), address: String::new(), passwords: Vec::new(), topic, commands: Vec::new(), folder })
    }

    pub fn start(&mut self, system: System, tuned: Tuned, places: &Places, devices: usize) -> Result<()> {
        if system.is_vigil() { self.vigil(system, places, devices) } else { self.peer(system, tuned, places) }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn spawn(&mut self, name: &'static str) -> Result<()> {
        let (_, command) = self.commands.iter().find(|(known, _)| *known == name).with_context(|| format!("no process `{name}` here"))?;
        let log = self.folder.path().join(format!("{name}.out"));
        self.processes.push(Process::start(name, Command::new(&command[0]).args(&command[1..]), &log)?);
        Ok(())
    }

    fn begin(&mut self, name: &'static str, command: Vec<String>) -> Result<()> {
        self.commands.push((name, command));
        self.spawn(name)
    }

    pub fn kill9(&mut self, name: &str) -> Result<()> {
        self.processes.iter_mut().find(|process| process.name == name).with_context(|| format!("no process `{name}` here"))?.kill9()
    }

    /// Starts a killed process with the command and the folder that it had.
    pub fn restart(&mut self, name: &str) -> Result<()> {
        let at = self.processes.iter().position(|process| process.name == name).with_context(|| format!("no process `{name}` here"))?;
        let name = self.processes.remove(at).name;
        self.spawn(name)
    }

    /// As `vigil init`, `device import` and `device password` make an installation: a patient and a password for each device.
    fn vigil(&mut self, system: System, places: &Places, devices: usize) -> Result<()> {
        let home = self.path("vigil");
        let config = format!("{home}/vigil.toml");
        let run = |arguments: &[&str]| -> Result<Value> {
            let output = Command::new(&places.vigil).args(arguments).args(["--format", "ndjson"]).output()?;
            ensure!(output.status.success(), "vigil {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
            Ok(serde_json::from_slice(&output.stdout)?)
        };
        let mut init = vec!["init", &home];
        if system == System::Vigil {
            init.extend(["--development", "--kafka", &places.kafka]);
        }
        run(&init).with_context(|| format!("cannot run {}; cargo build", places.vigil.display()))?;
        let prefix = format!("prefix = \"{}.\"", self.topic);
        let text = fs::read_to_string(&config)?.replace("127.0.0.1:1883", "127.0.0.1:0").replace("127.0.0.1:8080", "127.0.0.1:0");
        fs::write(&config, text.replace("prefix = \"\"", &prefix))?;
        let mut ward = "patient,device,metric,value,unit,measured_at,stored_at\n".to_owned();
        for device in 0..devices {
            ward += &format!("p{device},d{device},spo2,97,%,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n");
        }
        fs::write(self.path("ward.csv"), ward)?;
        run(&["device", "import", &self.path("ward.csv"), "--config", &config])?;
        for device in 0..devices {
            let row = run(&["device", "password", &format!("d{device}"), "--config", &config])?;
            self.passwords.push(row["password"].as_str().context("no password")?.to_owned());
        }
        let role = if system == System::Vigil { "ingest" } else { "serve" };
        self.topic += ".vigil.inputs";
        self.begin("vigil", [&*places.vigil.to_string_lossy(), role, "--config", &config].map(str::to_owned).into())?;
        let ready = wait_for(&self.path("vigil.out"), "mqtt=\"")?;
        self.address = ready.split('"').next().unwrap_or_default().to_owned();
        Ok(())
    }

    fn peer(&mut self, system: System, tuned: Tuned, places: &Places) -> Result<()> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        self.address = format!("127.0.0.1:{port}");
        let (batch, flush) = match (tuned, system) {
            (Tuned::Latency, _) => ("1000", "10ms"),
            (_, System::Benthos) => ("500", "20ms"),
            _ => ("20000", "100ms"),
        };
        let autosave = if matches!(tuned, Tuned::Loss) { "1" } else { "1800" };
        let (input, output) = if system == System::TelegrafJson {
            ("  data_format = \"json\"\n  json_string_fields = [\"sent_at\", \"readings_*\"]", "  data_format = \"json\"")
        } else {
            ("  data_format = \"value\"\n  data_type = \"string\"", "  data_format = \"template\"\n  template = '{{ .Field \"value\" }}'")
        };
        let values = [
            ("{port}", &*port.to_string()),
            ("{mqtt}", &self.address),
            ("{folder}", &self.folder.path().display().to_string()),
            ("{autosave}", autosave),
            ("{batch}", batch),
            ("{flush}", flush),
            ("{kafka}", &places.kafka),
            ("{topic}", &self.topic),
            ("{input}", input),
            ("{output}", output),
        ];
        let write = |name: &str, template: &str| -> Result<String> {
            let path = self.path(name);
            fs::write(&path, values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value)))?;
            Ok(path)
        };
        let broker = write("mosquitto.conf", include_str!("../mosquitto.conf"))?;
        let (telegraf, benthos) = (write("telegraf.conf", include_str!("../telegraf.conf"))?, write("benthos.yaml", include_str!("../benthos.yaml"))?);
        self.begin("mosquitto", ["mosquitto", "-c", &broker].map(str::to_owned).into())?;
        let deadline = Instant::now() + STARTS_WITHIN;
        while std::net::TcpStream::connect(&self.address).is_err() {
            ensure!(Instant::now() < deadline, "mosquitto does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        match system {
            System::Telegraf | System::TelegrafJson => {
                self.begin("telegraf", [&*places.telegraf.to_string_lossy(), "--config", &telegraf].map(str::to_owned).into())?;
            }
            System::Benthos => self.begin("benthos", [&*places.benthos.to_string_lossy(), "-c", &benthos].map(str::to_owned).into())?,
            _ => return Ok(()),
        }
        wait_for(&self.path("mosquitto.log"), "1 v1/devices/+/vitals").map(drop)
    }
}

/// What follows `mark` in a file that is being written.
fn wait_for(path: &str, mark: &str) -> Result<String> {
    let deadline = Instant::now() + STARTS_WITHIN;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if let Some((_, rest)) = text.split_once(mark) {
            return Ok(rest.to_owned());
        }
        if Instant::now() > deadline {
            bail!("`{mark}` does not come into {path}, it holds:\n{text}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
