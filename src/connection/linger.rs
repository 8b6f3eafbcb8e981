//! The lingering close (RFC 9112, section 9.6): FIN, then read and discard until the client closes.
//!
//! Closing a socket with unread bytes sends a RST, and that can erase the last response before the client has
//! read it.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};

use super::roster::{Member, Order, Stage};
use crate::drain::Phase;

/// A client that goes on sending is listened to for this long (nginx's `lingering_time`).
const TOTAL: Duration = Duration::from_secs(30);

/// After the last response.
pub(super) async fn after_response(member: &Member, stream: TcpStream) {
    linger(member, stream, || {}).await;
}

/// After the connection was idle: bytes that still come are a request that crossed our FIN on the wire.
pub(super) async fn after_idle(member: &Member, stream: TcpStream) {
    let mut counted = member.view().phase() == Phase::Serving;
    linger(member, stream, || {
        if !std::mem::replace(&mut counted, true) {
            member.shard.raced.inc();
        }
    })
    .await;
}

async fn linger(member: &Member, mut stream: TcpStream, mut more: impl FnMut()) {
    let start = Instant::now();
    member.seat.enter(Stage::Lingering, start);
    if stream.shutdown().await.is_err() {
        return;
    }
    poll_fn(|cx| {
        member.seat.register(cx.waker());
        loop {
            if member.seat.take_order() == Some(Order::Cut) {
                return Poll::Ready(());
            }
            match poll_discard(&stream, cx) {
                Poll::Ready(Ok(true)) => {
                    more();
                    let now = Instant::now();
                    if now - start >= TOTAL {
                        return Poll::Ready(());
                    }
                    member.seat.enter(Stage::Lingering, now);
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// FIN, then reads until the client closes, without a bound of its own.
pub(super) async fn discard(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    while poll_fn(|cx| poll_discard(stream, cx)).await? {}
    Ok(())
}

/// Reads and forgets; false at the end.
fn poll_discard(stream: &TcpStream, cx: &mut std::task::Context<'_>) -> Poll<io::Result<bool>> {
    let mut scratch = [0; 4096];
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_read(&mut scratch) {
            Ok(n) => return Poll::Ready(Ok(n > 0)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
