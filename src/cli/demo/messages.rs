//! gRPC's messages within an HTTP/2 stream: a flag, four bytes of length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, HeaderValue};

/// What gRPC's requests and responses call their content.
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// The service's method that sends its message back.
pub(super) const ECHO: &str = "/demo.Echo/Echo";
/// The service's method that sends its message back as often as its first byte says.
pub(super) const REPEAT: &str = "/demo.Echo/Repeat";

/// The message as it is sent.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

/// A message from the front of `bytes`, when it is there as a whole.
fn take(bytes: &mut BytesMut) -> Option<Bytes> {
    let length = (bytes.get(1..)?).try_get_u32().ok()? as usize;
    if bytes.len() < 5 + length {
        return None;
    }
    bytes.advance(5);
    Some(bytes.split_to(length).freeze())
}

/// The messages of a stream.
#[derive(Debug)]
pub(super) struct Messages {
    stream: RecvStream,
    unread: BytesMut,
}

impl Messages {
    /// Those that this stream receives.
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, unread: BytesMut::new() }
    }

    /// The next message; none at the stream's end, where half a message is none.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        loop {
            if let Some(message) = take(&mut self.unread) {
                return Ok(Some(message));
            }
            match self.stream.data().await {
                Some(data) => self.unread.put(data?),
                None => return Ok(None),
            }
            let room = self.stream.flow_control().used_capacity();
            self.stream.flow_control().release_capacity(room)?;
        }
    }

    /// What comes behind the last message.
    pub(super) async fn trailers(mut self) -> Result<Option<HeaderMap>, h2::Error> {
        self.stream.trailers().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_one_by_one_and_only_whole() {
        let mut wire = BytesMut::new();
        for message in [&b"one"[..], b"", b"three"] {
            wire.put(framed(message));
        }
        let mut cut = wire.split_off(wire.len() - 1);
        assert_eq!(take(&mut wire).unwrap(), "one");
        assert_eq!(take(&mut wire).unwrap(), "");
        assert_eq!(take(&mut wire), None);
        wire.unsplit(cut.split());
        assert_eq!(take(&mut wire).unwrap(), "three");
    }
}
