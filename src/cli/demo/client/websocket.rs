//! A WebSocket that sends messages and gets them back.
//!
//! Who is told to go by a Close frame says so too and connects anew: nothing is lost. A connection that ends in any
//! other way (browsers call it 1006) is a failure, and so is a message that does not come back as it was.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::frames::{ACCEPT, Frame, KEY, Opcode, Socket};
use super::{ANSWER_TIMEOUT, Caller, Failure, Stop, told};

/// We have done what we came for.
const NORMAL: u16 = 1000;
/// The reasons of a server that goes away: normal, going away, service restart, try again later.
const FAREWELLS: [u16; 4] = [NORMAL, 1001, 1012, 1013];

/// A head is not longer than this.
const MAX_HEAD: usize = 16 * 1024;

/// Has one connection after the other.
#[derive(Debug)]
pub(in super::super) struct Client {
    pub(super) caller: Caller,
}

/// How a conversation goes on.
enum Next {
    /// The message is back.
    Echoed,
    /// The server has sent Close, and has got ours.
    Closed,
}

impl Client {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller }
    }

    /// Connects and talks until the user leaves, or the server wants to.
    pub(super) async fn talk(&mut self, stop: &mut Stop) -> io::Result<Result<(), Failure>> {
        let (endpoint, stream) = match self.caller.connect().await? {
            Ok(connected) => connected,
            Err(failure) => return Ok(Err(failure)),
        };
        let opened = timeout(ANSWER_TIMEOUT, open(endpoint, stream)).await;
        Ok(match opened.unwrap_or(Err(Failure::Error)) {
            Ok(socket) => self.converse(socket, stop).await,
            Err(failure) => Err(failure),
        })
    }

    async fn converse(&mut self, mut socket: Socket<TcpStream>, stop: &mut Stop) -> Result<(), Failure> {
        let leave = Instant::now() + self.caller.stay();
        loop {
            let pause = Duration::from_millis(self.caller.rng.u64(20..=120));
            let frame = tokio::select! {
                frame = socket.read() => Some(frame.map_err(broken)?),
                () = sleep(pause) => None,
                () = sleep_until(leave) => return say_goodbye(socket).await,
                () = told(stop) => return say_goodbye(socket).await,
            };
            match frame.map(|frame| (frame.opcode, frame)) {
                None => {}
                Some((Opcode::Ping | Opcode::Pong, _)) => continue,
                Some((Opcode::Close, close)) => {
                    answer_close(&mut socket, &close).await?;
                    finish(socket).await;
                    return Ok(());
                }
                // Nobody asked for it.
                Some(_) => return Err(Failure::Error),
            }
            let length = self.caller.rng.usize(1..=20_000);
            let first = self.caller.rng.u8(..);
            let message: Bytes = (0..length).map(|i| first.wrapping_add((i % 251) as u8)).collect();
            let answer = timeout(ANSWER_TIMEOUT, echoed(&mut socket, message)).await;
            match answer.unwrap_or(Err(Failure::Error))? {
                Next::Echoed => {}
                Next::Closed => {
                    finish(socket).await;
                    return Ok(());
                }
            }
        }
    }
}

/// The handshake.
async fn open(endpoint: SocketAddr, mut stream: TcpStream) -> Result<Socket<TcpStream>, Failure> {
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {endpoint}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|_| Failure::Reset)?;
    let mut read = BytesMut::new();
    let head = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break read.split_to(end + 4);
        }
        let begun = if read.is_empty() { Failure::Reset } else { Failure::Cut };
        if read.len() > MAX_HEAD || stream.read_buf(&mut read).await.map_err(|_| begun)? == 0 {
            return Err(begun);
        }
    };
    let head = String::from_utf8_lossy(&head);
    if head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT) {
        Ok(Socket::client(stream, read))
    } else {
        Err(Failure::Error)
    }
}

/// Sends a message in two frames and waits until it is back.
async fn echoed(socket: &mut Socket<TcpStream>, message: Bytes) -> Result<Next, Failure> {
    let (first, rest) = message.split_at(message.len() / 3);
    for (fin, opcode, part) in [(false, Opcode::Binary, first), (true, Opcode::Continuation, rest)] {
        let frame = Frame { fin, opcode, payload: message.slice_ref(part) };
        // The server's Close may be here already, and then it takes no more.
        if socket.write(&frame).await.is_err() {
            break;
        }
    }
    let mut back = BytesMut::with_capacity(message.len());
    loop {
        let frame = socket.read().await.map_err(broken)?;
        match frame.opcode {
            Opcode::Close => return answer_close(socket, &frame).await.map(|()| Next::Closed),
            Opcode::Ping | Opcode::Pong => continue,
            Opcode::Binary | Opcode::Continuation => back.extend_from_slice(&frame.payload),
        }
        if frame.fin {
            return if back == message { Ok(Next::Echoed) } else { Err(Failure::Error) };
        }
    }
}

/// Says goodbye to a server that does.
async fn answer_close(socket: &mut Socket<TcpStream>, close: &Frame) -> Result<(), Failure> {
    if !close.close_code().is_none_or(|code| FAREWELLS.contains(&code)) {
        return Err(Failure::Error);
    }
    socket.write(close).await.map_err(broken)
}

/// Says goodbye, and waits until the server does.
async fn say_goodbye(mut socket: Socket<TcpStream>) -> Result<(), Failure> {
    let goodbye = async {
        socket.write(&Frame::close(NORMAL)).await.map_err(broken)?;
        while socket.read().await.map_err(broken)?.opcode != Opcode::Close {}
        Ok(())
    };
    timeout(ANSWER_TIMEOUT, goodbye).await.unwrap_or(Err(Failure::Error))?;
    finish(socket).await;
    Ok(())
}

/// The server closes the connection after the handshake; if it does not, that is no loss.
async fn finish(socket: Socket<TcpStream>) {
    let _ = timeout(ANSWER_TIMEOUT, socket.finish()).await;
}

/// The connection ended without a Close frame, or no WebSocket came over it.
fn broken(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData { Failure::Error } else { Failure::Cut }
}

#[cfg(test)]
mod tests;
