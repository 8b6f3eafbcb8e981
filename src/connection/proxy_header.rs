//! With `--accept-proxy` a connection begins with a PROXY protocol header, before TLS and before HTTP.
//!
//! The header is peeked at, and exactly its bytes are taken out: what follows stays in the kernel for whoever comes
//! next, be it TLS, HTTP or a tunnel. Bytes that are known to be the header's are taken out at once, also when more
//! must come: otherwise the socket would stay readable, and waiting for more would be a busy loop.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::Site;
use super::roster::{Member, Order, Stage};
use super::stream::ClientStream;
use crate::drain::Phase;
use crate::metrics::End;
use crate::proxy::Caller;
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

/// Reads the header, and hands the connection on to its site. What is without one is reset: an answer could only
/// mislead who speaks another protocol.
pub(super) async fn read(site: Rc<Site>, member: Member, caller: Rc<Caller>, stream: TcpStream) {
    let seat = &member.seat;
    seat.enter(Stage::ProxyHeader, seat.accepted);
    let mut parser = Parser::default();
    let outcome = poll_fn(|cx| {
        seat.register(cx.waker());
        if let Poll::Ready(outcome) = poll_header(&mut parser, &stream, cx) {
            return Poll::Ready(outcome);
        }
        match seat.take_order() {
            // The kernel may hold what the runtime has not been told of yet. The order comes again.
            Some(order) if order == Order::Cut || !has_bytes(&stream) => Poll::Ready(Outcome::Ordered(order)),
            _ => Poll::Pending,
        }
    })
    .await;
    let why: &dyn std::fmt::Display = match &outcome {
        Outcome::Whole(header) => {
            if site.introduce(&caller, &stream, header.ends) {
                site.begin(stream, member, caller);
            }
            return;
        }
        // Nothing was said: a probe of the port, or the drain's end.
        Outcome::Gone if !parser.has_begun() => return,
        Outcome::Ordered(Order::Close | Order::Cut | Order::HeadCutShort) if !parser.has_begun() => {
            member.ends(End::ClosedIdle);
            return ClientStream::Plain(stream).abort();
        }
        Outcome::Bad(invalid) => invalid,
        Outcome::Gone => &"the connection ended in the middle of it",
        Outcome::Ordered(_) => &"it did not come in time",
    };
    tracing::debug!(client = %caller.addr(), %why, "a connection without a PROXY protocol header");
    member.shard.proxy_protocol_errors.inc();
    if matches!(outcome, Outcome::Ordered(_)) && member.view().phase() != Phase::Serving {
        member.ends(End::Cut);
    }
    ClientStream::Plain(stream).abort();
}

fn has_bytes(stream: &TcpStream) -> bool {
    SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|n| n > 0)
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
