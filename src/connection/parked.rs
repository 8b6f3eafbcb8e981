//! Parked: an idle connection of which only the socket is kept.

use std::future::poll_fn;
use std::task::Poll;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::roster::{Order, Seat};

/// Why a parked connection moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// There is something to read, or the client has closed.
    Readable,
    /// It was idle too long, or has to go.
    Close,
    /// It has to go at once.
    Cut,
}

/// Waits for the next byte or an order.
pub(super) async fn wait(seat: &Seat, stream: &TcpStream) -> Wake {
    poll_fn(|cx| {
        seat.register(cx.waker());
        if stream.poll_read_ready(cx).is_ready() {
            return Poll::Ready(Wake::Readable);
        }
        match seat.take_order() {
            // The kernel may hold a request that the runtime has not been told of yet: closing would lose it.
            Some(Order::Close) if has_bytes(stream) => Poll::Ready(Wake::Readable),
            Some(Order::Close) => Poll::Ready(Wake::Close),
            Some(Order::Cut) => Poll::Ready(Wake::Cut),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Whether the kernel has bytes of this connection (a FIN is none). Takes nothing out.
pub(super) fn has_bytes(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    SockRef::from(stream).peek(&mut byte).is_ok_and(|n| n > 0)
}
