//! A real broker, Debian's mosquitto, that can be stopped, killed and started again on what it kept.

use std::collections::HashSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use rumqttc::{AsyncClient, EventLoop, MqttOptions, NetworkOptions, PublishOptions, QoS};
use schemas::{EventTime, Micros};

use crate::soon;

/// Debian puts servers where not everybody's PATH looks.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

pub struct Broker {
    pub folder: tempfile::TempDir,
    pub address: SocketAddr,
    program: PathBuf,
    process: Option<Child>,
    starts: usize,
}

impl Broker {
    /// Keeps everything, accepts everybody; `None`, said on the console, where mosquitto is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_with("allow_anonymous true\nmax_inflight_messages 1000\n").await
    }

    /// `more` lines of its configuration; the listener is declared before them.
    pub async fn start_with(more: &str) -> Option<Self> {
        let Some(program) = program("mosquitto") else {
            println!("skipped: mosquitto is not installed (apt-get install mosquitto)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // root: started by root it would else become a user who may not write here
        let text = format!(
            "user root\nlistener {} 127.0.0.1\npersistence true\npersistence_location {}/\nautosave_interval 3600\nmax_queued_messages 0\n\
             log_dest stderr\nlog_type all\nset_tcp_nodelay true\n{more}",
            address.port(),
            folder.path().display()
        );
        std::fs::write(folder.path().join("passwords"), "").unwrap();
        std::fs::write(folder.path().join("mosquitto.conf"), text.replace("FOLDER", &folder.path().display().to_string())).unwrap();
        let mut broker = Self { folder, address, program, process: None, starts: 0 };
        broker.again().await;
        Some(broker)
    }

    /// Starts it on what it kept.
    pub async fn again(&mut self) {
        assert!(self.process.is_none(), "it runs");
        self.starts += 1;
        let log = File::create(self.log_file()).unwrap();
        let child = Command::new(&self.program).arg("-c").arg(self.folder.path().join("mosquitto.conf")).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.process = Some(child);
        let address = self.address;
        until("mosquitto", || std::net::TcpStream::connect(address).is_ok()).await;
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join(format!("log.{}", self.starts))
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Ends it in order: it writes down what it holds.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        self.process.take().unwrap().wait().unwrap();
    }

    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.process.take().unwrap().wait().unwrap();
    }

    /// Makes it write down what it holds now.
    pub async fn save(&self) {
        let kept = self.kept();
        assert!(!kept.exists(), "it was saved before");
        self.signal("-USR1");
        until("what the broker keeps", || kept.exists()).await;
    }

    /// From now on this user comes in with this password.
    pub fn password(&self, user: &str, password: &str) {
        let tool = program("mosquitto_passwd").expect("mosquitto_passwd comes with mosquitto");
        let file = self.folder.path().join("passwords");
        assert!(Command::new(tool).arg("-b").arg(file).args([user, password]).stderr(Stdio::null()).status().unwrap().success());
        self.signal("-HUP");
    }

    pub fn kept(&self) -> PathBuf {
        self.folder.path().join("mosquitto.db")
    }

    /// How often its log since the last start says this.
    pub fn said(&self, what: &str) -> usize {
        std::fs::read_to_string(self.log_file()).unwrap().lines().filter(|line| line.contains(what)).count()
    }

    /// Waits until it said this so often.
    pub async fn says(&self, what: &str, times: usize) {
        until(what, || self.said(what) >= times).await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        if std::thread::panicking() {
            println!("the broker's last words:\n{}", tail(&self.log_file(), 40));
        }
    }
}

fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Waits for a condition that nobody announces.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come within 60 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Devices of somebody else, who publish to the broker until it acknowledges.
pub struct Publisher {
    client: AsyncClient,
    poller: tokio::task::JoinHandle<()>,
}

impl Publisher {
    pub fn connect(broker: &Broker) -> Self {
        let mut options = MqttOptions::new("publisher", ("127.0.0.1", broker.address.port()));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_keep_alive(30).set_network_options(network);
        let (client, mut events): (_, EventLoop) = AsyncClient::builder(options).capacity(64).build();
        let poller = tokio::spawn(async move {
            loop {
                if events.poll().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        Self { client, poller }
    }

    /// At QoS 1, until it is acknowledged: again when the connection was lost.
    pub async fn publish(&self, topic: &str, payload: &str) {
        loop {
            let sent = self.client.publish_tracked(topic.to_owned(), payload.to_owned(), PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
            if soon("a puback", sent.wait_async()).await.is_ok() {
                return;
            }
        }
    }

    /// At QoS `qos`, without waiting.
    pub async fn send(&self, qos: QoS, topic: &str, payload: &str) {
        self.client.publish(topic.to_owned(), payload.to_owned(), PublishOptions::new(qos)).await.unwrap();
    }

    /// Readings `numbers` of one device, some under way at once.
    pub async fn readings(&self, topic: &str, numbers: std::ops::Range<usize>) {
        futures::stream::iter(numbers).for_each_concurrent(16, |n| async move { self.publish(topic, &reading(n)).await }).await;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

/// Readings of the last hour, a millisecond apart: one has the same id however often it is sent.
pub fn reading(n: usize) -> String {
    static FIRST: OnceLock<EventTime> = OnceLock::new();
    let at = *FIRST.get_or_init(|| crate::now() - Micros::hours(1)) + Micros(n as i64 * 1000);
    format!(r#"{{"metric":"heart_rate","value":70,"seq":{n},"measured_at":"{at}"}}"#)
}

/// The numbers of readings, each once.
pub fn numbers(readings: &[schemas::Reading]) -> HashSet<u64> {
    let ids: HashSet<_> = readings.iter().map(|reading| reading.id).collect();
    let numbers: HashSet<_> = readings.iter().map(|reading| reading.seq.unwrap()).collect();
    assert_eq!(ids.len(), numbers.len(), "a reading that came again has the id that it had");
    numbers
}
