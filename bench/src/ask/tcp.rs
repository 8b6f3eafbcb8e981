//! Small messages over TCP that come back.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answered, Ask};
use crate::client::{Failure, connect};
use crate::origin::pattern;

/// A client.
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
    ping: Bytes,
    pong: Vec<u8>,
}

impl Tcp {
    /// So many, with messages of this size, at an address that leads to [`Origin::tcp_addr`](crate::Origin::tcp_addr).
    ///
    /// # Errors
    /// When there is no connection to be had.
    pub async fn clients(addr: SocketAddr, size: usize, count: usize) -> Result<Vec<Self>, Failure> {
        let mut clients = Vec::with_capacity(count);
        for seed in 0..count {
            let (stream, ping) = (connect(addr).await?, pattern(seed as u64, size));
            clients.push(Self { stream, ping, pong: vec![0; size] });
        }
        Ok(clients)
    }
}

impl Ask for Tcp {
    async fn ask(&mut self) -> Result<Answered, Failure> {
        self.stream.write_all(&self.ping).await.map_err(|_| Failure::Cut)?;
        self.stream.read_exact(&mut self.pong).await.map_err(|_| Failure::Cut)?;
        if self.pong != self.ping[..] {
            return Err(Failure::Bad);
        }
        Ok(Answered { answers: 1, bytes: self.pong.len() as u64 })
    }
}
