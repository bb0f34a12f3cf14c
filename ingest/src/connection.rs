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
        Self { stream, signal, conversation, patience, heard_at: now, taken_at: now, timer, unflushed: false, stopping: false }
    }

    /// Until it ends; answers why.
    pub async fn run(mut self) -> Closed {
        let closed = loop {
            if let Err(closed) = self.conversation.work() {
                break closed;
            }
            // what was not read for want of room is not the device's silence
            self.heard_at = Instant::now();
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
        let (deadline, closed) = if self.unflushed {
            (self.taken_at + UNREAD, Closed::Unread)
        } else if let (true, Some(patience)) = (self.listens(), self.patience) {
            (self.heard_at + patience, Closed::Silent)
        } else {
            return Poll::Pending;
        };
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
