//! A response: its head, and how its body is framed (RFC 9112 section 6.3).

/// Header fields that a response may have.
const MAX_HEADERS: usize = 64;

/// A complete response.
#[derive(Debug, Clone)]
pub struct Response {
    head: Vec<u8>,
    status: u16,
    close: bool,
    body: Vec<u8>,
}

impl Response {
    /// `head` must be one that [`parse_head`] found complete.
    pub(crate) fn new(head: Vec<u8>) -> Self {
        let mut response = Self { head, status: 0, close: false, body: Vec::new() };
        response.status = with_head(&response.head, |head| head.code).flatten().unwrap_or(0);
        let old = with_head(&response.head, |head| head.version).flatten() == Some(0);
        response.close = old || response.header("connection").is_some_and(|value| has_token(value, "close"));
        response
    }

    pub(crate) fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether this was the connection's last response: `Connection: close`, or HTTP/1.0.
    #[must_use]
    pub fn close(&self) -> bool {
        self.close
    }

    /// The first header field of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        head.parse(&self.head).ok()?;
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    }

    /// The body, without its framing.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilEof,
}

/// What a prefix of the stream turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<T> {
    Complete(T),
    Partial,
    Invalid,
}

/// Finds the end of a head, and how the body after it is framed.
pub(crate) fn parse_head(bytes: &[u8]) -> Parsed<(usize, Framing)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => match framing(&head) {
            Some(framing) => Parsed::Complete((length, framing)),
            None => Parsed::Invalid,
        },
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Invalid,
    }
}

fn framing(head: &httparse::Response<'_, '_>) -> Option<Framing> {
    if matches!(head.code, Some(100..=199 | 204 | 304)) {
        return Some(Framing::Length(0));
    }
    let value = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    if let Some(coding) = value("transfer-encoding") {
        return coding.value.eq_ignore_ascii_case(b"chunked").then_some(Framing::Chunked);
    }
    match value("content-length") {
        Some(length) => Some(Framing::Length(std::str::from_utf8(length.value).ok()?.parse().ok()?)),
        None => Some(Framing::UntilEof),
    }
}

/// Decodes a chunked body that is complete in `bytes`: its length on the wire, and its content.
///
/// It starts from the beginning each time, which is fine for bodies of a few reads.
pub(crate) fn read_chunks(bytes: &[u8]) -> Parsed<(usize, Vec<u8>)> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (head, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(_) => return Parsed::Invalid,
        };
        at += head;
        if size == 0 {
            return match trailers(&bytes[at..]) {
                Some(length) => Parsed::Complete((at + length, body)),
                None => Parsed::Partial,
            };
        }
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
            return Parsed::Invalid;
        };
        match bytes.get(end..end.saturating_add(2)) {
            Some(b"\r\n") => body.extend_from_slice(&bytes[at..end]),
            Some(_) => return Parsed::Invalid,
            None => return Parsed::Partial,
        }
        at = end + 2;
    }
}

/// The length of the trailer section, up to and including its empty line.
fn trailers(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn with_head<T>(bytes: &[u8], read: impl FnOnce(&httparse::Response<'_, '_>) -> T) -> Option<T> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    head.parse(bytes).ok()?;
    Some(read(&head))
}

/// Whether a comma-separated header value has this token, in any case.
pub(crate) fn has_token(value: &str, token: &str) -> bool {
    value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_complete_partial_or_invalid() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(parse_head(head), Parsed::Complete((head.len(), Framing::Length(3))));
        assert_eq!(parse_head(&head[..20]), Parsed::Partial);
        assert_eq!(parse_head(b"GET / HTTP/1.1\r\n\r\n"), Parsed::Invalid);
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"), Parsed::Invalid);
        let bare = b"HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(parse_head(bare), Parsed::Complete((bare.len(), Framing::UntilEof)));
    }

    #[test]
    fn responses_know_whether_they_are_the_last() {
        let close = |head: &[u8]| Response::new(head.to_vec()).close();
        assert!(close(b"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\n\r\n"));
        assert!(!close(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"));
        assert!(close(b"HTTP/1.0 200 OK\r\n\r\n"));
    }

    #[test]
    fn chunks_need_their_end() {
        let wire = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nrest";
        assert_eq!(read_chunks(wire), Parsed::Complete((wire.len() - 4, b"abcde".to_vec())));
        for cut in 0..wire.len() - 4 {
            assert_eq!(read_chunks(&wire[..cut]), Parsed::Partial, "after {cut} bytes");
        }
        assert_eq!(read_chunks(b"3\r\nabcd\r\n0\r\n\r\n"), Parsed::Invalid);
        let trailed = b"0\r\ngrpc-status: 0\r\n\r\n";
        assert_eq!(read_chunks(trailed), Parsed::Complete((trailed.len(), Vec::new())));
    }
}
