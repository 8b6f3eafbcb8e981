//! WebSocket (RFC 6455) as the demo's clients and app speak it: whole frames, both directions.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The key that the RFC itself uses for its example: a demo has nothing to hide from caches...
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// ...and the answer that the RFC gives to it.
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// No frame of the demo is longer.
const MAX_PAYLOAD: usize = 1 << 20;

/// What a frame is; other opcodes than these are an error here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// A frame without its mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// The last one of its message.
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) payload: Bytes,
}

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Socket<S> {
    stream: S,
    /// What was read and is not a whole frame yet.
    unread: BytesMut,
    /// Clients mask what they send.
    client: bool,
}

impl Frame {
    /// The end, for this reason.
    pub(super) fn close(code: u16) -> Self {
        Self { fin: true, opcode: Opcode::Close, payload: Bytes::copy_from_slice(&code.to_be_bytes()) }
    }

    /// The reason of a Close frame that has one.
    pub(super) fn close_code(&self) -> Option<u16> {
        self.payload.as_ref().try_get_u16().ok()
    }

    /// Takes a frame from the front of `bytes` when it is there as a whole.
    fn take(bytes: &mut BytesMut) -> io::Result<Option<Self>> {
        let mut rest = &bytes[..];
        let Some((masked, length)) = header(&mut rest) else { return Ok(None) };
        if length > MAX_PAYLOAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let key = if masked { rest.try_get_u32().ok() } else { Some(0) };
        let Some(key) = key.filter(|_| rest.len() >= length) else { return Ok(None) };
        let [first, header] = [usize::from(bytes[0]), bytes.len() - rest.len()];
        let opcode = opcode(first as u8 & 0x7f)?;
        bytes.advance(header);
        let mut payload = bytes.split_to(length);
        mask(&mut payload, key);
        Ok(Some(Self { fin: first & 0x80 != 0, opcode, payload: payload.freeze() }))
    }
}

/// Whether the frame is masked, and how long its payload is.
fn header(bytes: &mut &[u8]) -> Option<(bool, usize)> {
    let [_, second] = bytes.try_get_u16().ok()?.to_be_bytes();
    let length = match second & 0x7f {
        126 => u64::from(bytes.try_get_u16().ok()?),
        127 => bytes.try_get_u64().ok()?,
        short => u64::from(short),
    };
    Some((second & 0x80 != 0, usize::try_from(length).unwrap_or(usize::MAX)))
}

/// The opcode; the reserved bits must not be set.
fn opcode(bits: u8) -> io::Result<Opcode> {
    use Opcode::{Binary, Close, Continuation, Ping, Pong};
    let known = [Continuation, Binary, Close, Ping, Pong].into_iter().find(|known| *known as u8 == bits);
    known.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn mask(payload: &mut [u8], key: u32) {
    payload.iter_mut().zip(key.to_be_bytes().iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// The client's end; `unread` came behind the handshake.
    pub(super) fn client(stream: S, unread: BytesMut) -> Self {
        Self { stream, unread, client: true }
    }

    /// The server's end.
    pub(super) fn server(stream: S) -> Self {
        Self { stream, unread: BytesMut::new(), client: false }
    }

    /// The next frame. Nothing is lost when this is dropped before it is ready.
    pub(super) async fn read(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.unread)? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends a frame.
    pub(super) async fn write(&mut self, frame: &Frame) -> io::Result<()> {
        let Frame { fin, opcode, payload } = frame;
        let mut bytes = BytesMut::with_capacity(payload.len() + 14);
        bytes.put_u8(u8::from(*fin) << 7 | *opcode as u8);
        let masked = u8::from(self.client) << 7;
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(short @ ..126), _) => bytes.put_u8(masked | short),
            (_, Ok(length)) => {
                bytes.put_u8(masked | 126);
                bytes.put_u16(length);
            }
            _ => {
                bytes.put_u8(masked | 127);
                bytes.put_u64(payload.len() as u64);
            }
        }
        let key = if self.client { fastrand::u32(..) } else { 0 };
        if self.client {
            bytes.put_u32(key);
        }
        let header = bytes.len();
        bytes.put_slice(payload);
        mask(&mut bytes[header..], key);
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// Ends what is sent, and waits until nothing is received any more.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        while self.stream.read_buf(&mut self.unread).await? > 0 {
            self.unread.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_every_length_arrive_as_they_were_sent() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Bytes = (0..length).map(|i| i as u8).collect();
            let (near, far) = tokio::io::duplex(1000);
            let (mut client, mut server) = (Socket::client(near, BytesMut::new()), Socket::server(far));
            for (fin, opcode) in [(false, Opcode::Binary), (true, Opcode::Continuation)] {
                let sent = Frame { fin, opcode, payload: payload.clone() };
                let (written, read) = tokio::join!(client.write(&sent), server.read());
                written.unwrap();
                assert_eq!(read.unwrap(), sent);
                let (written, read) = tokio::join!(server.write(&sent), client.read());
                written.unwrap();
                assert_eq!(read.unwrap(), sent);
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let take = |bytes: &[u8]| Frame::take(&mut BytesMut::from(bytes)).unwrap();
        let hello = Frame { fin: true, opcode: Opcode::Ping, payload: Bytes::from_static(b"Hello") };
        assert_eq!(take(b"\x89\x05Hello"), Some(hello.clone()));
        let masked = b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(take(masked), Some(hello));
        for cut in 0..masked.len() {
            assert_eq!(take(&masked[..cut]), None);
        }
    }

    #[test]
    fn a_reserved_bit_or_opcode_is_an_error() {
        for first in [0xc2, 0x83] {
            assert!(Frame::take(&mut BytesMut::from(&[first, 0][..])).is_err());
        }
    }

    #[test]
    fn a_close_has_its_code() {
        assert_eq!(Frame::close(1001).close_code(), Some(1001));
        assert_eq!(Frame { payload: Bytes::new(), ..Frame::close(0) }.close_code(), None);
    }
}
