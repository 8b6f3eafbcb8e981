//! A connection to the app that one exchange has for itself, as a plain stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant};

use super::stream::{self, Stream};
use super::{Pool, failure_of};
use crate::metrics::UpstreamFailure;

/// A connection that has answered within this has not run into the app's idle time-out, so that nothing is about to come
/// that answers nobody. What else may have become of it shows when it is used.
const SURELY_QUIET: Duration = Duration::from_millis(100);

/// A connection in use. Dropping it closes the connection.
#[derive(Debug)]
pub struct Lease {
    stream: Stream,
    pooled: bool,
    active: Active,
}

impl Lease {
    /// A connection from the pool, if there is one. For a request that is `repeatable` the system is not asked whether a
    /// connection still stands that was used a moment ago: should the app have closed it, the request is sent again. What
    /// an app says beyond its response would be taken for the next one, so the runtime must not have heard of anything.
    pub fn checkout(pool: &Rc<Pool>, repeatable: bool, now: Instant) -> Option<Self> {
        let surely_quiet = |since| repeatable && now.saturating_duration_since(since) < SURELY_QUIET;
        let stream = pool.checkout_bare(surely_quiet, now)?;
        Some(Self { stream, pooled: true, active: Active::new(pool) })
    }

    /// A new connection.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(pool: Rc<Pool>) -> Result<Self, UpstreamFailure> {
        let connected = stream::connect(&pool.target, pool.config.connect_timeout, None).await;
        let stream = connected.map_err(|error| failure_of(&error))?;
        Ok(Self { stream, pooled: false, active: Active::new(&pool) })
    }

    /// Whether it has carried requests before, so that the app may have closed it meanwhile.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// Gives it back: the exchange on it is over, and nothing is left of it.
    pub fn give_back(self, now: Instant) {
        let pool = Rc::clone(&self.active.0);
        pool.put_bare(self.into_stream(), now);
    }

    /// The stream, which is not counted any more.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }
}

/// Counts a connection as in use.
#[derive(Debug)]
struct Active(Rc<Pool>);

impl Active {
    fn new(pool: &Rc<Pool>) -> Self {
        pool.shard.upstream_active.add(1);
        Self(Rc::clone(pool))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.shard.upstream_active.add(-1);
    }
}

impl AsyncRead for Lease {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Lease {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
