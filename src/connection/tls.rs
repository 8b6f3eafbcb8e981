//! The handshake: the first state of a connection on an `https://` forward. What comes after it is the same as in
//! the clear, over a [`TlsStream`].
//!
//! As long as nothing has come, there is no more than the socket. The handshake has no timers: the roster bounds it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::{Error as Tls, ServerConfig};
use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::roster::{Order, Stage};
use super::stream::ClientStream;
use super::{Client, Next, http1, linger};
use crate::metrics::{End, HandshakeFailure};
use crate::proxy::Error;
use crate::tls::Current;

mod queue;
mod records;
mod session;

pub(crate) use session::TlsStream;

/// "Internal error" as an alert in the clear (RFC 8446, section 6), for one that gets no handshake: the client can
/// tell at once that it is not served.
pub(super) const NOT_SERVED: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// A handshake by itself, for a door that is no forward; whoever calls it bounds it.
pub(crate) async fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Box<TlsStream>> {
    let mut stream = TlsStream::new(stream, config).map_err(io::Error::other)?;
    poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(stream)
}

/// What the first byte says.
enum Knock {
    Tls,
    /// The beginning of an HTTP request in the clear.
    PlainHttp,
    /// It was a look at whether somebody listens.
    Gone,
    Ordered(Order),
}

/// How a handshake ends.
enum Shaken {
    Done,
    Failed(io::Error),
    Ordered(Order),
}

/// From the accepted socket to the end of the handshake.
pub(super) async fn shake_hands(client: &Client, stream: ClientStream, current: &Current) -> Next {
    let seat = &client.member.seat;
    seat.enter(Stage::Handshake, client.idle_since());
    match poll_fn(|cx| poll_knock(client, stream.tcp(), cx)).await {
        Knock::Tls => {}
        Knock::PlainHttp => {
            count(client, HandshakeFailure::PlainHttp);
            let why =
                Error::BadRequest("this port speaks HTTPS, and this is HTTP: use https:// in the address");
            return http1::refuse(client, stream, why);
        }
        Knock::Gone => return Next::Closed,
        Knock::Ordered(Order::Close) => {
            client.member.ends(End::ClosedIdle);
            linger::after_idle(&client.member, stream).await;
            return Next::Closed;
        }
        Knock::Ordered(order) => return cut_short(client, stream, order),
    }
    let ClientStream::Plain(stream) = stream else { return Next::Park(stream) };
    let mut stream = match TlsStream::new(stream, current.get()) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::error!(%error, "TLS can't be spoken");
            return Next::Closed;
        }
    };
    match poll_fn(|cx| poll_shaken(client, &mut stream, cx)).await {
        Shaken::Done => {
            // From here on the client has as long for its first request as one that has just connected in the clear.
            client.idle_since.set(Instant::now());
            Next::Park(ClientStream::Tls(stream))
        }
        Shaken::Failed(error) => {
            tracing::debug!(client = %client.caller.addr(), %error, "a TLS handshake failed");
            count(client, stream.failure().map_or(HandshakeFailure::Gone, reason));
            // What is wrong has been said in an alert.
            if stream.failure().is_some() { Next::Linger(ClientStream::Tls(stream)) } else { Next::Closed }
        }
        Shaken::Ordered(order) => cut_short(client, ClientStream::Tls(stream), order),
    }
}

fn poll_knock(client: &Client, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<Knock> {
    client.member.seat.register(cx.waker());
    let mut first = [0];
    let mut first = ReadBuf::new(&mut first);
    match stream.poll_peek(cx, &mut first) {
        Poll::Ready(Ok(_)) => {
            return Poll::Ready(match first.filled() {
                [] => Knock::Gone,
                [b'A'..=b'Z'] => Knock::PlainHttp,
                _ => Knock::Tls,
            });
        }
        Poll::Ready(Err(_)) => return Poll::Ready(Knock::Gone),
        Poll::Pending => {}
    }
    match client.member.seat.take_order() {
        // The runtime may not have been told of what is here.
        Some(Order::Close) if is_here(stream) => Poll::Pending,
        Some(order @ (Order::Close | Order::HeadTimeout | Order::HeadCutShort | Order::Cut)) => {
            Poll::Ready(Knock::Ordered(order))
        }
        _ => Poll::Pending,
    }
}

fn is_here(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    SockRef::from(stream).peek(&mut byte).is_ok_and(|n| n > 0)
}

fn poll_shaken(client: &Client, stream: &mut TlsStream, cx: &mut Context<'_>) -> Poll<Shaken> {
    client.member.seat.register(cx.waker());
    match stream.poll_handshake(cx) {
        Poll::Ready(Ok(())) => return Poll::Ready(Shaken::Done),
        Poll::Ready(Err(error)) => return Poll::Ready(Shaken::Failed(error)),
        Poll::Pending => {}
    }
    match client.member.seat.take_order() {
        // It is for those who have not begun, until the deadline.
        Some(Order::Close) if !client.member.view().ended() => Poll::Pending,
        Some(order @ (Order::Close | Order::HeadTimeout | Order::HeadCutShort | Order::Cut)) => {
            Poll::Ready(Shaken::Ordered(order))
        }
        _ => Poll::Pending,
    }
}

/// It has taken too long.
fn cut_short(client: &Client, stream: ClientStream, order: Order) -> Next {
    count(client, HandshakeFailure::Timeout);
    if order != Order::HeadTimeout {
        client.member.ends(End::Cut);
    }
    if order == Order::Cut { Next::Closed } else { Next::Linger(stream) }
}

fn count(client: &Client, reason: HandshakeFailure) {
    client.member.shard.handshake_failures[reason as usize].inc();
}

fn reason(error: &Tls) -> HandshakeFailure {
    match error {
        Tls::AlertReceived(_) => HandshakeFailure::RefusedByClient,
        Tls::NoCertificatesPresented | Tls::InvalidCertificate(_) => HandshakeFailure::ClientCertificate,
        Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol => HandshakeFailure::NothingInCommon,
        _ => HandshakeFailure::Invalid,
    }
}

/// What the client has of a request is part of a record: as little as half a head, and bounded like one.
pub(super) fn note_partial(client: &Client, stream: &ClientStream) {
    let seat = &client.member.seat;
    match (stream.mid_record(), seat.stage.get()) {
        (true, Stage::Parked) => seat.enter(Stage::Head, Instant::now()),
        // It was something else.
        (false, Stage::Head) => seat.enter(Stage::Parked, client.idle_since()),
        _ => {}
    }
}
