//! After a 101: bytes in both directions that are not ours to understand.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::roster::{Member, Order, Seat, Stage};
use crate::metrics::{End, Shard};
use crate::upstream::Stream;

/// Read at a time, in each direction.
const BUFFER: usize = 16 << 10;

/// The two sides, and what was read past the heads.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) client: TcpStream,
    pub(super) from_client: Bytes,
    pub(super) app: Stream,
    pub(super) from_app: Bytes,
}

impl Tunnel {
    /// Copies until both sides have ended, each in its own time (half-close is passed on), or until the
    /// drain's deadline: then both get a FIN, and a moment later they are cut.
    pub(super) async fn run(mut self: Box<Self>, member: &Member) {
        member.seat.enter(Stage::Tunnel, Instant::now());
        let order = tokio::select! {
            biased;
            order = ordered(member) => order,
            _ = self.copy(member) => return,
        };
        member.ends(End::Cut);
        if order == Order::Close {
            let _ = tokio::join!(self.client.shutdown(), self.app.shutdown());
            let both_end = async { tokio::join!(run_dry(&mut self.client), run_dry(&mut self.app)) };
            tokio::select! {
                _ = both_end => {}
                _ = cut(member) => {}
            }
        }
    }

    async fn copy(&mut self, member: &Member) -> io::Result<()> {
        // What was read past the heads is small (hyper's buffer); the other side is not waited for.
        self.app.write_all(&std::mem::take(&mut self.from_client)).await?;
        self.client.write_all(&std::mem::take(&mut self.from_app)).await?;
        let mut app = AppSide::new(&mut self.app, &member.seat, &member.shard);
        copy_bidirectional_with_sizes(&mut self.client, &mut app, BUFFER, BUFFER).await?;
        Ok(())
    }
}

/// The app's side of a tunnel: notes when it ends.
struct AppSide<'a> {
    stream: &'a mut Stream,
    seat: &'a Seat,
    /// Counts the connection as in use while the app has not ended it.
    counted: Option<&'a Arc<Shard>>,
}

impl<'a> AppSide<'a> {
    fn new(stream: &'a mut Stream, seat: &'a Seat, shard: &'a Arc<Shard>) -> Self {
        shard.upstream_active.add(1);
        Self { stream, seat, counted: Some(shard) }
    }

    fn ended(&mut self) {
        if let Some(shard) = self.counted.take() {
            shard.upstream_active.add(-1);
            self.seat.enter(Stage::HalfTunnel, Instant::now());
        }
    }
}

impl Drop for AppSide<'_> {
    fn drop(&mut self) {
        self.ended();
    }
}

impl AsyncRead for AppSide<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut *self.stream).poll_read(cx, buf));
        if buf.filled().len() == before {
            self.ended();
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for AppSide<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

async fn run_dry(stream: &mut (impl AsyncRead + Unpin)) {
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await.is_ok_and(|n| n > 0) {}
}

async fn cut(member: &Member) {
    while ordered(member).await != Order::Cut {}
}

async fn ordered(member: &Member) -> Order {
    poll_fn(|cx| {
        member.seat.register(cx.waker());
        member.seat.take_order().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
