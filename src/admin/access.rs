//! Who may drain: a caller on the loopback always; others with the token, or when the port is open to all.

use std::net::SocketAddr;

use http::header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};

use super::router::{Answer, text};
use crate::config::AdminConfig;

/// Lets a caller pass, or says why not.
///
/// The token may also be in the query (`?token=`), with which a hook of a kubelet before 1.26 can say it: it sends no headers.
pub(super) fn check<B>(config: &AdminConfig, peer: SocketAddr, request: &Request<B>) -> Result<(), Refused> {
    let headers = request.headers();
    if is_a_web_page(headers) {
        return Err(Refused::WebPage);
    }
    if config.open || peer.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let Some(token) = &config.token else {
        return Err(Refused::NotOpen);
    };
    let given = headers.get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let asked =
        request.uri().query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("token="));
    let right = |given: &[u8]| same(given, token.as_bytes());
    if bearer(given).is_some_and(right) || asked.is_some_and(|text| right(&decoded(text))) {
        return Ok(());
    }
    Err(Refused::WrongToken)
}

/// Why a caller may not drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is a page in somebody's browser, of another site.
    WebPage,
    /// There is no token that it could send.
    NotOpen,
    /// The token is missing or wrong.
    WrongToken,
}

impl Refused {
    /// For logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WebPage => "web-page",
            Self::NotOpen => "not-open",
            Self::WrongToken => "wrong-token",
        }
    }

    /// 403 or 401, with what would help.
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::WebPage => text(StatusCode::FORBIDDEN, "not for web pages of other sites"),
            Self::NotOpen => text(
                StatusCode::FORBIDDEN,
                "only from the loopback: start ebb with --admin-token-file (or EBB_ADMIN_TOKEN) and send that \
                 token, or with --admin-open",
            ),
            Self::WrongToken => {
                let mut answer = text(
                    StatusCode::UNAUTHORIZED,
                    "the header Authorization: Bearer TOKEN is missing or wrong",
                );
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                answer
            }
        }
    }
}

/// Whether a browser sends this on behalf of a page, which may be anybody's: beside a port-forward, every page
/// that is open could drain the pod.
fn is_a_web_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    headers.contains_key(ORIGIN) || site.is_some_and(|site| !matches!(site, b"none" | b"same-origin"))
}

/// The credentials, if the scheme is Bearer (in any case: RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A value of a query, with the bytes that are written as numbers. What is none stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let digits = more.get(..2).filter(|_| first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let number = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(number.unwrap_or(first));
        rest = if number.is_some() { &more[2..] } else { more };
    }
    bytes
}

/// Compares without telling by its duration how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(token: Option<&str>, open: bool, peer: &str, given: Option<&'static str>) -> u16 {
        let config = AdminConfig { addr: ([0, 0, 0, 0], 0).into(), token: token.map(str::to_owned), open };
        let mut request = Request::new(());
        match given.and_then(|given| given.strip_prefix('?')) {
            Some(query) => *request.uri_mut() = format!("/drain?{query}").parse().unwrap(),
            None => {
                let given = given.map(HeaderValue::from_static);
                request.headers_mut().extend(given.map(|given| (AUTHORIZATION, given)));
            }
        }
        check(&config, peer.parse().unwrap(), &request)
            .map_or_else(|refused| refused.answer().status().as_u16(), |()| 200)
    }

    #[test]
    fn who_may_drain() {
        for loopback in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.9.9.9]:1"] {
            assert_eq!(status(Some("secret"), false, loopback, None), 200);
        }
        let other = "10.0.0.9:1";
        assert_eq!(status(None, false, other, None), 403);
        assert_eq!(status(None, false, other, Some("Bearer secret")), 403);
        assert_eq!(status(None, true, other, None), 200);
        assert_eq!(status(Some("secret"), false, other, None), 401);
        assert_eq!(status(Some("secret"), false, other, Some("Bearer wrong!")), 401);
        assert_eq!(status(Some("secret"), false, other, Some("Bearer secret2")), 401);
        assert_eq!(status(Some("secret"), false, other, Some("Basic secret")), 401);
        assert_eq!(status(Some("secret"), false, other, Some("bearer secret")), 200);
        assert_eq!(status(Some("secret"), false, other, Some("Bearer")), 401);
        assert_eq!(status(None, false, other, Some("?token=secret")), 403);
        for wrong in
            ["?token=", "?token=Secret", "?token=secret2", "?token=%73ecre", "?tokens=secret", "?secret"]
        {
            assert_eq!(status(Some("secret"), false, other, Some(wrong)), 401, "{wrong}");
        }
        for right in ["?token=secret", "?wait=false&token=secret", "?token=%73ecre%74"] {
            assert_eq!(status(Some("secret"), false, other, Some(right)), 200, "{right}");
        }
        assert_eq!(status(Some("a&b%"), false, other, Some("?token=a%26b%25")), 200);
        assert_eq!(status(Some("a%"), false, other, Some("?token=a%")), 200);
    }
}
