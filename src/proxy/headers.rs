//! Header fields that concern one connection only, `Host`, and `X-Forwarded-*`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{
    CONNECTION, CONTENT_LENGTH, Entry, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Body, Error};
use crate::config::{Forwarded, Scheme};
use crate::metrics::UpstreamFailure;
use crate::upstream::Incoming;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Makes [`Headers`] services.
#[derive(Debug, Clone)]
pub(super) struct HeadersLayer {
    forwarded: Forwarded,
    client: HeaderValue,
    proto: &'static str,
}

impl HeadersLayer {
    pub(super) fn new(forwarded: Forwarded, client: HeaderValue, scheme: Scheme) -> Self {
        Self { forwarded, client, proto: if scheme == Scheme::Https { "https" } else { "http" } }
    }
}

impl<S> Layer<S> for HeadersLayer {
    type Service = Headers<S>;

    fn layer(&self, inner: S) -> Headers<S> {
        Headers { inner, forwarded: self.forwarded, client: self.client.clone(), proto: self.proto }
    }
}

/// Rewrites the heads of requests and responses.
#[derive(Debug, Clone)]
pub struct Headers<S> {
    inner: S,
    forwarded: Forwarded,
    client: HeaderValue,
    proto: &'static str,
}

impl<S> Headers<S> {
    fn say_where_from(&self, request: &mut Request<Incoming>) {
        let host = (self.forwarded != Forwarded::Off).then(|| host(request)).flatten();
        forwarded(request.headers_mut(), self.forwarded, &self.client, self.proto, host);
    }
}

impl<S> Service<Request<Incoming>> for Headers<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Error>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = Rewriting<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        if request.version() == Version::HTTP_2 {
            if let Err(error) = normalise_http2(&mut request) {
                return Rewriting::Refused { error };
            }
            self.say_where_from(&mut request);
            return Rewriting::Asked { asked: self.inner.call(request), http2: true };
        }
        let seen = Seen::new(request.headers());
        if let Err(error) = normalise(&mut request, seen) {
            return Rewriting::Refused { error };
        }
        let headers = request.headers_mut();
        // An upgrade to h2c would take what follows out of our sight, and we speak no HTTP/2 to the app.
        let h2c =
            seen.has(Seen::UPGRADE) && headers.get_all(UPGRADE).iter().any(|value| has_token(value, b"h2c"));
        remove_hop_by_hop(headers, seen, !h2c);
        self.say_where_from(&mut request);
        Rewriting::Asked { asked: self.inner.call(request), http2: false }
    }
}

pin_project! {
    /// The response on its way back.
    #[project = RewritingProjection]
    pub enum Rewriting<F> {
        /// The request cannot be forwarded.
        Refused { error: Error },
        /// The app has been asked, by a client that speaks HTTP/2 or not.
        Asked { #[pin] asked: F, http2: bool },
    }
}

impl<F: Future<Output = Result<Response<Body>, Error>>> Future for Rewriting<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (asked, http2) = match self.project() {
            RewritingProjection::Refused { error } => return Poll::Ready(Err(*error)),
            RewritingProjection::Asked { asked, http2 } => (asked, *http2),
        };
        let mut response = ready!(asked.poll(cx))?;
        if response.version() == Version::HTTP_2 {
            // Fields that belong to one connection are malformed there, and have been refused already.
            *response.version_mut() = Version::HTTP_11;
            return Poll::Ready(Ok(response));
        }
        let seen = Seen::new(response.headers());
        if seen.has(Seen::TRANSFER_ENCODING) && !is_plainly_chunked(response.headers()) {
            return Poll::Ready(Err(Error::Upstream(UpstreamFailure::Invalid)));
        }
        // HTTP/2 has no word for it (RFC 9113, section 8.6).
        let upgrade = !http2
            && matches!(response.status(), StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
        remove_hop_by_hop(response.headers_mut(), seen, upgrade);
        // The version is that of the sender, and from here on that is us (RFC 9110, section 2.5).
        *response.version_mut() = Version::HTTP_11;
        Poll::Ready(Ok(response))
    }
}

/// Which of the fields that matter here a head has. Most heads have none of them, and one pass over the names is
/// cheaper than looking each of them up.
#[derive(Debug, Clone, Copy)]
struct Seen(u8);

impl Seen {
    const CONNECTION: u8 = 1;
    const TE: u8 = 1 << 1;
    const TRANSFER_ENCODING: u8 = 1 << 2;
    const UPGRADE: u8 = 1 << 3;
    const KEEP_ALIVE: u8 = 1 << 4;
    const PROXY_CONNECTION: u8 = 1 << 5;
    const HOST: u8 = 1 << 6;

    fn new(headers: &HeaderMap) -> Self {
        let bits = headers.keys().map(|name| match name.as_str() {
            "connection" => Self::CONNECTION,
            "te" => Self::TE,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "upgrade" => Self::UPGRADE,
            "keep-alive" => Self::KEEP_ALIVE,
            "proxy-connection" => Self::PROXY_CONNECTION,
            "host" => Self::HOST,
            _ => 0,
        });
        Self(bits.fold(0, |all, bit| all | bit))
    }

    fn has(self, field: u8) -> bool {
        self.0 & field != 0
    }
}

/// Brings a request into the form that an origin server expects (RFC 9112, section 3.2): origin-form (or `*`),
/// one `Host`, and the version that we speak ourselves.
fn normalise(request: &mut Request<Incoming>, seen: Seen) -> Result<(), Error> {
    if request.method() == Method::CONNECT {
        return Err(Error::BadRequest("CONNECT asks for a forward proxy, and this is none"));
    }
    if seen.has(Seen::TRANSFER_ENCODING) && !is_plainly_chunked(request.headers()) {
        return Err(Error::BadRequest("the only transfer coding that can be forwarded is chunked"));
    }
    if request.uri().authority().is_some() && request.uri().scheme().is_none() {
        return Err(Error::BadRequest("the request target has to begin with a slash"));
    }
    if let Some(authority) = request.uri().authority() {
        // Absolute-form: the target's authority replaces whatever Host says.
        let host = host_of(authority)?;
        let path = match request.uri().path_and_query() {
            Some(path) if !path.as_str().is_empty() => path.clone(),
            _ => PathAndQuery::from_static("/"),
        };
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = Uri::from(path);
    }
    if seen.has(Seen::HOST) {
        if request.headers().get_all(HOST).iter().nth(1).is_some() {
            return Err(Error::BadRequest("a request has one Host field, this one has several"));
        }
    } else if !request.headers().contains_key(HOST) {
        if request.version() == Version::HTTP_11 {
            return Err(Error::BadRequest("an HTTP/1.1 request has a Host field"));
        }
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    }
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// The same for HTTP/2, which keeps its own form: the target's authority is the host, and `Host` stands in where there
/// is none (RFC 9113, section 8.3.1).
/// Fields that belong to one connection are malformed there, and have been refused already.
fn normalise_http2(request: &mut Request<Incoming>) -> Result<(), Error> {
    if request.method() == Method::CONNECT {
        return Err(Error::BadRequest("CONNECT asks for a forward proxy, and this is none"));
    }
    match request.uri().authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err(Error::BadRequest("a user has no place in the request's :authority"))
        }
        Some(_) => {
            request.headers_mut().remove(HOST);
            Ok(())
        }
        None if request.headers().get_all(HOST).iter().count() == 1 => Ok(()),
        None => Err(Error::BadRequest("an HTTP/2 request has an :authority")),
    }
}

/// What the client calls us.
fn host(request: &Request<Incoming>) -> Option<HeaderValue> {
    match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(HOST).cloned(),
    }
}

fn host_of(authority: &Authority) -> Result<HeaderValue, Error> {
    let without_user = authority.as_str().rsplit('@').next().unwrap_or_default();
    HeaderValue::from_str(without_user)
        .map_err(|_| Error::BadRequest("the request target's host is not valid"))
}

/// Removes the fields that belong to one connection: those that `Connection` names and the well-known ones
/// (RFC 9110, section 7.6.1). An upgrade keeps its two; `TE: trailers` is kept because it says what the
/// recipient of the *response* can take, which we pass on.
fn remove_hop_by_hop(headers: &mut HeaderMap, seen: Seen, may_upgrade: bool) {
    let mut upgrade = false;
    if seen.has(Seen::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|&b| b == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        headers.remove(CONNECTION);
        for name in named {
            if name == UPGRADE {
                upgrade = may_upgrade;
            } else if name != HOST && name != TE && !name.as_str().starts_with("content-") {
                headers.remove(name);
            }
        }
    }
    for (field, name) in [(Seen::KEEP_ALIVE, KEEP_ALIVE), (Seen::PROXY_CONNECTION, PROXY_CONNECTION)] {
        if seen.has(field) {
            headers.remove(name);
        }
    }
    if seen.has(Seen::TRANSFER_ENCODING) {
        headers.remove(TRANSFER_ENCODING);
        // Chunked overrides a length (RFC 9112, section 6.3), which must not go on as if it were true.
        headers.remove(CONTENT_LENGTH);
    }
    if seen.has(Seen::TE) {
        let trailers = headers.get_all(TE).iter().any(|value| has_token(value, b"trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if seen.has(Seen::UPGRADE) {
        if upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        } else {
            headers.remove(UPGRADE);
        }
    }
}

/// Whether a list of tokens contains one, in any case.
fn has_token(list: &HeaderValue, token: &[u8]) -> bool {
    list.as_bytes().split(|&b| b == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// hyper takes "chunked" off, and would lose any other coding without a trace.
fn is_plainly_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// Says where the request came from.
fn forwarded(
    headers: &mut HeaderMap,
    how: Forwarded,
    client: &HeaderValue,
    proto: &'static str,
    host: Option<HeaderValue>,
) {
    match how {
        Forwarded::Off => {}
        Forwarded::Replace => {
            headers.insert(X_FORWARDED_FOR, client.clone());
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
            if let Some(host) = host {
                headers.insert(X_FORWARDED_HOST, host);
            }
        }
        Forwarded::Append => {
            append_client(headers, client);
            headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(proto));
            if let Some(host) = host {
                headers.entry(X_FORWARDED_HOST).or_insert(host);
            }
        }
    }
}

/// Adds the client to the end of the list, which may be spread over several fields.
fn append_client(headers: &mut HeaderMap, client: &HeaderValue) {
    match headers.entry(X_FORWARDED_FOR) {
        Entry::Vacant(entry) => {
            entry.insert(client.clone());
        }
        Entry::Occupied(mut entry) => {
            let mut list = Vec::new();
            for value in entry.iter().filter(|value| !value.is_empty()) {
                list.extend_from_slice(value.as_bytes());
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(client.as_bytes());
            // Joining valid values with ", " gives a valid value.
            entry.insert(HeaderValue::from_bytes(&list).unwrap_or_else(|_| client.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
