//! With `--accept-proxy` a connection begins with a PROXY protocol header, before TLS and before HTTP.
//!
//! The header is peeked at, and exactly its bytes are taken out: what follows stays in the kernel for whoever comes
//! next, be it TLS, HTTP or a tunnel. Bytes that are known to be the header's are taken out at once, also when more
//! must come: otherwise the socket would stay readable, and waiting for more would be a busy loop.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::roster::{Order, Stage};
use super::stream::ClientStream;
use super::{Client, Next};
use crate::drain::Phase;
use crate::metrics::End;
use crate::proxy_protocol::{Header, Invalid, Parser};

/// Peeked at a time: more than most headers have.
const PEEK: usize = 256;

/// What came of the header.
enum Outcome {
    Whole(Header),
    Bad(Invalid),
    /// The client closed or reset the connection before the end of the header.
    Gone,
    Ordered(Order),
}

/// Reads the header. What is without one is reset: an answer could only mislead who speaks another protocol.
pub(super) async fn read(client: &Client, stream: ClientStream) -> Next {
    let seat = &client.member.seat;
    seat.enter(Stage::ProxyHeader, seat.accepted);
    let mut parser = Parser::default();
    let outcome = poll_fn(|cx| {
        seat.register(cx.waker());
        if let Poll::Ready(outcome) = poll_header(&mut parser, stream.tcp(), cx) {
            return Poll::Ready(outcome);
        }
        match seat.take_order() {
            // The kernel may hold what the runtime has not been told of yet. The order comes again.
            Some(order) if order == Order::Cut || !stream.has_bytes() => Poll::Ready(Outcome::Ordered(order)),
            _ => Poll::Pending,
        }
    })
    .await;
    let why: &dyn std::fmt::Display = match &outcome {
        Outcome::Whole(header) => {
            // A drain must not close it before its request had the time to come.
            client.exchange.heard(Instant::now());
            return client.introduce(stream, header.ends);
        }
        // Nothing was said: a probe of the port, or the drain's end.
        Outcome::Gone if !parser.has_begun() => return Next::Closed,
        Outcome::Ordered(Order::Close | Order::Cut | Order::HeadCutShort) if !parser.has_begun() => {
            client.member.ends(End::ClosedIdle);
            stream.abort();
            return Next::Closed;
        }
        Outcome::Bad(invalid) => invalid,
        Outcome::Gone => &"the connection ended in the middle of it",
        Outcome::Ordered(_) => &"it did not come in time",
    };
    tracing::debug!(client = %client.caller.addr(), %why, "a connection without a PROXY protocol header");
    client.member.shard.proxy_protocol_errors.inc();
    if matches!(outcome, Outcome::Ordered(_)) && client.member.view().phase() != Phase::Serving {
        client.member.ends(End::Cut);
    }
    stream.abort();
    Next::Closed
}

/// Takes out what is here of the header.
fn poll_header(parser: &mut Parser, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<Outcome> {
    loop {
        let mut room = [0; PEEK];
        let mut peeked = ReadBuf::new(&mut room);
        match ready!(stream.poll_peek(cx, &mut peeked)) {
            Ok(0) | Err(_) => return Poll::Ready(Outcome::Gone),
            Ok(_) => {}
        }
        let (taken, header) = match parser.feed(peeked.filled()) {
            Ok(fed) => fed,
            Err(invalid) => return Poll::Ready(Outcome::Bad(invalid)),
        };
        // They were there a moment ago, and nobody else reads.
        if !stream.try_read(&mut room[..taken]).is_ok_and(|n| n == taken) {
            return Poll::Ready(Outcome::Gone);
        }
        if let Some(header) = header {
            return Poll::Ready(Outcome::Whole(header));
        }
    }
}
