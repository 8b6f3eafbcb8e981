//! Conversations over TCP: some blocks of bytes, each of which comes back, and an end of ours that is answered with theirs.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::client::{Failure, RESPONSE_TIMEOUT, connect};
use crate::origin::pattern;
use crate::session::Session;
use crate::tally::Tally;

/// One conversation after the other.
pub(super) async fn client(mut session: Session, addr: SocketAddr, id: u64) -> Tally {
    let mut seed = id << 32;
    while !session.stopped() {
        let Some(stream) = session.connected(connect(addr)).await else { continue };
        let end = timeout(RESPONSE_TIMEOUT, converse(stream, &mut seed)).await;
        session.record(end.unwrap_or(Err(Failure::Stuck)));
    }
    session.tally
}

async fn converse(mut stream: TcpStream, seed: &mut u64) -> Result<(), Failure> {
    for block in 0..fastrand::u8(1..=10) {
        let lost = if block == 0 { Failure::LostFresh } else { Failure::Cut };
        *seed += 1;
        let sent = pattern(*seed, fastrand::usize(1..=30_000));
        let mut back = vec![0; sent.len()];
        // At the same time, or both sides' buffers could be full.
        let (mut read, mut write) = stream.split();
        let (written, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut back));
        written.map_err(|_| lost)?;
        read.map_err(|_| lost)?;
        if back != sent {
            return Err(Failure::Bad);
        }
        sleep(Duration::from_millis(fastrand::u64(..20))).await;
    }
    stream.shutdown().await.map_err(|_| Failure::Cut)?;
    match stream.read(&mut [0]).await {
        Ok(0) => Ok(()),
        Ok(_) => Err(Failure::Bad),
        Err(_) => Err(Failure::Cut),
    }
}
