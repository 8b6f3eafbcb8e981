//! The first bytes of a connection tell HTTP/2 from HTTP/1.1.
//!
//! An HTTP/2 client that knows what to expect begins with 24 bytes that no HTTP/1.1 request begins with (RFC 9113,
//! section 3.4). Waiting for them is bounded like a request's head.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::http1;
use super::roster::{Order, Stage};
use super::stream::ClientStream;
use super::{Client, Next};
use crate::metrics::{End, Protocol};
use crate::proxy::Error;

/// What an HTTP/2 client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Read at a time: most request heads fit, and need no second read.
const FIRST: usize = 2048;

/// What the first bytes are.
enum First {
    /// The readiness was a false alarm.
    Nothing,
    Http1(Bytes),
    Http2(Bytes),
    Ordered(Order),
    Gone,
}

/// Reads until it is clear what the client speaks, which has `begun` like one that speaks HTTP/2, or not yet.
pub(super) async fn sniff(client: &Client, mut stream: ClientStream, mut begun: Vec<u8>) -> Next {
    let seat = &client.member.seat;
    let first = poll_fn(|cx| {
        seat.register(cx.waker());
        let read = poll_first(&mut stream, &mut begun, cx);
        if let Poll::Ready(first) = read {
            return Poll::Ready(first);
        }
        if begun.is_empty() {
            return Poll::Ready(First::Nothing);
        }
        if seat.stage.get() != Stage::Head {
            seat.enter(Stage::Head, Instant::now());
        }
        match seat.take_order() {
            Some(order @ (Order::HeadTimeout | Order::HeadCutShort | Order::Close | Order::Cut)) => {
                Poll::Ready(First::Ordered(order))
            }
            _ => Poll::Pending,
        }
    })
    .await;
    match first {
        First::Nothing => Next::Park(stream),
        First::Http1(bytes) => {
            client.fresh.set(false);
            client.member.speaks(Protocol::Http1);
            Next::Serve(stream, bytes, None)
        }
        First::Http2(bytes) => {
            client.fresh.set(false);
            Next::Http2(stream, bytes)
        }
        First::Ordered(order) => too_slow(client, stream, order),
        First::Gone if stream.owes_goodbye() => Next::Linger(stream),
        First::Gone => Next::Closed,
    }
}

/// What has begun to come takes too long.
pub(super) fn too_slow(client: &Client, stream: ClientStream, order: Order) -> Next {
    if order != Order::HeadTimeout {
        client.member.ends(End::Cut);
    }
    let error = if order == Order::Close { Error::DrainDeadline } else { Error::HeaderTimeout };
    if order == Order::Cut { Next::Closed } else { http1::refuse(client, stream, error) }
}

fn poll_first(stream: &mut ClientStream, begun: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<First> {
    loop {
        let known = begun.len().min(PREFACE.len());
        if begun[..known] != PREFACE[..known] {
            return Poll::Ready(First::Http1(std::mem::take(begun).into()));
        }
        if known == PREFACE.len() {
            return Poll::Ready(First::Http2(std::mem::take(begun).into()));
        }
        let mut room = [MaybeUninit::uninit(); FIRST];
        let mut room = ReadBuf::uninit(&mut room);
        if ready!(Pin::new(&mut *stream).poll_read(cx, &mut room)).is_err() || room.filled().is_empty() {
            return Poll::Ready(First::Gone);
        }
        begun.extend_from_slice(room.filled());
    }
}
