//! WebSocket messages that come back.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::{Answered, Ask};
use crate::client::{Failure, connect};
use crate::frames::{Frame, Opcode, Socket};
use crate::mix::websocket::open;
use crate::origin::pattern;

/// A client.
#[derive(Debug)]
pub struct WebSocket {
    socket: Socket<TcpStream>,
    message: Frame,
}

impl WebSocket {
    /// So many, with messages of this size in one frame.
    ///
    /// # Errors
    /// When there is no connection to be had, or the app does not switch protocols.
    pub async fn clients(addr: SocketAddr, size: usize, count: usize) -> Result<Vec<Self>, Failure> {
        let mut clients = Vec::with_capacity(count);
        for seed in 0..count {
            let socket = open(addr, connect(addr).await?).await?;
            let payload = pattern(seed as u64, size);
            clients.push(Self { socket, message: Frame { fin: true, opcode: Opcode::Binary, payload } });
        }
        Ok(clients)
    }
}

impl Ask for WebSocket {
    async fn ask(&mut self) -> Result<Answered, Failure> {
        self.socket.write(&self.message).await.map_err(|_| Failure::Cut)?;
        let frame = self.socket.read().await.map_err(|_| Failure::Cut)?;
        if frame != self.message {
            return Err(Failure::Bad);
        }
        Ok(Answered { answers: 1, bytes: frame.payload.len() as u64 })
    }
}
