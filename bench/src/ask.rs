//! Clients that ask the same thing again and again, and cost little themselves: on a small machine the load takes from
//! the same processors as the proxy. What a request is made of is made once; each answer is still compared to its last byte.
//!
//! The clients that look at the *ends* of connections are in [`load`](crate::load) and [`mix`](crate::mix).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Failure, RESPONSE_TIMEOUT};

mod http1;
mod http2;
mod tcp;
mod websocket;

pub use http1::{Http1, Http1Options};
pub use http2::{Http2, What};
pub use tcp::Tcp;
pub use websocket::WebSocket;

/// Longer than any answer takes when nothing is wrong.
pub const PATIENCE: Duration = RESPONSE_TIMEOUT;

/// One client.
pub trait Ask: Send + 'static {
    /// Asks, and reads and checks the answer.
    fn ask(&mut self) -> impl Future<Output = Result<Answered, Failure>> + Send;
}

/// What came of asking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Answers; more than one when a stream of messages was asked for.
    pub answers: u64,
    /// Bytes of bodies, whichever way they went.
    pub bytes: u64,
}

/// What all clients of a load have been answered so far.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<(AtomicU64, AtomicU64)>);

impl Count {
    /// The sums.
    #[must_use]
    pub fn get(&self) -> Answered {
        let (answers, bytes) = &*self.0;
        Answered { answers: answers.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }

    pub(crate) fn add(&self, answered: Answered) {
        self.0.0.fetch_add(answered.answers, Ordering::Relaxed);
        self.0.1.fetch_add(answered.bytes, Ordering::Relaxed);
    }
}

/// Clients that each ask again as soon as they are answered. Dropping it ends them.
#[must_use]
pub struct Asking {
    clients: JoinSet<Result<(), Failure>>,
    stop: Arc<AtomicBool>,
    count: Count,
}

impl Asking {
    /// Sets them off as tasks of the current runtime.
    pub fn start<A: Ask>(clients: impl IntoIterator<Item = A>) -> Self {
        let mut asking = Self { clients: JoinSet::new(), stop: Arc::default(), count: Count::default() };
        for mut client in clients {
            let (stop, count) = (Arc::clone(&asking.stop), asking.count.clone());
            asking.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    count.add(client.ask().await?);
                }
                Ok(())
            });
        }
        asking
    }

    /// What they count.
    #[must_use]
    pub fn count(&self) -> Count {
        self.count.clone()
    }

    /// Lets each have the answer that it waits for.
    ///
    /// # Errors
    /// When one of them was not answered as it should be, now or before.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let all = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.map_err(|_| Failure::Bad)??;
            }
            Ok(())
        };
        timeout(PATIENCE, all).await.unwrap_or(Err(Failure::Stuck))
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
