//! HTTP/1.1 messages as a proxy sees most of them: bytes that go on nearly as they came.
//!
//! A head is read and rewritten in one pass: runs of field lines are copied as they are, the few that concern one
//! connection only are left out, and ours are put at the end. Nothing is allocated and no map is built. Pure: bytes in,
//! bytes out.
//!
//! Only what is plain is done this way. Whatever is incomplete, rare or doubtful makes these functions return `None`,
//! and then it is hyper's: it is slower, knows all of HTTP/1.1, and has the last word on what is an error. So each rule
//! here may be stricter than the standard, but never laxer.

use std::mem::MaybeUninit;

mod chunks;
mod request;
mod response;

pub use chunks::Chunks;
pub use request::Request;
pub use response::{Framing, Response};

/// Heads with more fields are not plain.
const FIELDS_MAX: usize = 64;

/// Room for the fields of a head.
type Fields<'a> = [MaybeUninit<httparse::Header<'a>>; FIELDS_MAX];

/// Copies a head, but for the lines that are to be left out.
struct Copier<'a, 'o> {
    head: &'a [u8],
    out: &'o mut Vec<u8>,
    /// Where what has not been copied yet begins.
    from: usize,
}

impl<'a, 'o> Copier<'a, 'o> {
    /// For a head that begins at `start` and ends with an empty line. None when its lines do not all end with CR LF: who
    /// comes next might see fewer of them, or more.
    fn new(
        head: &'a [u8],
        start: usize,
        fields: &[httparse::Header<'a>],
        out: &'o mut Vec<u8>,
    ) -> Option<Self> {
        let copier = Self { head, out, from: start };
        let ends = |end: usize| end >= 2 && head[end - 2] == b'\r' && head[end - 1] == b'\n';
        let all = head.ends_with(b"\r\n\r\n") && fields.iter().all(|field| ends(copier.begin(field)));
        all.then_some(copier)
    }

    /// Where a field's line begins.
    fn begin(&self, field: &httparse::Header<'_>) -> usize {
        offset(self.head, field.name.as_bytes())
    }

    /// Where the line behind a field's begins.
    fn after(&self, field: &httparse::Header<'_>) -> usize {
        let value = self.begin(field) + field.name.len();
        memchr::memchr(b'\n', &self.head[value..]).map_or(self.head.len(), |at| value + at + 1)
    }

    /// Leaves a field out.
    fn skip(&mut self, field: &httparse::Header<'_>) {
        let (begin, after) = (self.begin(field), self.after(field));
        self.out.extend_from_slice(&self.head[self.from..begin]);
        self.from = after;
    }

    /// Copies what is left, except for the empty line at the end.
    fn finish(self) -> &'o mut Vec<u8> {
        self.out.extend_from_slice(&self.head[self.from..self.head.len() - 2]);
        self.out
    }
}

/// Where a part of `whole` begins in it.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize)
}

/// Puts a field's line at the end of `out`.
fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What a `Connection` field says that a plain message may say: whether to close. None: anything else.
fn closes(value: &[u8]) -> Option<bool> {
    let mut close = false;
    for token in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if token.eq_ignore_ascii_case(b"close") {
            close = true;
        } else if !token.is_empty() && !token.eq_ignore_ascii_case(b"keep-alive") {
            return None;
        }
    }
    Some(close)
}

/// A `Content-Length` (RFC 9112, section 6.3): digits, and no more than can be counted.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0, |sum, &byte| match byte {
        b'0'..=b'9' => Some(sum * 10 + u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
