//! After a 101: bytes in both directions that are not ours to understand.
//!
//! Each direction lives and ends by itself. A half-close is passed on; when one side does not take any more, what
//! it has said before is still delivered to the other.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::Instant;

use super::Next;
use super::roster::{Member, Order, Stage};
use super::stream::ClientStream;
use crate::metrics::End;
use crate::upstream::Stream;

/// Read at a time, in each direction.
const BUFFER: usize = 16 << 10;

/// The two sides, and what was read past the heads.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) client: ClientStream,
    pub(super) from_client: Bytes,
    pub(super) app: Stream,
    pub(super) from_app: Bytes,
}

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    /// Its source has said all, and its target has got all.
    Done,
    /// Its source is gone.
    SourceGone,
    /// Its target takes no more.
    TargetGone,
}

impl Tunnel {
    /// Copies until both directions have ended, or until the drain's deadline: then both sides get a FIN, and a
    /// moment later they are cut.
    pub(super) async fn run(mut self: Box<Self>, member: &Member) -> Next {
        member.seat.enter(Stage::Tunnel, Instant::now());
        let order = tokio::select! {
            biased;
            order = ordered(member) => order,
            half = self.copy(member) => return match half {
                Half::Done => Next::Linger(self.client),
                // The app's connection broke off: a FIN would make that look like an end.
                Half::SourceGone | Half::TargetGone => {
                    self.client.abort();
                    Next::Closed
                }
            },
        };
        if order == Order::Close && !member.view().ended() {
            // The app has ended its side a while ago, and the client says nothing more.
            return Next::Linger(self.client);
        }
        member.ends(End::Cut);
        if order == Order::Close {
            let _ = tokio::join!(self.client.shutdown(), self.app.shutdown());
            let both_end = async { tokio::join!(run_dry(&mut self.client), run_dry(&mut self.app)) };
            tokio::select! {
                _ = both_end => {}
                () = cut(member) => {}
            }
        }
        Next::Closed
    }

    /// Returns how the app's direction ended.
    async fn copy(&mut self, member: &Member) -> Half {
        let (from_client, from_app) =
            (std::mem::take(&mut self.from_client), std::mem::take(&mut self.from_app));
        let (mut client_read, mut client_write) = split(&mut self.client);
        let (mut app_read, mut app_write) = split(&mut self.app);
        let in_use = InUse::new(member);
        let (deaf, silent) = (Cell::new(false), Cell::new(false));
        let up = async {
            // Once the app has ended its side, a drain lets the client go when it is silent.
            let heard = || {
                if silent.get() {
                    member.seat.since.set(Instant::now());
                }
            };
            let half = copy_half(&from_client, &mut client_read, &mut app_write, heard).await;
            match half {
                Half::Done => drop(app_write.shutdown().await),
                // What the client still says goes nowhere; but it is read, so that the app's last words reach it.
                // After those, lingering does the same, for a bounded time.
                Half::TargetGone if !silent.get() => {
                    deaf.set(true);
                    run_dry(&mut client_read).await;
                }
                Half::TargetGone | Half::SourceGone => {}
            }
            half
        };
        let down = async {
            let half = copy_half(&from_app, &mut app_read, &mut client_write, || {}).await;
            silent.set(true);
            drop(in_use);
            if half == Half::Done {
                member.seat.enter(Stage::HalfTunnel, Instant::now());
                drop(client_write.shutdown().await);
            }
            half
        };
        tokio::pin!(up, down);
        tokio::select! {
            // Without the client there is nobody to deliver to.
            half = &mut up => if half == Half::SourceGone { half } else { down.await },
            half = &mut down => {
                if half == Half::Done && !deaf.get() {
                    up.await;
                }
                half
            }
        }
    }
}

/// Counts the connection to the app as in use while the app has not ended it.
struct InUse<'a>(&'a Member);

impl<'a> InUse<'a> {
    fn new(member: &'a Member) -> Self {
        member.shard.upstream_active.add(1);
        Self(member)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.shard.upstream_active.add(-1);
    }
}

async fn copy_half(
    first: &[u8],
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    heard: impl Fn(),
) -> Half {
    if to.write_all(first).await.is_err() {
        return Half::TargetGone;
    }
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) => return Half::Done,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Half::SourceGone,
        };
        heard();
        if to.write_all(&buffer[..n]).await.is_err() {
            return Half::TargetGone;
        }
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
