//! The app's WebSockets: each message is sent back, frame by frame.

use std::io;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::is_pattern;
use crate::frames::{Opcode, Socket};

/// Sends everything back until the client says goodbye; false when it never did, or when a message was damaged.
pub(super) async fn echo(stream: TcpStream) -> bool {
    let mut socket = Socket::server(stream);
    let sound = echo_all(&mut socket).await;
    let _ = socket.finish().await;
    sound.unwrap_or(false)
}

async fn echo_all(socket: &mut Socket<TcpStream>) -> io::Result<bool> {
    let mut message = BytesMut::new();
    loop {
        let frame = socket.read().await?;
        match frame.opcode {
            Opcode::Close => {
                socket.write(&frame).await?;
                return Ok(true);
            }
            Opcode::Ping | Opcode::Pong => return Ok(false),
            Opcode::Binary | Opcode::Continuation => message.extend_from_slice(&frame.payload),
        }
        if frame.fin && !is_pattern(&message.split()) {
            return Ok(false);
        }
        // A client that has been told to go does not listen any more, but still says goodbye.
        let _ = socket.write(&frame).await;
    }
}
