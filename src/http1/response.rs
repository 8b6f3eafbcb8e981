//! Responses on their way to the client.

use std::mem::MaybeUninit;

use httparse::Header;

use super::{Copier, Fields, closes, length, put};
use crate::media;

/// How the end of a body is told (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length, which may be 0.
    Length(u64),
    /// By a last chunk.
    Chunked,
}

/// The head of a response.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// How many bytes the head has.
    pub len: usize,
    /// 200 to 999.
    pub status: u16,
    /// How its body ends.
    pub framing: Framing,
    /// The app ends the connection with it.
    pub close: bool,
}

impl Response {
    /// Reads the head that `bytes` begins with and writes it to the empty `out` as the client is to get it: with
    /// `Connection: close` if `close`, and with `date` if it has none (RFC 9110, section 6.6.1). None when it is not plain,
    /// or not whole; `out` is of no use then.
    pub fn rewrite(
        bytes: &[u8],
        is_head: bool,
        close: bool,
        date: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) -> Option<Self> {
        let mut room: Fields<'_> = [const { MaybeUninit::uninit() }; _];
        let mut parsed = httparse::Response::new(&mut []);
        let result = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            bytes,
            &mut room,
        );
        let Ok(httparse::Status::Complete(len)) = result else { return None };
        let status = parsed.code.filter(|&code| code >= 200)?;
        if parsed.version != Some(1) || !bytes.starts_with(b"HTTP/1.1 ") {
            return None;
        }
        let mut copier = Copier::new(&bytes[..len], 0, parsed.headers, out)?;
        let mut seen = Seen::default();
        for field in &*parsed.headers {
            if !seen.keeps(field)? {
                copier.skip(field);
            }
        }
        let framing = seen.framing(status, is_head)?;
        let out = copier.finish();
        if !seen.date {
            out.extend_from_slice(b"date: ");
            date(out);
            out.extend_from_slice(b"\r\n");
        }
        if close {
            put(out, b"connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        Some(Self { len, status, framing, close: seen.close })
    }
}

/// What the fields of a head have said.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
    /// It has no end of its own, or one that the drain has to know of.
    stream: bool,
    date: bool,
    close: bool,
}

impl Seen {
    /// Looks at a field: whether it goes on as it is. None when the response is not plain.
    fn keeps(&mut self, field: &Header<'_>) -> Option<bool> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            2 if is("te") => return None,
            4 if is("date") => self.date = true,
            7 if is("upgrade") || is("trailer") => return None,
            10 if is("connection") => {
                self.close |= closes(field.value)?;
                return Some(false);
            }
            10 if is("keep-alive") => return Some(false),
            12 if is("content-type") => self.stream |= media::is_stream(media::type_of(field.value)),
            14 if is("content-length") && self.length.replace(length(field.value)?).is_some() => return None,
            16 if is("proxy-connection") => return Some(false),
            17 if is("transfer-encoding") => {
                let first = !std::mem::replace(&mut self.chunked, true);
                return (first && field.value.eq_ignore_ascii_case(b"chunked")).then_some(true);
            }
            _ => {}
        }
        Some(true)
    }

    fn framing(&self, status: u16, is_head: bool) -> Option<Framing> {
        match (self.chunked, self.length) {
            // A length of no body; a transfer coding of none would be a contradiction.
            (false, _) if is_head || status == 304 => Some(Framing::Length(0)),
            (false, None) if status == 204 => Some(Framing::Length(0)),
            (true, None) if !is_head && !matches!(status, 204 | 205 | 304) && !self.stream => {
                Some(Framing::Chunked)
            }
            (false, Some(length)) if !matches!(status, 204 | 205) => Some(Framing::Length(length)),
            _ => None,
        }
    }
}
