//! Heads of requests, from one version of HTTP to the other.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Version};
use http_body::Body as _;

use super::RequestBody;

/// A head as HTTP/2 has it: the target's parts each by itself, no `Host` (RFC 9113, section 8.3.1).
///
/// None when `Host` is no host.
pub(super) fn to_http2(mut parts: Parts) -> Option<Request<()>> {
    if parts.uri.authority().is_none() {
        let host = parts.headers.remove(HOST)?;
        let authority = Authority::try_from(host.as_bytes()).ok()?;
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority);
        if uri.path_and_query.is_none() {
            uri.path_and_query = Some(PathAndQuery::from_static("/"));
        }
        parts.uri = Uri::from_parts(uri).ok()?;
    }
    parts.version = Version::HTTP_2;
    Some(Request::from_parts(parts, ()))
}

/// A head as HTTP/1.1 has it: origin-form and `Host`, one `Cookie` (RFC 9113, section 8.2.3), and a body whose end
/// can be told.
pub(super) fn to_http1(request: &mut Request<RequestBody>) {
    if request.version() == Version::HTTP_2 {
        if let Some(authority) = request.uri().authority() {
            let host = HeaderValue::from_str(authority.as_str());
            let path = request.uri().path_and_query().cloned();
            request
                .headers_mut()
                .insert(HOST, host.unwrap_or_else(|_| HeaderValue::from_static("localhost")));
            *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
        join_cookies(request.headers_mut());
        *request.version_mut() = Version::HTTP_11;
    }
    if !request.body().is_end_stream()
        && request.body().size_hint().exact().is_none()
        && !request.headers().contains_key(CONTENT_LENGTH)
    {
        // Or else hyper takes a GET to have no body.
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_http2_and_its_target() {
        let request = Request::get("/a?b").header(HOST, "shop:80").body(()).unwrap();
        let head = to_http2(request.into_parts().0).unwrap();
        assert_eq!(head.uri().to_string(), "http://shop:80/a?b");
        assert_eq!((head.version(), head.headers().len()), (Version::HTTP_2, 0));
    }

    #[test]
    fn cookies_become_one() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
