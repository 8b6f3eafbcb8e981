//! Parked: an idle connection of which only the socket is kept.

use std::task::{Context, Poll};

use super::roster::{Order, Stage};
use super::stream::ClientStream;
use super::{Client, tls};

/// Why a parked connection moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// There is something to read, or the client has closed.
    Readable,
    /// It was idle too long, or has to go.
    Close,
    /// What has begun to come takes too long.
    TooSlow(Order),
    /// It has to go at once.
    Cut,
}

/// Waits for the next byte or an order.
pub(super) fn poll(client: &Client, stream: &mut ClientStream, cx: &mut Context<'_>) -> Poll<Wake> {
    let seat = &client.member.seat;
    seat.register(cx.waker());
    if stream.poll_readable(cx).is_ready() {
        return Poll::Ready(Wake::Readable);
    }
    tls::note_partial(client, stream);
    let order = seat.take_order();
    if seat.stage.get() == Stage::Head {
        return match order {
            Some(order @ (Order::HeadTimeout | Order::HeadCutShort | Order::Close | Order::Cut)) => {
                Poll::Ready(Wake::TooSlow(order))
            }
            _ => Poll::Pending,
        };
    }
    match order {
        // The kernel may hold a request that the runtime has not been told of yet: closing would lose it.
        Some(Order::Close) if stream.has_bytes() => Poll::Ready(Wake::Readable),
        Some(Order::Close) if stream.mid_record() => {
            tls::note_partial(client, stream);
            Poll::Pending
        }
        Some(Order::Close) => Poll::Ready(Wake::Close),
        Some(Order::Cut) => Poll::Ready(Wake::Cut),
        _ => Poll::Pending,
    }
}
