//! WebSockets with messages of random size that come back; each message is known to its last byte.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::client::{Failure, RESPONSE_TIMEOUT, connect};
use crate::frames::{ACCEPT, Frame, KEY, Opcode, Socket};
use crate::origin::pattern;
use crate::session::Session;
use crate::tally::Tally;

/// How a burst of messages went.
enum Next {
    /// All of them are back; this many.
    Echoed(u64),
    /// The server has sent Close, and has got ours. Before that, this many came back.
    Closed(u64),
}

/// One connection after the other, each until the server says goodbye.
pub(super) async fn client(mut session: Session, addr: SocketAddr, id: u64) -> Tally {
    let mut seed = id << 32;
    while !session.stopped() {
        let Some(stream) = session.connected(connect(addr)).await else { continue };
        let opened = timeout(RESPONSE_TIMEOUT, open(addr, stream)).await;
        match opened.unwrap_or(Err(Failure::Stuck)) {
            Ok(socket) => {
                if let Err(failure) = talk(&mut session, socket, &mut seed).await {
                    session.record(Err(failure));
                }
            }
            Err(failure) => session.record(Err(failure)),
        }
    }
    session.tally
}

/// Sends bursts of messages until the server or the load comes to an end.
async fn talk(session: &mut Session, mut socket: Socket<TcpStream>, seed: &mut u64) -> Result<(), Failure> {
    let in_time = |done: Result<Result<Next, Failure>, _>| done.unwrap_or(Err(Failure::Stuck));
    while !session.stopped() {
        let (back, closed) = match in_time(timeout(RESPONSE_TIMEOUT, burst(&mut socket, seed)).await)? {
            Next::Echoed(back) => (back, false),
            Next::Closed(back) => (back, true),
        };
        (0..back).for_each(|_| session.record(Ok(())));
        if closed {
            session.tally.told += 1;
            return finished(socket).await;
        }
        tokio::select! {
            () = sleep(Duration::from_millis(fastrand::u64(..60))) => {}
            frame = socket.read() => {
                answer_close(&mut socket, &frame.map_err(|_| Failure::Cut)?).await?;
                session.tally.told += 1;
                return finished(socket).await;
            }
        }
    }
    socket.write(&Frame::close(1000)).await.map_err(|_| Failure::Cut)?;
    let closed = async {
        while socket.read().await?.opcode != Opcode::Close {}
        std::io::Result::Ok(())
    };
    timeout(RESPONSE_TIMEOUT, closed).await.map_err(|_| Failure::Stuck)?.map_err(|_| Failure::Cut)
}

/// Sends up to four messages, some in two frames, and waits until all are back.
async fn burst(socket: &mut Socket<TcpStream>, seed: &mut u64) -> Result<Next, Failure> {
    let mut sent = Vec::new();
    for _ in 0..fastrand::u8(1..=4) {
        *seed += 1;
        // Of every magnitude: frames have headers of three sizes.
        let length = fastrand::usize(..=1 << fastrand::u8(0..=16));
        let message = pattern(*seed, length);
        let (first, rest) = message.split_at(if fastrand::bool() { length } else { length / 3 });
        let fin = rest.is_empty();
        let first = Frame { fin, opcode: Opcode::Binary, payload: message.slice_ref(first) };
        let rest = Frame { fin: true, opcode: Opcode::Continuation, payload: message.slice_ref(rest) };
        let frames = [first, rest];
        for frame in &frames[..if fin { 1 } else { 2 }] {
            // Once it has said goodbye, the server need not take any more; its Close is there to be read.
            let _ = socket.write(frame).await;
        }
        sent.push(message);
    }
    let mut back = BytesMut::new();
    let mut seen = 0;
    while let Some(expected) = sent.get(seen) {
        let frame = socket.read().await.map_err(broken)?;
        match frame.opcode {
            Opcode::Ping | Opcode::Pong => return Err(Failure::Bad),
            Opcode::Close => {
                answer_close(socket, &frame).await?;
                return Ok(Next::Closed(seen as u64));
            }
            Opcode::Binary | Opcode::Continuation => back.extend_from_slice(&frame.payload),
        }
        if !expected.starts_with(&back) || (frame.fin && back.len() != expected.len()) {
            return Err(Failure::Bad);
        }
        if frame.fin {
            seen += 1;
            back.clear();
        }
    }
    Ok(Next::Echoed(seen as u64))
}

async fn answer_close(socket: &mut Socket<TcpStream>, frame: &Frame) -> Result<(), Failure> {
    if frame.opcode != Opcode::Close || frame.close_code() != Some(1001) {
        return Err(Failure::Bad);
    }
    socket.write(frame).await.map_err(broken)
}

/// Nothing may come behind a Close but the end.
async fn finished(mut socket: Socket<TcpStream>) -> Result<(), Failure> {
    match timeout(RESPONSE_TIMEOUT, socket.read()).await {
        Err(_) => Err(Failure::Stuck),
        Ok(Ok(_)) => Err(Failure::Bad),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => Err(Failure::Bad),
        Ok(Err(_)) => Ok(()),
    }
}

/// What is no WebSocket is damaged.
fn broken(error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::InvalidData { Failure::Bad } else { Failure::Cut }
}

/// The handshake.
pub(crate) async fn open(addr: SocketAddr, mut stream: TcpStream) -> Result<Socket<TcpStream>, Failure> {
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|_| Failure::LostFresh)?;
    let mut read = BytesMut::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = read.split_to(end + 4);
            let head = String::from_utf8_lossy(&head);
            let switched = head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT);
            return if switched { Ok(Socket::client(stream, read)) } else { Err(Failure::Bad) };
        }
        let lost = if read.is_empty() { Failure::LostFresh } else { Failure::Cut };
        if stream.read_buf(&mut read).await.map_err(|_| lost)? == 0 {
            return Err(lost);
        }
    }
}
