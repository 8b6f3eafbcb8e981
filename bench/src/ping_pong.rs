//! Small messages over TCP that come back, one at a time on each connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Failure, connect};
use crate::origin::pattern;
use crate::session::{Running, Session};

/// Bytes in a message.
const MESSAGE: usize = 64;

/// Round trips so far.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// Their number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts connections to an address that must lead to [`Origin::tcp_addr`](crate::Origin::tcp_addr). Each of them counts
/// as one request of the load.
pub fn start(addr: SocketAddr, connections: usize) -> (Running, Count) {
    let (mut running, count) = (Running::new(), Count::default());
    for id in 0..connections {
        let count = count.clone();
        running.spawn(|mut session| async move {
            if let Some(stream) = session.connected(connect(addr)).await {
                let end = play(&session, stream, id as u64, &count).await;
                session.record(end);
            }
            session.tally
        });
    }
    (running, count)
}

async fn play(session: &Session, mut stream: TcpStream, id: u64, count: &Count) -> Result<(), Failure> {
    let ping = pattern(id, MESSAGE);
    let mut pong = [0; MESSAGE];
    while !session.stopped() {
        stream.write_all(&ping).await.map_err(|_| Failure::Cut)?;
        stream.read_exact(&mut pong).await.map_err(|_| Failure::Cut)?;
        if pong != ping[..] {
            return Err(Failure::Bad);
        }
        count.0.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
