//! A process of the built binary, and what can be read of it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schemas::EventTime;

/// How long anything may take on a slow machine that does other things as well.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn now() -> EventTime {
    EventTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64)
}

pub fn vigil(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vigil"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end; its standard output, if it succeeded.
pub fn done(arguments: &[&str]) -> String {
    let output = vigil(arguments).output().unwrap();
    assert!(output.status.success(), "vigil {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A process under way. It is killed when it is dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts it; the lines of its output and its log can be waited for.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = vigil(arguments).env("VIGIL_LOG", "info").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] = [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { return };
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line from here on in which `what` stands.
    pub fn line(&self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(what) {
                return line;
            }
            seen.push(line);
        }
        panic!("`{what}` did not come; it said:\n{}", seen.join("\n"));
    }

    /// Everything it has said since.
    pub fn rest(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn end(&mut self) -> ExitStatus {
        self.end_within(PATIENCE)
    }

    pub fn end_within(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end: {:?}", self.rest());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How it ended; `None` as long as it goes on.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// It has ended, and not well.
    pub fn failed(&mut self) -> Option<ExitStatus> {
        self.status().filter(|status| !status.success())
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended already
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `mqtt=127.0.0.1:41234` of a log line.
pub fn field(line: &str, name: &str) -> String {
    let plain = strip_colours(line);
    let start = plain.find(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in: {plain}")) + name.len() + 1;
    plain[start..].split_whitespace().next().unwrap().trim_matches('"').to_owned()
}

fn strip_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        plain.push_str(&rest[..at]);
        rest = rest[at..].split_once('m').map_or("", |(_, rest)| rest);
    }
    plain + rest
}

/// Changes keys of a written `vigil.toml`.
pub fn edit(config: &Path, changes: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(config).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "`{from}` is not in {}", config.display());
        text = text.replace(from, to);
    }
    std::fs::write(config, text).unwrap();
}

/// An installation in `folder` that listens on free ports.
pub fn install(folder: &Path, more: &[&str]) -> String {
    let mut arguments = vec!["init", folder.to_str().unwrap()];
    arguments.extend(more);
    done(&arguments);
    let config = folder.join("vigil.toml");
    edit(&config, &[("listen = \"127.0.0.1:1883\"", "listen = \"127.0.0.1:0\""), ("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:0\"")]);
    config.to_str().unwrap().to_owned()
}

/// One deployment: every role in one process, or a process for each.
pub struct Serving {
    config: String,
    processes: Vec<(&'static str, Process)>,
    pub mqtt: String,
    pub mqtt_tls: String,
    pub dashboard: String,
}

pub const ONE: &[&str] = &["serve"];
pub const EACH: &[&str] = &["ingest", "processor", "alerts", "dashboard-api"];

impl Serving {
    /// Starts them on free ports; from then on devices find the gateway at the same address.
    pub fn start(config: &str, commands: &'static [&'static str]) -> Self {
        let mut serving = Self { config: config.to_owned(), processes: Vec::new(), mqtt: String::new(), mqtt_tls: String::new(), dashboard: String::new() };
        for command in commands {
            let process = Process::start(&[command, "--config", config]);
            let ready = process.line(" ready ");
            if matches!(*command, "serve" | "ingest") {
                serving.mqtt = field(&ready, "mqtt");
                serving.mqtt_tls = field(&ready, "mqtt_tls");
                let text = std::fs::read_to_string(config).unwrap();
                std::fs::write(config, text.replace("listen = \"127.0.0.1:0\"       # MQTT", &format!("listen = \"{}\" # MQTT", serving.mqtt))).unwrap();
            }
            if matches!(*command, "serve" | "dashboard-api") {
                serving.dashboard = format!("http://{}", field(&ready, "dashboard"));
            }
            serving.processes.push((command, process));
        }
        serving
    }

    /// SIGKILL to one of them, chosen by `number`, and a new one in its place; its name.
    pub fn kill_and_start(&mut self, number: usize) -> &'static str {
        let (command, process) = self.processes.remove(number % self.processes.len());
        process.kill();
        let process = Process::start(&[command, "--config", &self.config]);
        process.line(" ready ");
        self.processes.push((command, process));
        command
    }

    /// Everything they have said since.
    pub fn rest(&self) -> Vec<String> {
        self.processes.iter().flat_map(|(_, process)| process.rest()).collect()
    }

    /// TERM, and a clean end of each: first those who write.
    pub fn stop(mut self) {
        self.processes.sort_by_key(|(command, _)| EACH.iter().position(|name| name == command));
        for (command, mut process) in self.processes {
            process.signal("TERM");
            assert_eq!(process.end().code(), Some(0), "{command}: {:?}", process.rest());
        }
    }
}

/// A broker of its own, made and ended by `dev/kafka`.
pub struct Broker {
    pub folder: tempfile::TempDir,
    pub address: String,
}

impl Broker {
    /// `None`, with a message, where no test may start one.
    pub fn start() -> Option<Self> {
        if std::env::var_os("VIGIL_TEST_KAFKA").is_none() {
            eprintln!("skipped: VIGIL_TEST_KAFKA is not set; dev/test-all sets it");
            return None;
        }
        let mut broker = Self { folder: tempfile::tempdir().unwrap(), address: String::new() };
        broker.address = broker.kafka("up");
        Some(broker)
    }

    pub fn kafka(&self, command: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/kafka");
        let output = Command::new(script).arg(command).env("VIGIL_DEV_DIR", self.folder.path()).output().unwrap();
        assert!(output.status.success(), "dev/kafka {command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/kafka")).arg("down").env("VIGIL_DEV_DIR", self.folder.path()).output());
    }
}
