//! WebSocket frames as they are on the wire (RFC 6455), and the handshake.

use std::io;

use super::app::{App, Exchange};
use super::client::Client;
use super::ebb::Ebb;
use super::wire::Wire;
use super::within;

pub(crate) const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
pub(crate) const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Opcodes.
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;

/// The key of every masked frame here.
const KEY: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The last one of its message.
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) masked: bool,
    /// Unmasked.
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// A whole message, or a control frame, as the app sends it.
    pub(crate) fn app(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, opcode, masked: false, payload: payload.into() }
    }

    /// The same as the client sends it.
    pub(crate) fn client(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { masked: true, ..Self::app(opcode, payload) }
    }

    /// The same, but more frames of its message follow.
    pub(crate) fn unfinished(self) -> Self {
        Self { fin: false, ..self }
    }

    /// A Close 1001 as ebb has to send it.
    pub(crate) fn going_away(masked: bool) -> Self {
        Self { masked, ..Self::app(CLOSE, 1001u16.to_be_bytes()) }
    }

    /// As it is on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mask = if self.masked { 0x80 } else { 0 };
        let mut bytes = vec![if self.fin { 0x80 | self.opcode } else { self.opcode }];
        match self.payload.len() {
            length @ 0..126 => bytes.push(mask | u8::try_from(length).unwrap()),
            length @ 126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(KEY);
            bytes.extend(self.payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// Reads one.
    pub(crate) async fn read(wire: &mut Wire) -> io::Result<Self> {
        let head = wire.exactly(2).await?;
        let length = match head[1] & 0x7f {
            126 => wire.exactly(2).await?,
            127 => wire.exactly(8).await?,
            length => vec![length],
        };
        let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        let masked = head[1] & 0x80 != 0;
        let key = if masked { wire.exactly(4).await? } else { vec![0; 4] };
        let mut payload = wire.exactly(length).await?;
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        Ok(Self { fin: head[0] & 0x80 != 0, opcode: head[0] & 0x0f, masked, payload })
    }
}

impl Wire {
    /// Sends a frame.
    pub(crate) async fn send_frame(&mut self, frame: Frame) {
        within("sending a frame", self.send(frame.bytes())).await.expect("to send a frame");
    }

    /// Reads a frame.
    pub(crate) async fn frame(&mut self) -> Frame {
        within("a frame", Frame::read(self)).await.expect("a frame")
    }

    /// Fails unless this is the next frame.
    pub(crate) async fn expect_frame(&mut self, expected: Frame) {
        assert_eq!(self.frame().await, expected);
    }
}

/// Both ends of a WebSocket through ebb.
pub(crate) async fn open_websocket(app: &mut App, ebb: &Ebb) -> (Client, Exchange) {
    let mut client = ebb.client().await;
    client.send(WEBSOCKET).await;
    let mut exchange = app.request().await;
    exchange.wire.send(SWITCHING).await.expect("to switch");
    assert_eq!(client.head().await.status(), 101);
    (client, exchange)
}
