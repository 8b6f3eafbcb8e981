//! Heads of requests and responses, and trailers: what makes them well-formed (RFC 9113, sections 8.2 and 8.3), and the
//! way to the `http` crate's types and back.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};

use super::fields::{Field, Fields};
use super::hpack::Encoder;

/// An `http::HeaderMap` has no room for many more, and panics.
pub(super) const FIELDS_MAX: usize = 20_000;

/// The head breaks the rules of HTTP/2.
#[derive(Debug)]
pub(super) struct Malformed;

/// What a CONNECT request wants to speak (RFC 8441, section 4); in its extensions.
#[derive(Debug, Clone)]
pub struct ConnectProtocol(Bytes);

impl ConnectProtocol {
    /// Its name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The places of the fields that say what a request is about, which come first.
#[derive(Debug, Clone, Copy, Default)]
struct Pseudo {
    method: Option<u8>,
    scheme: Option<u8>,
    authority: Option<u8>,
    path: Option<u8>,
    protocol: Option<u8>,
    status: Option<u8>,
}

/// A well-formed head.
#[derive(Debug)]
pub struct Head {
    fields: Fields,
    pseudo: Pseudo,
    /// How many there are of those.
    first: usize,
    length: Option<u64>,
}

impl Head {
    fn check(fields: Fields) -> Result<Self, Malformed> {
        if fields.len() > FIELDS_MAX {
            return Err(Malformed);
        }
        let (mut pseudo, mut first, mut length) = (Pseudo::default(), 0, None);
        for (at, field) in fields.iter().enumerate() {
            if !field.value.iter().all(|&byte| VALUE[usize::from(byte)]) {
                return Err(Malformed);
            }
            if field.name.first() == Some(&b':') {
                let place = pseudo.place(field.name).filter(|place| place.is_none() && at == first);
                *place.ok_or(Malformed)? = u8::try_from(at).ok();
                first += 1;
                continue;
            }
            if field.name.is_empty() || !field.name.iter().all(|&byte| NAME[usize::from(byte)]) {
                return Err(Malformed);
            }
            match field.name {
                b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                    return Err(Malformed);
                }
                b"te" if !field.value.eq_ignore_ascii_case(b"trailers") => return Err(Malformed),
                b"content-length" => {
                    let new = number(field.value).ok_or(Malformed)?;
                    if length.replace(new).is_some_and(|old| old != new) {
                        return Err(Malformed);
                    }
                }
                _ => {}
            }
        }
        Ok(Self { fields, pseudo, first, length })
    }

    pub(super) fn request(fields: Fields) -> Result<Self, Malformed> {
        let head = Self::check(fields)?;
        let Pseudo { method, scheme, authority, path, protocol, status } = head.pseudo;
        let connect = head.method() == b"CONNECT";
        let target = if connect && protocol.is_none() {
            scheme.is_none() && path.is_none() && authority.is_some()
        } else {
            scheme.is_some() && path.is_some() && (connect || protocol.is_none())
        };
        if method.is_some() && status.is_none() && target { Ok(head) } else { Err(Malformed) }
    }

    pub(super) fn response(fields: Fields) -> Result<Self, Malformed> {
        let head = Self::check(fields)?;
        if head.first == 1 && head.status().is_some() { Ok(head) } else { Err(Malformed) }
    }

    pub(super) fn trailers(fields: Fields) -> Result<Self, Malformed> {
        let head = Self::check(fields)?;
        if head.first == 0 { Ok(head) } else { Err(Malformed) }
    }

    fn at(&self, place: Option<u8>) -> Option<&[u8]> {
        self.fields.get(usize::from(place?)).map(|field| field.value)
    }

    /// A request's method.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.at(self.pseudo.method).unwrap_or_default()
    }

    /// A request's scheme.
    #[must_use]
    pub fn scheme(&self) -> &[u8] {
        self.at(self.pseudo.scheme).unwrap_or_default()
    }

    /// What a request calls the server.
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        self.at(self.pseudo.authority)
    }

    /// A request's path and query.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.at(self.pseudo.path).unwrap_or_default()
    }

    /// A response's status.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.at(self.pseudo.status)? {
            digits @ [b'1'..=b'9', _, _] => number(digits).and_then(|status| u16::try_from(status).ok()),
            _ => None,
        }
    }

    /// How long the body is, as far as the head says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// What is none of the above.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().skip(self.first)
    }

    /// The values of all fields with this name.
    pub fn all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(move |field| field.name == name).map(|field| field.value)
    }

    /// The fields as the `http` crate has them.
    pub(super) fn into_map(self) -> Result<HeaderMap, Malformed> {
        let mut map = HeaderMap::with_capacity(self.fields.len() - self.first);
        self.fields.share(self.first, |name, value, never| {
            let name = HeaderName::from_bytes(name).map_err(|_| Malformed)?;
            let mut value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed)?;
            value.set_sensitive(never);
            map.try_append(name, value).map_err(|_| Malformed)?;
            Ok(())
        })?;
        Ok(map)
    }

    /// A request as the `http` crate has it.
    ///
    /// # Errors
    /// The target is none, or the method.
    pub fn into_request(self) -> Result<Request<()>, super::Error> {
        self.request_of().map_err(|Malformed| super::Error::Breach(super::Reason::PROTOCOL_ERROR))
    }

    fn request_of(self) -> Result<Request<()>, Malformed> {
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = Method::from_bytes(self.method()).map_err(|_| Malformed)?;
        let mut uri = http::uri::Parts::default();
        if let Some(authority) = self.authority() {
            uri.authority = Some(Authority::try_from(authority).map_err(|_| Malformed)?);
        }
        if let Some(path) = self.at(self.pseudo.path) {
            uri.path_and_query = Some(path_of(path, request.method())?);
            // Without an authority there is no place for it in a URI.
            let scheme = Scheme::try_from(self.scheme()).map_err(|_| Malformed)?;
            uri.scheme = uri.authority.is_some().then_some(scheme);
        }
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Malformed)?;
        if let Some(protocol) = self.at(self.pseudo.protocol) {
            request.extensions_mut().insert(ConnectProtocol(Bytes::copy_from_slice(protocol)));
        }
        *request.headers_mut() = self.into_map()?;
        Ok(request)
    }

    /// Appends it as it came.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for field in self.fields.iter() {
            Encoder::field(out, field.name, field.value, field.never);
        }
    }

    /// A response as the `http` crate has it.
    ///
    /// # Errors
    /// There is more of something than that has room for.
    pub fn into_response(self) -> Result<Response<()>, super::Error> {
        self.response_of().map_err(|Malformed| super::Error::Breach(super::Reason::PROTOCOL_ERROR))
    }

    fn response_of(self) -> Result<Response<()>, Malformed> {
        let mut response = Response::new(());
        *response.version_mut() = Version::HTTP_2;
        let status = self.status().ok_or(Malformed)?;
        *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Malformed)?;
        *response.headers_mut() = self.into_map()?;
        Ok(response)
    }
}

impl Pseudo {
    fn place(&mut self, name: &[u8]) -> Option<&mut Option<u8>> {
        match name {
            b":method" => Some(&mut self.method),
            b":scheme" => Some(&mut self.scheme),
            b":authority" => Some(&mut self.authority),
            b":path" => Some(&mut self.path),
            b":protocol" => Some(&mut self.protocol),
            b":status" => Some(&mut self.status),
            _ => None,
        }
    }
}

/// A path, or an asterisk for OPTIONS (RFC 9113, section 8.3.1).
fn path_of(path: &[u8], method: &Method) -> Result<PathAndQuery, Malformed> {
    if path.first() != Some(&b'/') && (path != b"*" || method != Method::OPTIONS) {
        return Err(Malformed);
    }
    PathAndQuery::try_from(path).map_err(|_| Malformed)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// What names consist of: characters of a token, none of them upper case.
static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let char = byte as u8;
        table[byte] = matches!(char, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
            | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// What values consist of: no control characters, but for a tab.
static VALUE: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 32 {
        table[byte] = byte == b'\t' as usize;
        byte += 1;
    }
    table[0x7f] = false;
    table
};

/// Appends a request's head.
pub(super) fn put_request(out: &mut Vec<u8>, request: &Request<()>) {
    let uri = request.uri();
    Encoder::field(out, b":method", request.method().as_str().as_bytes(), false);
    Encoder::field(out, b":scheme", uri.scheme_str().unwrap_or("http").as_bytes(), false);
    if let Some(authority) = uri.authority() {
        Encoder::field(out, b":authority", authority.as_str().as_bytes(), false);
    }
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Encoder::field(out, b":path", path.as_bytes(), false);
    put_map(out, request.headers());
}

/// Appends a response's head.
pub(super) fn put_response(out: &mut Vec<u8>, response: &Response<()>) {
    Encoder::status(out, response.status().as_u16());
    put_map(out, response.headers());
}

/// Appends fields.
pub(super) fn put_map(out: &mut Vec<u8>, map: &HeaderMap) {
    for (name, value) in map {
        Encoder::field(out, name.as_str().as_bytes(), value.as_bytes(), value.is_sensitive());
    }
}
