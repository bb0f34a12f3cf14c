//! A device made of bytes, so that it can do what no library would.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::soon;

pub struct Raw<S = TcpStream> {
    pub stream: S,
    pub level: u8,
}

impl Raw {
    pub async fn dial(address: SocketAddr, level: u8) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, level }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub async fn send(&mut self, bytes: &[u8]) {
        soon("room in the socket", self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next packet's first byte, and what its header announces. `None`: the gateway closed.
    pub async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        soon("a packet", async {
            let kind = self.stream.read_u8().await.ok()?;
            let mut length = 0;
            for shift in [0, 7, 14, 21] {
                let byte = self.stream.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((kind, body))
        })
        .await
    }

    pub async fn publish(&mut self, qos: u8, packet_id: u16, topic: &str, payload: &str) {
        let packet = publish(self.level, qos, packet_id, topic, payload.as_bytes());
        self.send(&packet).await;
    }

    /// The next packet is the ack of this message, without a word of complaint.
    pub async fn acked(&mut self, packet_id: u16) {
        assert_eq!(self.packet().await, Some((0x40, packet_id.to_be_bytes().to_vec())));
    }

    /// The reason code of the next PUBACK, and its reason string.
    pub async fn refused(&mut self, packet_id: u16) -> (u8, String) {
        let (kind, body) = self.packet().await.expect("a puback");
        assert_eq!((kind, &body[..2]), (0x40, &packet_id.to_be_bytes()[..]), "{body:?}");
        // a property length of one or two bytes, the property's name, the text's length
        let at = if body.get(3).is_some_and(|length| length & 0x80 != 0) { 8 } else { 7 };
        let text = body.get(at..).map(|text| String::from_utf8(text.to_vec()).unwrap()).unwrap_or_default();
        (body.get(2).copied().unwrap_or(0), text)
    }

    /// Nothing is said but the answers to two pings. The second is sent when the first is answered: whatever the gateway could say of what
    /// came before the first, it would have said before the answer to the second.
    pub async fn silent(&mut self) {
        for _ in 0..2 {
            self.send(&[0xc0, 0]).await;
            assert_eq!(self.packet().await, Some((0xd0, Vec::new())), "only the ping may be answered");
        }
    }

    /// The gateway closes: MQTT 5 with this reason code, 3.1.1 without a word. Answers the reason string.
    pub async fn closed(&mut self, code: u8) -> String {
        let packet = self.packet().await;
        if self.level == 4 {
            assert_eq!(packet, None);
            return String::new();
        }
        let Some((0xe0, body)) = packet else { panic!("expected a disconnect with {code:#x}, got {packet:x?}") };
        assert_eq!(body[0], code, "{:?}", String::from_utf8_lossy(&body));
        assert_eq!(self.packet().await, None);
        body.get(5..).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    }

    /// The code of each filter.
    pub async fn subscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let packet = subscribe(self.level, 9, filters);
        self.send(&packet).await;
        let (kind, body) = self.packet().await.expect("a suback");
        assert_eq!((kind, &body[..2]), (0x90, &[0, 9][..]));
        body[if self.level == 5 { 3 } else { 2 }..].to_vec()
    }

    /// Sends this, and answers everything that is said to it: `CONNACK 0, PUBACK 1, closed`. An ack without a reason code has none here.
    pub async fn answers(&mut self, bytes: &[u8]) -> String {
        self.send(bytes).await;
        let mut said = Vec::new();
        let mut pings = 0;
        while pings < 2 {
            // as in `silent`; a gateway that closed does not take it, and what it said is still to be read
            soon("room in the socket", self.stream.write_all(&[0xc0, 0])).await.ok();
            loop {
                match self.packet().await {
                    Some((0xd0, _)) => break pings += 1,
                    Some((kind, body)) => said.push(self.word(kind, &body)),
                    None => {
                        said.push("closed".to_owned());
                        return said.join(", ");
                    }
                }
            }
        }
        said.join(", ")
    }

    fn word(&self, kind: u8, body: &[u8]) -> String {
        let codes =
            |name: &str, codes: &[u8]| codes.iter().fold(name.to_owned(), |text, code| if *code == 0 { text + " 0" } else { format!("{text} {code:#04x}") });
        let from = if self.level == 5 { 3 } else { 2 };
        match kind {
            0x20 => {
                assert_eq!(body[0], 0, "session present");
                codes("CONNACK", &body[1..2])
            }
            0x30 => "PUBLISH".to_owned(),
            0x40 => codes("PUBACK", body.get(2..3).unwrap_or_default()),
            0x50 => codes("PUBREC", body.get(2..3).unwrap_or_default()),
            0x70 => codes("PUBCOMP", body.get(2..3).unwrap_or_default()),
            0x90 => codes("SUBACK", &body[from..]),
            0xb0 => codes("UNSUBACK", body.get(from..).unwrap_or_default()),
            0xe0 => codes("DISCONNECT", &body[..1]),
            kind => format!("{kind:#04x} {body:?}"),
        }
    }

    /// A message on the verdict topic.
    pub async fn verdict(&mut self, topic: &str) -> serde_json::Value {
        let (kind, body) = self.packet().await.expect("a verdict");
        assert_eq!(kind, 0x30, "{body:?}");
        let payload = 2 + topic.len() + usize::from(self.level == 5);
        assert_eq!(&body[2..2 + topic.len()], topic.as_bytes());
        serde_json::from_slice(&body[payload..]).unwrap()
    }
}

fn text(packet: &mut Vec<u8>, text: &str) {
    packet.extend_from_slice(&(text.len() as u16).to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
}

/// A packet with its fixed header.
pub fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

pub fn connect(level: u8, client: &str, user: Option<&str>, password: Option<&str>, keep_alive: u16) -> Vec<u8> {
    connect_with(level, &[], client, user, password, keep_alive)
}

pub fn connect_with(level: u8, properties: &[u8], client: &str, user: Option<&str>, password: Option<&str>, keep_alive: u16) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT".to_vec();
    body.push(level);
    body.push(0b10 | if user.is_some() { 0x80 } else { 0 } | if password.is_some() { 0x40 } else { 0 });
    body.extend_from_slice(&keep_alive.to_be_bytes());
    if level == 5 {
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
    }
    text(&mut body, client);
    for part in [user, password].into_iter().flatten() {
        text(&mut body, part);
    }
    framed(0x10, &body)
}

pub fn publish(level: u8, qos: u8, packet_id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    if qos > 0 {
        body.extend_from_slice(&packet_id.to_be_bytes());
    }
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    framed(0x30 | qos << 1, &body)
}

pub fn subscribe(level: u8, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if level == 5 {
        body.push(0);
    }
    for filter in filters {
        text(&mut body, filter);
        body.push(1);
    }
    framed(0x82, &body)
}
