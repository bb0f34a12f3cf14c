//! A socket and its conversation: read, settle, write, until one of them ends it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::closed::Closed;
use crate::connections::{Notice, Signal};
use crate::conversation::Conversation;
use crate::reply;
use crate::wire::Version;

/// Messages of one connection that may wait for their ack: MQTT 5's Receive Maximum.
pub(crate) const WINDOW: usize = 32;
/// Bytes taken from a socket at once.
const READ: usize = 16 << 10;
/// A device that takes nothing of what it is sent for so long is given up.
const UNREAD: Duration = Duration::from_secs(30);
/// A packet that has begun must be whole: for the largest on a slow line, and no longer, since it keeps what others could have.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// For the last words, and for the peer to read them.
const PARTING: Duration = Duration::from_secs(2);
/// A timer that has nothing to wait for.
const NEVER: Duration = Duration::from_secs(86_400);

pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for S {}

/// Reads through a buffer on the stack, so that a connection without news holds none. 0: the peer is gone.
pub(crate) fn poll_read<S: Socket>(stream: &mut S, context: &mut Context<'_>, input: &mut BytesMut) -> Poll<io::Result<usize>> {
    let mut space = [MaybeUninit::<u8>::uninit(); READ];
    let mut read = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(context, &mut read))?;
    input.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// Says the last words and waits until the peer has read them: a socket closed with unread bytes would take them back.
pub(crate) async fn part<S: Socket>(mut stream: S, words: &[u8]) {
    let parting = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut unheard = BytesMut::new();
        while poll_fn(|context| poll_read(&mut stream, context, &mut unheard)).await? > 0 {
            unheard.clear();
        }
        io::Result::Ok(())
    };
    match timeout(PARTING, parting).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::trace!(%error, "the peer did not wait for the last words"),
        Err(_) => tracing::trace!("the peer did not take the last words in time"),
    }
}

pub(crate) struct Connection<S> {
    stream: S,
    signal: Arc<Signal>,
    conversation: Conversation,
    /// One and a half keep alives.
    patience: Option<Duration>,
    heard_at: Instant,
    /// When the packet that is half here began, and the how manieth it is.
    begun: Option<(Instant, u64)>,
    whole_within: Duration,
    /// When the device last took something of `output`.
    taken_at: Instant,
    /// Armed lazily: it fires at the earliest deadline there was since, and is set anew.
    timer: Pin<Box<Sleep>>,
    unflushed: bool,
    stopping: bool,
}

impl<S: Socket> Connection<S> {
    pub fn new(stream: S, signal: Arc<Signal>, conversation: Conversation, patience: Option<Duration>) -> Self {
        let now = Instant::now();
        let timer = Box::pin(sleep_until(now + NEVER));
        Self {
            stream,
            signal,
            conversation,
            patience,
            heard_at: now,
            begun: None,
            whole_within: WHOLE_WITHIN,
            taken_at: now,
            timer,
            unflushed: false,
            stopping: false,
        }
    }

    /// Until it ends; answers why.
    pub async fn run(mut self) -> Closed {
        let closed = loop {
            if let Err(closed) = self.conversation.work() {
                break closed;
            }
            // what was not read for want of room is not the device's silence
            self.heard_at = Instant::now();
            let before = self.begun.filter(|(_, number)| *number == self.conversation.taken);
            self.begun = self.conversation.is_halfway().then(|| before.unwrap_or((self.heard_at, self.conversation.taken)));
            if let Err(closed) = poll_fn(|context| self.poll(context)).await {
                break closed;
            }
        };
        let Conversation { mut output, listener, .. } = self.conversation;
        if let Some(code) = closed.code() {
            if listener.version == Version::V5 {
                reply::disconnect(&mut output, listener, code, &closed.to_string());
            }
            part(self.stream, &output).await;
        } else if matches!(closed, Closed::Goodbye) && !output.is_empty() {
            // it may have said everything in one breath, and its CONNECT has an answer too
            part(self.stream, &output).await;
        }
        closed
    }

    /// Ready when there may be packets to take.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        match self.signal.look(context) {
            None => {}
            Some(Notice::Stop) => self.stopping = true,
            Some(Notice::TakenOver) => return Poll::Ready(Err(Closed::TakenOver)),
            Some(Notice::Revoked) => return Poll::Ready(Err(Closed::Revoked)),
            Some(Notice::Evicted | Notice::Kill) => return Poll::Ready(Err(Closed::Dropped)),
        }
        let mut settled = false;
        loop {
            self.poll_write(context)?;
            if !self.conversation.poll_settle(context)? {
                break;
            }
            settled = true;
        }
        // acks that left may have made room for packets that are here already
        if self.conversation.poll_room(context).is_ready() || (settled && !self.conversation.input.is_empty()) {
            return Poll::Ready(Ok(()));
        }
        if self.listens() {
            if let Poll::Ready(read) = poll_read(&mut self.stream, context, &mut self.conversation.input) {
                return Poll::Ready(match read? {
                    0 => Err(Closed::Gone),
                    _ => {
                        self.conversation.heard();
                        Ok(())
                    }
                });
            }
        } else if self.stopping && self.conversation.is_settled() {
            return Poll::Ready(Err(Closed::Stopped));
        }
        self.poll_timer(context)
    }

    fn listens(&self) -> bool {
        !self.stopping && self.conversation.listens()
    }

    /// Writes what the socket takes.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<(), Closed> {
        let output = &mut self.conversation.output;
        while !output.is_empty() {
            if !self.unflushed {
                self.taken_at = Instant::now();
                self.unflushed = true;
            }
            match Pin::new(&mut self.stream).poll_write(context, output)? {
                Poll::Ready(0) => return Err(Closed::Gone),
                Poll::Ready(written) => {
                    output.advance(written);
                    self.taken_at = Instant::now();
                }
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(context)?.is_ready() {
            self.unflushed = false;
            *output = BytesMut::new();
        }
        Ok(())
    }

    /// Never ready but with an error.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let listens = self.listens();
        let half = self.begun.filter(|_| listens).map(|(begun, _)| (begun + self.whole_within, Closed::Half));
        let silent = self.patience.filter(|_| listens && !self.unflushed).map(|patience| (self.heard_at + patience, Closed::Silent));
        let unread = self.unflushed.then(|| (self.taken_at + UNREAD, Closed::Unread));
        let first = [half, silent, unread].into_iter().flatten().min_by_key(|(deadline, _)| *deadline);
        let Some((deadline, closed)) = first else { return Poll::Pending };
        loop {
            if Instant::now() >= deadline {
                return Poll::Ready(Err(closed));
            }
            if self.timer.deadline() > deadline || self.timer.is_elapsed() {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(context));
        }
    }
}

#[cfg(test)]
mod tests {
    use journal::memory::MemoryJournal;
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::fuzz::Checker;
    use crate::reply::Listener;

    const WITHIN: Duration = Duration::from_millis(200);
    /// A ping, then a PUBLISH of 100 bytes of which nothing more is here.
    const BEGUN: &[u8] = &[0xc0, 0, 0x30, 98, 0];

    fn connection() -> (tokio::io::DuplexStream, Connection<tokio::io::DuplexStream>) {
        let (device, ours) = tokio::io::duplex(1 << 10);
        let shared = Arc::new(Checker::new().unwrap().shared(&MemoryJournal::new(1), 256 << 10, 1 << 20));
        let listener = Listener { version: Version::V5, problems: true, max_packet: usize::MAX };
        let conversation = Conversation::new(shared, schemas::DeviceId::parse("ox").unwrap(), listener, BytesMut::new(), None);
        let mut connection = Connection::new(ours, Arc::default(), conversation, None);
        connection.whole_within = WITHIN;
        (device, connection)
    }

    #[tokio::test]
    async fn a_packet_that_has_begun_must_become_whole() {
        for dribbles in [false, true] {
            let (mut device, connection) = connection();
            let began = Instant::now();
            device.write_all(BEGUN).await.unwrap();
            let (mut hears, mut says) = tokio::io::split(device);
            let dribbling = tokio::spawn(async move {
                // never as many as the packet has
                for _ in 0..if dribbles { 90 } else { 0 } {
                    tokio::time::sleep(WITHIN / 60).await;
                    if says.write_all(b"x").await.is_err() {
                        break;
                    }
                }
                says
            });
            let mut said = Vec::new();
            let (closed, read) = timeout(Duration::from_secs(30), async { tokio::join!(connection.run(), hears.read_to_end(&mut said)) }).await.unwrap();
            read.unwrap();
            assert!(matches!(closed, Closed::Half), "{closed}");
            assert!(began.elapsed() >= WITHIN);
            assert!(said.starts_with(&[0xd0, 0, 0xe0]) && said[4] == 0x83, "{said:x?}");
            drop(dribbling.await.unwrap());
        }
    }

    #[tokio::test]
    async fn whoever_goes_on_is_not_hurried() {
        let (mut device, connection) = connection();
        let running = tokio::spawn(connection.run());
        let began = Instant::now();
        let mut pings = 0;
        let mut said = [0; 2];
        // each ping comes in two pieces, so that there is always one half here
        device.write_all(&[0xc0]).await.unwrap();
        while began.elapsed() < WITHIN * 3 {
            device.write_all(&[0, 0xc0]).await.unwrap();
            device.read_exact(&mut said).await.unwrap();
            pings += 1;
        }
        assert!(pings > 1 && !running.is_finished());
        drop(device);
        assert!(matches!(running.await.unwrap(), Closed::Gone | Closed::Socket(_)));
    }
}
