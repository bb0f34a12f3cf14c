//! A receiver of webhooks: HTTP/1.1 on a real socket, answering as it is told.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// The whole request, as it came.
    pub raw: Vec<u8>,
    pub at: std::time::Instant,
}

impl Received {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Status(u16),
    Body(u16, &'static str),
    /// With `Retry-After`, in seconds.
    Later(u16, u32),
    /// Reads the request and says nothing.
    Hang,
}

pub struct Receiver {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Gives `answers` in order, then 200 for ever.
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let (all, script) = (received.clone(), answers);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(socket, all.clone(), script.clone()));
            }
        });
        Self { url, received, task }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Those under this key.
    pub fn under(&self, key: &str) -> Vec<Received> {
        self.received().into_iter().filter(|r| r.id() == key).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut socket: TcpStream, received: Arc<Mutex<Vec<Received>>>, answers: Arc<Mutex<VecDeque<Answer>>>) {
    let mut raw = Vec::new();
    let (head, length) = loop {
        if let Some(head) = raw.windows(4).position(|w| w == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&raw[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
            break (head, length);
        }
        if socket.read_buf(&mut raw).await.unwrap_or(0) == 0 {
            return;
        }
    };
    while raw.len() < head + 4 + length {
        if socket.read_buf(&mut raw).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let text = String::from_utf8_lossy(&raw[..head]).into_owned();
    let headers = text.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(k, v)| (k.to_lowercase(), v.trim().to_owned())).collect();
    let answer = answers.lock().unwrap().pop_front().unwrap_or(Answer::Status(200));
    received.lock().unwrap().push(Received { headers, body: raw[head + 4..].to_vec(), raw, at: std::time::Instant::now() });
    let (status, more, body) = match answer {
        Answer::Status(status) => (status, "location: /elsewhere\r\n".to_owned(), ""),
        Answer::Body(status, body) => (status, String::new(), body),
        Answer::Later(status, seconds) => (status, format!("retry-after: {seconds}\r\n"), ""),
        // until the other side gives up
        Answer::Hang => return drop(socket.read_buf(&mut Vec::new()).await),
    };
    let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{more}connection: close\r\n\r\n{body}", body.len());
    drop(socket.write_all(text.as_bytes()).await);
}
