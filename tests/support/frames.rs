//! HTTP/2 frame by frame, for peers that do not keep to the protocol.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::within;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// The flags that matter: `END_STREAM` and `ACK` have the same bit.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The number at this place of the payload: a RST_STREAM's code (0), a GOAWAY's last stream (0) and code (4).
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// As it is on the wire.
    pub(crate) fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }
}

/// A connection.
pub(crate) struct Frames {
    pub(crate) tcp: TcpStream,
    unused: Vec<u8>,
}

impl Frames {
    /// Connects and says nothing.
    pub(crate) async fn silent(addr: SocketAddr) -> Self {
        let tcp = within("connecting", TcpStream::connect(addr)).await.expect("a connection");
        Self::over(tcp)
    }

    /// Takes a connection over.
    pub(crate) fn over(tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).expect("TCP_NODELAY");
        Self { tcp, unused: Vec::new() }
    }

    /// Connects and exchanges settings; ebb's have come and are acknowledged.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, &[]).await
    }

    /// The same with these settings.
    pub(crate) async fn connect_with(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self::silent(addr).await;
        frames.raw(PREFACE).await;
        frames.settings(settings).await;
        frames.until("ebb's settings", |frame| frame.kind == SETTINGS && frame.flags & ACK == 0).await;
        frames.send(SETTINGS, ACK, 0, &[]).await;
        frames.until("an answer to ours", |frame| frame.kind == SETTINGS && frame.flags & ACK != 0).await;
        frames
    }

    /// The app's end of a connection: takes the preface and exchanges settings.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        Self::accept_with(listener, &[]).await
    }

    /// The same with these settings.
    pub(crate) async fn accept_with(listener: &TcpListener, settings: &[(u16, u32)]) -> Self {
        let (tcp, _) = within("ebb to connect", listener.accept()).await.expect("to accept");
        let mut frames = Self::over(tcp);
        while frames.unused.len() < PREFACE.len() {
            assert!(frames.fill().await.expect("a preface") > 0, "an end instead of a preface");
        }
        assert!(frames.unused.starts_with(PREFACE), "no preface: {:?}", frames.unused);
        frames.unused.drain(..PREFACE.len());
        frames.settings(settings).await;
        frames
    }

    /// Sends these settings.
    pub(crate) async fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.send(SETTINGS, 0, 0, &payload).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        within("sending", self.tcp.write_all(bytes)).await.expect("to send");
    }

    /// Sends bytes as they are; false when the connection is over.
    pub(crate) async fn try_raw(&mut self, bytes: &[u8]) -> bool {
        within("sending", self.tcp.write_all(bytes)).await.is_ok()
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw(&Frame::bytes(kind, flags, stream, payload)).await;
    }

    /// Sends a GET.
    pub(crate) async fn get(&mut self, stream: u32, path: &str) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &head("GET", path, &[])).await;
    }

    /// The next frame; none at the end, whichever it is.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            match within("a frame", self.fill()).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads frames until one is wanted, and returns that.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut before = Vec::new();
        while let Some(frame) = within(what, self.next()).await {
            if wanted(&frame) {
                return frame;
            }
            before.push((frame.kind, frame.flags, frame.stream));
        }
        panic!("the connection ended before {what}; frames before that: {before:?}");
    }

    /// Reads until there is a frame of this kind on this stream.
    pub(crate) async fn frame(&mut self, kind: u8, stream: u32) -> Frame {
        let what = format!("a frame of kind {kind} on stream {stream}");
        self.until(&what, |frame| (frame.kind, frame.stream) == (kind, stream)).await
    }

    /// Reads to the end and returns the frames.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Forgets what has come so far, without waiting for more.
    pub(crate) fn discard_now(&self) {
        let mut block = [0; 64 << 10];
        while self.tcp.try_read(&mut block).is_ok_and(|n| n > 0) {}
    }

    fn parse(&mut self) -> Option<Frame> {
        let head = self.unused.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if self.unused.len() < 9 + length {
            return None;
        }
        let payload = self.unused[9..9 + length].to_vec();
        self.unused.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.tcp.read_buf(&mut self.unused).await
    }
}

/// A request's head, without compression.
pub(crate) fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", "app.test")]
    {
        field(&mut block, name, value);
    }
    fields.iter().for_each(|(name, value)| field(&mut block, name, value));
    block
}

/// Adds a field: a literal without indexing, with a new name (RFC 7541, section 6.2.2).
pub(crate) fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        length(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

fn length(block: &mut Vec<u8>, mut length: usize) {
    if length < 127 {
        block.push(u8::try_from(length).expect("below 127"));
        return;
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(u8::try_from(length % 128).expect("below 128") | 128);
        length /= 128;
    }
    block.push(u8::try_from(length).expect("below 128"));
}

/// The block of a response's head that says 200 and nothing else.
pub(crate) const OK: &[u8] = &[0x88];
