//! Requests on their way to the app.

use std::mem::MaybeUninit;

use httparse::Header;

use super::{Copier, Fields, closes, length, put};
use crate::config::Forwarded;
use crate::origin::Origin;

/// A request that is here as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// How many bytes it has, with its body.
    pub len: usize,
    /// As the client sent it.
    pub method: &'a str,
    /// As the client sent it.
    pub target: &'a str,
    /// `Host`.
    pub host: &'a [u8],
    /// `User-Agent`; the first, if there are several.
    pub user_agent: Option<&'a [u8]>,
    /// The client wants the connection to end with the response.
    pub close: bool,
    /// It has a body, which may not be empty.
    pub has_body: bool,
}

impl<'a> Request<'a> {
    /// Reads the request that `bytes` begins with and writes it to the empty `out` as the app is to get it. None when
    /// it is not plain, or not whole; `out` is of no use then.
    pub fn rewrite(bytes: &'a [u8], origin: &Origin, out: &mut Vec<u8>) -> Option<Self> {
        let mut room: Fields<'a> = [const { MaybeUninit::uninit() }; _];
        let mut parsed = httparse::Request::new(&mut []);
        let Ok(httparse::Status::Complete(head)) = parsed.parse_with_uninit_headers(bytes, &mut room) else {
            return None;
        };
        let (method, target) = (parsed.method?, parsed.path?);
        if parsed.version != Some(1) || !is_plain(target) || method == "CONNECT" {
            return None;
        }
        let start = super::offset(bytes, method.as_bytes());
        let mut copier = Copier::new(&bytes[..head], start, parsed.headers, out)?;
        let mut seen = Seen::default();
        for field in &*parsed.headers {
            if !seen.keeps(field, origin.forwarded)? {
                copier.skip(field);
            }
        }
        let out = copier.finish();
        let host = seen.host?;
        seen.say_where_from(host, origin, out);
        out.extend_from_slice(b"\r\n");
        let body = usize::try_from(seen.length.unwrap_or(0)).ok()?;
        let len = head.checked_add(body)?;
        out.extend_from_slice(bytes.get(head..len)?);
        let (user_agent, close) = (seen.user_agent, seen.close);
        Some(Self { len, method, target, host, user_agent, close, has_body: body > 0 })
    }

    /// The response has no body, whatever its head says.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether it may be sent a second time without knowing what became of the first (RFC 9110, section 9.2.2).
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        !self.has_body && matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
    }
}

/// Whether a target is a path, with nothing in it that has no place in one (RFC 3986, section 3.3): whether a request is
/// refused must not depend on how it comes in.
fn is_plain(target: &str) -> bool {
    let bytes = target.as_bytes();
    bytes.first() == Some(&b'/')
        && memchr::memchr3(b'<', b'>', b'#', bytes).is_none()
        && memchr::memchr2(b'"', b'`', bytes).is_none()
}

/// What the fields of a head have said.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    user_agent: Option<&'a [u8]>,
    forwarded_for: Option<&'a [u8]>,
    forwarded_proto: bool,
    forwarded_host: bool,
    close: bool,
}

impl<'a> Seen<'a> {
    /// Looks at a field: whether it goes on as it is. None when the request is not plain.
    fn keeps(&mut self, field: &Header<'a>, how: Forwarded) -> Option<bool> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // Most names have a length that no name of interest has.
        match field.name.len() {
            2 if is("te") => return None,
            4 if is("host") && self.host.replace(field.value).is_some() => return None,
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            10 if is("connection") => {
                self.close |= closes(field.value)?;
                return Some(false);
            }
            10 if is("keep-alive") => return Some(false),
            10 if is("user-agent") => {
                self.user_agent.get_or_insert(field.value);
            }
            14 if is("content-length") && self.length.replace(length(field.value)?).is_some() => return None,
            16 if is("proxy-connection") => return Some(false),
            17 if is("transfer-encoding") => return None,
            15..=17 if how != Forwarded::Off => return self.keeps_forwarded(field, how),
            _ => {}
        }
        Some(true)
    }

    fn keeps_forwarded(&mut self, field: &Header<'a>, how: Forwarded) -> Option<bool> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("x-forwarded-for") {
            // Several are one list, which takes more than copying.
            return self.forwarded_for.replace(field.value).is_none().then_some(false);
        }
        let seen = match field.name.len() {
            16 if is("x-forwarded-host") => &mut self.forwarded_host,
            17 if is("x-forwarded-proto") => &mut self.forwarded_proto,
            _ => return Some(true),
        };
        *seen = how == Forwarded::Append;
        Some(*seen)
    }

    /// Adds `X-Forwarded-*`, after those who have handed the request on before us or in their place.
    fn say_where_from(&self, host: &[u8], origin: &Origin, out: &mut Vec<u8>) {
        if origin.forwarded == Forwarded::Off {
            return;
        }
        out.extend_from_slice(b"x-forwarded-for: ");
        if let (Forwarded::Append, Some(before @ [_, ..])) = (origin.forwarded, self.forwarded_for) {
            out.extend_from_slice(before);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(&origin.client);
        out.extend_from_slice(b"\r\n");
        if !self.forwarded_proto {
            put(out, b"x-forwarded-proto", origin.proto.as_bytes());
        }
        if !self.forwarded_host {
            put(out, b"x-forwarded-host", host);
        }
    }
}
