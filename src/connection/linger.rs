//! The lingering close (RFC 9112, section 9.6): FIN, then read and discard until the client closes.
//!
//! Closing a socket with unread bytes sends a RST, and that can erase the last response before the client has
//! read it.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Duration, Instant};

use super::peer::Presence;
use super::roster::{Member, Order, Stage};
use super::stream::ClientStream;
use crate::drain::Phase;
use crate::metrics::End;
use crate::sys;

/// A client from which nothing comes for this long, and which has taken all that we sent, is not waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// A client that goes on sending is listened to for this long (nginx's `lingering_time`).
const TOTAL: Duration = Duration::from_secs(30);

/// Our FIN counts as one byte, and whether that is acknowledged does not matter.
const FIN: i32 = 1;

/// After the last response.
pub(super) async fn after_response(member: &Member, stream: ClientStream) {
    linger(member, stream, || {}).await;
}

/// After the connection was idle: bytes that still come are a request that crossed our FIN on the wire.
pub(super) async fn after_idle(member: &Member, stream: ClientStream) {
    let mut counted = member.view().phase() == Phase::Serving;
    linger(member, stream, || {
        if !std::mem::replace(&mut counted, true) {
            member.shard.raced.inc();
        }
    })
    .await;
}

async fn linger(member: &Member, mut stream: ClientStream, mut more: impl FnMut()) {
    let start = Instant::now();
    member.seat.enter(Stage::Lingering, start);
    let (mut heard, mut said, mut ended) = (start, false, false);
    poll_fn(|cx| {
        member.seat.register(cx.waker());
        // TLS has something to say before the FIN, and the client may not take it.
        if !said {
            match Pin::new(&mut stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => said = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        while !ended {
            match stream.poll_discard(cx) {
                Poll::Ready(Ok(true)) => {
                    more();
                    heard = Instant::now();
                }
                Poll::Ready(Ok(false)) => ended = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        // What the client has not acknowledged would be lost with the process, or with a RST.
        let order = member.seat.take_order();
        if order.is_some() && member.seat.peer.look(stream.as_fd(), Instant::now()) != Presence::There {
            return Poll::Ready(());
        }
        let untaken = (ended || order.is_some()) && (!said || sys::unacknowledged(stream.as_fd()) > FIN);
        let over = match order {
            Some(Order::Cut) => {
                if untaken {
                    member.ends(End::Cut);
                }
                true
            }
            Some(_) if untaken => {
                heard = Instant::now();
                member.view().phase() == Phase::Serving && start.elapsed() >= TOTAL
            }
            Some(_) => ended || heard.elapsed() >= SILENCE || start.elapsed() >= TOTAL,
            None => ended && !untaken,
        };
        if over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// FIN, then reads until the client closes, without a bound of its own.
pub(super) async fn discard(stream: &mut ClientStream) -> io::Result<()> {
    stream.shutdown().await?;
    while poll_fn(|cx| stream.poll_discard(cx)).await? {}
    Ok(())
}
