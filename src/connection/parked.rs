//! Parked: an idle connection of which only the socket is kept.

use std::future::poll_fn;
use std::task::Poll;

use super::roster::{Order, Seat};
use super::stream::ClientStream;

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
pub(super) async fn wait(seat: &Seat, stream: &ClientStream) -> Wake {
    poll_fn(|cx| {
        seat.register(cx.waker());
        if stream.poll_readable(cx).is_ready() {
            return Poll::Ready(Wake::Readable);
        }
        match seat.take_order() {
            // The kernel may hold a request that the runtime has not been told of yet: closing would lose it.
            Some(Order::Close) if stream.has_bytes() => Poll::Ready(Wake::Readable),
            Some(Order::Close) => Poll::Ready(Wake::Close),
            Some(Order::Cut) => Poll::Ready(Wake::Cut),
            _ => Poll::Pending,
        }
    })
    .await
}
