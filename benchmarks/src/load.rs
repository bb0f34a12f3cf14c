//! The load: devices that speak MQTT 3.1.1 and publish at QoS 1, each on a connection of its own, every message numbered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use schemas::EventTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Metric, value and unit of the readings of a message; a message holds the first so many.
pub const READINGS: [(&str, &str, &str); 3] = [("spo2", "97", "%"), ("heart_rate", "72", "/min"), ("respiratory_rate", "16", "/min")];
const ENDS_WITHIN: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Shape {
    #[arg(long, default_value_t = 200)]
    pub connections: usize,
    /// Messages on each connection
    #[arg(long, default_value_t = 1500)]
    pub each: usize,
    /// Messages without a PUBACK on each connection
    #[arg(long, default_value_t = 16)]
    pub window: usize,
    /// Readings in a message
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub readings: u8,
    /// Messages a second on all connections; as fast as the PUBACKs come, when left out
    #[arg(long)]
    pub rate: Option<f64>,
}

impl Shape {
    pub fn messages(&self) -> usize {
        self.connections * self.each
    }
}

/// Connected devices.
pub struct Load {
    shape: Shape,
    streams: Vec<TcpStream>,
    sent_at: Arc<SentAt>,
}

/// When each message was written to its socket.
pub struct SentAt {
    zero: Instant,
    each: usize,
    micros: Vec<AtomicU64>,
}

impl SentAt {
    fn note(&self, device: usize, seqs: std::ops::Range<usize>) {
        let now = self.zero.elapsed().as_micros() as u64;
        for seq in seqs {
            self.micros[device * self.each + seq].store(now, Ordering::Relaxed);
        }
    }

    pub fn since(&self, device: usize, seq: usize) -> Duration {
        let sent = Duration::from_micros(self.micros[device * self.each + seq].load(Ordering::Relaxed));
        self.zero.elapsed().saturating_sub(sent)
    }
}

/// What became of it on this side.
pub struct Sent {
    pub began: SystemTime,
    pub seconds: f64,
    /// Of each device; its PUBACKs come in the order of its messages, so these are its first so many.
    pub acked: Vec<usize>,
}

impl Sent {
    pub fn all_acked(&self) -> usize {
        self.acked.iter().sum()
    }
}

impl Load {
    /// Device `d{i}` signs in with the password at `i`, or without one.
    pub async fn connect(shape: Shape, address: &str, passwords: &[String]) -> Result<Self> {
        let mut streams = Vec::new();
        for device in 0..shape.connections {
            streams.push(connect(address, &format!("d{device}"), passwords.get(device)).await?);
        }
        let micros = (0..shape.messages()).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { shape, streams, sent_at: Arc::new(SentAt { zero: Instant::now(), each: shape.each, micros }) })
    }

    pub fn sent_at(&self) -> Arc<SentAt> {
        self.sent_at.clone()
    }

    /// Until everything is acknowledged, or the connections are lost: nobody sends again.
    pub async fn publish(self) -> Result<Sent> {
        let (began, clock) = (SystemTime::now(), Instant::now());
        let now = began.duration_since(UNIX_EPOCH)?.as_micros() as i64;
        // a millisecond apart, the last just now
        let times: Arc<[String]> = (0..self.shape.each).map(|seq| EventTime(now - (self.shape.each - seq) as i64 * 1000).to_string()).collect();
        let devices = self.streams.into_iter().enumerate().map(|(index, stream)| {
            let device = Device { index, shape: self.shape, clock, times: times.clone(), sent_at: self.sent_at.clone() };
            tokio::spawn(device.publish(stream))
        });
        let devices: Vec<_> = devices.collect();
        let mut acked = Vec::new();
        for device in devices {
            acked.push(tokio::time::timeout(ENDS_WITHIN, device).await.context("the PUBACKs do not come")??);
        }
        Ok(Sent { began, seconds: clock.elapsed().as_secs_f64(), acked })
    }
}

async fn connect(address: &str, id: &str, password: Option<&String>) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let mut body = b"\x00\x04MQTT\x04\x02\x00\x3c".to_vec();
    put_text(&mut body, id);
    if let Some(password) = password {
        body[7] |= 0xc0;
        put_text(&mut body, id);
        put_text(&mut body, password);
    }
    stream.write_all(&[&[0x10, body.len() as u8], &body[..]].concat()).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    ensure!(connack[3] == 0, "the connection of {id} is refused with {}", connack[3]);
    Ok(stream)
}

struct Device {
    index: usize,
    shape: Shape,
    clock: Instant,
    times: Arc<[String]>,
    sent_at: Arc<SentAt>,
}

impl Device {
    /// How many messages were acknowledged.
    async fn publish(self, mut stream: TcpStream) -> usize {
        let topic = format!("v1/devices/d{}/vitals", self.index);
        let Shape { each, window, .. } = self.shape;
        let (mut sent, mut acked, mut partial) = (0, 0, 0);
        let (mut out, mut buffer) = (Vec::new(), [0; 4096]);
        while acked < each {
            let first = sent;
            while sent < each && sent - acked < window && self.due(sent) <= Instant::now() {
                put_publish(&mut out, &topic, (sent % 65_535) as u16 + 1, &self.message(sent));
                sent += 1;
            }
            if !out.is_empty() {
                self.sent_at.note(self.index, first..sent);
                if stream.write_all(&out).await.is_err() {
                    return acked;
                }
                out.clear();
            }
            let waits_for_time = sent < each && sent - acked < window;
            tokio::select! {
                read = stream.read(&mut buffer) => {
                    let Ok(1..) = read else { return acked };
                    // a PUBACK is four bytes
                    partial += read.unwrap_or(0);
                    acked += partial / 4;
                    partial %= 4;
                }
                () = tokio::time::sleep_until(self.due(sent).into()), if waits_for_time => {}
            }
        }
        acked
    }

    /// Devices do not beat together: each has its own place in the interval.
    fn due(&self, seq: usize) -> Instant {
        let Some(rate) = self.shape.rate else { return self.clock };
        self.clock + Duration::from_secs_f64((seq * self.shape.connections + self.index) as f64 / rate)
    }

    fn message(&self, seq: usize) -> String {
        let time = &self.times[seq];
        let mut payload = format!(r#"{{"sent_at":"{time}","seq":{seq},"readings":["#);
        for (at, (metric, value, unit)) in READINGS[..usize::from(self.shape.readings)].iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            payload += &format!(r#"{comma}{{"metric":"{metric}","value":{value},"unit":"{unit}","measured_at":"{time}"}}"#);
        }
        payload + "]}"
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// At QoS 1.
fn put_publish(out: &mut Vec<u8>, topic: &str, packet_id: u16, payload: &str) {
    out.push(0x32);
    let mut length = 2 + topic.len() + 2 + payload.len();
    while length > 127 {
        out.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    out.push(length as u8);
    put_text(out, topic);
    out.extend(packet_id.to_be_bytes());
    out.extend(payload.as_bytes());
}
