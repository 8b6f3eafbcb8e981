//! Serving, the short way: requests and responses that go on nearly as they came.
//!
//! Most requests are here as a whole after one read, and so are the heads of their responses. These are rewritten as
//! bytes ([`http1`](crate::http1)), from one socket to the other, through the worker's own buffers. Everything else is
//! hyper's ([`super::http1`]), which this hands over to at any time before the response has begun to go out: the next
//! request as the bytes it is, or one under way with its guard, the connection to the app, and what has been read of the
//! response ([`Begun`]). So there is one place for what is rare, and it is not this one.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::http1::{note_arrival, say};
use super::peer::Presence;
use super::roster::{Order, Stage};
use super::sniff::PREFACE;
use super::stream::ClientStream;
use super::{Client, Next};
use crate::http1::Request;
use crate::metrics::{End, Protocol};
use crate::origin::Origin;
use crate::proxy::{Begun, Error, Guard};
use crate::sys;
use crate::telemetry::LogLine;
use crate::upstream::Sent;

mod answer;
mod ask;

use answer::Answering;
use ask::Asking;

/// A request that is larger is not waited for here. A connection to the app takes so much at once.
const WHOLE_MAX: usize = 16 << 10;

/// Serves requests until one is not for here, or the connection is idle or at its end.
pub(super) async fn serve(client: &Client, stream: ClientStream, unread: Bytes) -> Next {
    client.member.seat.enter(Stage::Waiting, client.idle_since());
    let mut fast = Fast::new(client, stream, unread);
    let ended = poll_fn(|cx| fast.poll(cx)).await;
    let stream = fast.stream;
    match ended {
        Ended::Idle => Next::Park(stream),
        Ended::Other(unread, begun) => Next::Serve(stream, unread.into(), begun),
        Ended::MaybeHttp2(first) => Next::Sniff(stream, first),
        Ended::Refused(error) => say(stream, error),
        Ended::Over => Next::Linger(stream),
        Ended::Quits if !stream.owes_goodbye() && sys::unacknowledged(stream.as_fd()) == 0 => Next::Closed,
        Ended::Quits => Next::Linger(stream),
        Ended::Eof if !stream.owes_goodbye() && sys::unacknowledged(stream.as_fd()) == 0 => Next::Closed,
        Ended::Eof => Next::Linger(stream),
        Ended::Broken => Next::Closed,
    }
}

/// Why there is nothing more to do here.
enum Ended {
    /// No request for a while.
    Idle,
    /// What the client has sent, and perhaps how far its first request is, is for hyper.
    Other(Vec<u8>, Option<Box<Begun>>),
    /// A new client has begun like one that speaks HTTP/2.
    MaybeHttp2(Vec<u8>),
    /// The client gets this error, and that was all.
    Refused(Error),
    /// Everything has been said.
    Over,
    /// The same, and the client has said before that it has nothing more to say: no body, and "close". As nothing more
    /// is here, closing is no RST that could take something from it, if it has got everything.
    Quits,
    /// The client has ended its side between two requests.
    Eof,
    /// A side has broken off, or it is time to cut.
    Broken,
}

/// Ready when there is a new state to be polled, or none.
type Step = Poll<Result<(), Ended>>;

struct Fast<'a> {
    client: &'a Client,
    stream: ClientStream,
    origin: Origin,
    /// Read from the client, and not looked at yet.
    inbox: Vec<u8>,
    /// The present request as it came: somebody else may have to have it.
    request: Vec<u8>,
    /// What a socket has not taken yet: the app's while asking, the client's while answering.
    unsent: Vec<u8>,
    state: State,
}

enum State {
    /// For a request.
    Waiting,
    /// For the head of the response.
    Asking(Asking),
    /// For the rest of the response.
    Answering(Answering),
}

impl<'a> Fast<'a> {
    fn new(client: &'a Client, stream: ClientStream, unread: Bytes) -> Self {
        let origin = client.origin();
        let (inbox, request, unsent) = (unread.into(), Vec::new(), Vec::new());
        Self { client, stream, origin, inbox, request, unsent, state: State::Waiting }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.client.member.seat.register(cx.waker());
        if !matches!(self.state, State::Waiting) && self.client.member.view().ended() {
            self.client.member.ends(End::Cut);
        }
        loop {
            let step = match self.state {
                State::Waiting => self.poll_request(cx),
                State::Asking(_) => self.poll_answer(cx),
                State::Answering(_) => self.poll_rest(cx),
            };
            match step {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                Poll::Pending => return self.obey(),
            }
        }
    }

    /// What the roster wants. Between an order and its arrival a request may have come: then the order is void.
    fn obey(&self) -> Poll<Ended> {
        let (member, waiting) = (&self.client.member, matches!(self.state, State::Waiting));
        match member.seat.take_order() {
            Some(Order::Cut) => {
                member.ends(End::Cut);
                Poll::Ready(Ended::Broken)
            }
            Some(Order::Park | Order::Close) if waiting => Poll::Ready(Ended::Idle),
            // A FIN is no reason to go: the client may have said all it had to say, and still wait for the response.
            Some(Order::Probe) if !waiting => {
                match member.seat.peer.look(self.stream.as_fd(), Instant::now()) {
                    Presence::There => Poll::Pending,
                    Presence::Closed | Presence::Vanished => Poll::Ready(Ended::Broken),
                }
            }
            _ => Poll::Pending,
        }
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Step {
        if !self.inbox.is_empty() {
            let bytes = std::mem::take(&mut self.inbox);
            return Poll::Ready(self.begin(&bytes, cx));
        }
        let client = self.client;
        let mut buffer = client.member.tools().buffer();
        let mut room = ReadBuf::new(&mut buffer);
        match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
            Poll::Ready(Ok(())) if room.filled().is_empty() => Poll::Ready(Err(Ended::Eof)),
            Poll::Ready(Ok(())) => Poll::Ready(self.begin(room.filled(), cx)),
            // FIN without a `close_notify`. Requests tell by themselves where they end.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Err(Ended::Eof))
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(client = %client.caller.addr(), %error, "a connection broke");
                Poll::Ready(Err(Ended::Broken))
            }
            // Part of a record is as good as half a head.
            Poll::Pending if self.stream.mid_record() => Poll::Ready(Err(Ended::Other(Vec::new(), None))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// A request has come, or something else.
    fn begin(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Ended> {
        let client = self.client;
        if client.fresh.get() {
            let known = bytes.len().min(PREFACE.len());
            if bytes[..known] == PREFACE[..known] {
                return Err(Ended::MaybeHttp2(bytes.to_vec()));
            }
            client.fresh.set(false);
            client.member.speaks(Protocol::Http1);
        }
        let mut out = client.member.tools().head();
        let request = Request::rewrite(bytes, &self.origin, &mut out);
        let Some(request) = request.filter(|request| request.len <= self.whole_max()) else {
            return Err(Ended::Other(bytes.to_vec(), None));
        };
        if !client.asked.replace(true) {
            note_arrival(client, request.user_agent.unwrap_or_default());
        }
        let seat = &client.member.seat;
        seat.stage.set(Stage::Exchange);
        seat.held.set(false);
        seat.events.set(false);
        let guard = client.exchange().begin(|addr| LogLine::of_http1(&request, addr));
        self.request.clear();
        self.request.extend_from_slice(&bytes[..request.len]);
        self.inbox.extend_from_slice(&bytes[request.len..]);
        self.state = State::Asking(Asking::new(&client.site.route.pool, &request, guard));
        self.send(&out, cx);
        Ok(())
    }

    /// A larger head would be too large for hyper as well, and is answered there.
    fn whole_max(&self) -> usize {
        WHOLE_MAX.min(self.client.site.max_header_bytes)
    }

    /// Lets hyper go on with the present request.
    fn hand_over(&mut self, sent: Sent, guard: Guard) -> Ended {
        let mut unread = std::mem::take(&mut self.request);
        unread.append(&mut self.inbox);
        Ended::Other(unread, Some(Box::new(Begun { guard, sent: Some(sent) })))
    }
}

/// Writes what there is to be written.
fn poll_unsent(
    unsent: &mut Vec<u8>,
    mut to: impl AsyncWrite + Unpin,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !unsent.is_empty() {
        let n = ready!(Pin::new(&mut to).poll_write(cx, unsent))?;
        unsent.drain(..n);
    }
    Poll::Ready(Ok(()))
}
