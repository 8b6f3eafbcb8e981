//! WebSockets on a stream (RFC 8441): to the app they are an upgrade like any other, and what follows is a tunnel.
//!
//! Such a stream has a seat of its own in the roster, so a drain says goodbye on it as on a connection of its own.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant};

use crate::connection::roster::{Member, Order, Stage};
use crate::connection::tunnel::{Side, Socket, Tunnel};
use crate::http2::{ConnectProtocol, Reason, Receiving, RecvStream, SendStream};
use crate::metrics::Protocol;
use crate::upstream::Stream;

const SEC_WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// A client that does not end its side is not waited for longer.
const SILENCE: Duration = Duration::from_secs(2);

/// Makes the upgrade of HTTP/1.1 out of a request for a WebSocket; false if it is something else.
pub(super) fn into_upgrade(request: &mut Request<()>) -> bool {
    let asked =
        request.extensions().get::<ConnectProtocol>().is_some_and(|asked| asked.as_bytes() == b"websocket");
    let host = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    let (true, &Method::CONNECT, Some(host)) = (asked, request.method(), host) else { return false };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = Uri::from(path);
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, key());
    // It would speak of what follows the 101. Should the app not agree, it would wait for that, and take the next
    // request on the connection for it.
    headers.remove(CONTENT_LENGTH);
    true
}

/// 16 random bytes in base64 (RFC 6455, section 4.1). They show the client that the server has understood; HTTP/2 has
/// other means for that.
fn key() -> HeaderValue {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 21 characters hold 126 bits. The last one holds 2 and four zeros.
    let mut text: Vec<u8> = (0..21).map(|_| ALPHABET[fastrand::usize(..64)]).collect();
    text.push(ALPHABET[fastrand::usize(..4) << 4]);
    text.extend_from_slice(b"==");
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

/// The head that says to the client what a 101 said to us.
pub(super) fn accepted(mut headers: HeaderMap) -> Response<()> {
    // A length has no place in a 101, but here it would be that of the whole stream.
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH] {
        headers.remove(name);
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    *response.headers_mut() = headers;
    response
}

/// Carries the WebSocket to its end, as a task of its own.
pub(super) fn carry(member: Member, client: StreamSide, app: Stream, from_app: Bytes) {
    member.speaks(Protocol::WebSocket);
    tokio::task::spawn_local(async move {
        let tunnel = Tunnel::new(client, Bytes::new(), app, from_app, &member).follow();
        if let Some(client) = Box::pin(tunnel.run(&member, || {})).await {
            client.linger(&member).await;
        }
    });
}

/// A stream as one side of a tunnel.
#[derive(Debug)]
pub(super) struct StreamSide {
    incoming: Receiving,
    /// Come, and not read yet.
    chunk: Bytes,
    /// None after its end.
    outgoing: RefCell<Option<SendStream>>,
}

impl StreamSide {
    pub(super) fn new(incoming: RecvStream, outgoing: SendStream) -> Self {
        let outgoing = RefCell::new(Some(outgoing));
        Self { incoming: Receiving::new(incoming), chunk: Bytes::new(), outgoing }
    }

    /// After everything has been said: END_STREAM, then reads and forgets until the client ends its side, too. A reset
    /// could overtake what it has not read yet.
    async fn linger(mut self, member: &Member) {
        let start = Instant::now();
        member.seat.enter(Stage::Lingering, start);
        self.end();
        poll_fn(|cx| {
            member.seat.register(cx.waker());
            loop {
                match Pin::new(&mut self.incoming).poll_frame(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            // The roster looks at a lingering connection at every tick.
            let cut = member.seat.take_order() == Some(Order::Cut);
            if cut || start.elapsed() >= SILENCE { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Ends what we say.
    fn end(&self) {
        if let Some(mut outgoing) = self.outgoing.take() {
            outgoing.send_data(&[], true);
        }
    }
}

impl Side for StreamSide {
    fn plain(&self) -> Option<Socket<'_>> {
        None
    }

    fn tcp(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn abort(&self) {
        if let Some(mut outgoing) = self.outgoing.take() {
            outgoing.reset(Reason::CANCEL);
        }
    }
}

impl AsyncRead for StreamSide {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.chunk.len().min(buf.remaining());
        buf.put_slice(&self.chunk[..n]);
        self.chunk.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamSide {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut outgoing = self.outgoing.borrow_mut();
        let Some(stream) = outgoing.as_mut() else { return Poll::Ready(Err(gone())) };
        let Ok(room) = ready!(stream.poll_room(cx)) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let part = &buf[..room.min(buf.len())];
        stream.send_data(part, false);
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}
