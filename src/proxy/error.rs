//! Errors that ebb itself answers: whose fault it was, and the one place that makes responses of them.

use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};

use super::Body;
use crate::http2::Reason;
use crate::metrics::UpstreamFailure;

/// Carries [`Error::reason`] to the client.
const EBB_ERROR: HeaderName = HeaderName::from_static("ebb-error");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How an error is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A status and a line of text.
    Text,
    /// A gRPC response that consists of trailers only.
    Grpc,
}

impl Form {
    /// What a request's sender understands.
    pub fn of<B>(request: &Request<B>) -> Self {
        let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if request.version() == Version::HTTP_2 { Self::of_http2(content_type) } else { Self::Text }
    }

    /// What the sender of a request over HTTP/2 with this `Content-Type` understands.
    #[must_use]
    pub fn of_http2(content_type: &[u8]) -> Self {
        if is_grpc(content_type) { Self::Grpc } else { Self::Text }
    }
}

/// Whether a message is gRPC: `application/grpc`, alone or with `+proto` or the like.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Why ebb answers instead of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The client: not a request that can be forwarded, and why.
    BadRequest(&'static str),
    /// The client: its request head took longer than `--header-timeout`.
    HeaderTimeout,
    /// The client: its request head is larger than `--max-header-bytes`, or has too many fields.
    HeaderTooLarge,
    /// The app.
    Upstream(UpstreamFailure),
    /// The app has reset the stream with this code, which is passed on to a client that speaks HTTP/2.
    Reset(Reason),
    /// Ourselves: more clients than `--max-connections`.
    Overloaded,
    /// Ourselves: the drain's deadline came before the app's response.
    DrainDeadline,
}

impl Error {
    /// The status that says whose fault it was.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Upstream(UpstreamFailure::Refused | UpstreamFailure::Unreachable)
            | Self::Overloaded
            | Self::DrainDeadline => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream(UpstreamFailure::Timeout) => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream(UpstreamFailure::Reset | UpstreamFailure::Invalid) | Self::Reset(_) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// The value of the `ebb-error` field.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::HeaderTimeout => "header-timeout",
            Self::HeaderTooLarge => "header-too-large",
            Self::Upstream(failure) => failure.name(),
            Self::Reset(_) => UpstreamFailure::Reset.name(),
            Self::Overloaded => "overloaded",
            Self::DrainDeadline => "drain-deadline",
        }
    }

    /// The status that says the same in gRPC. Where the client should simply try again, elsewhere, it is 14
    /// (`UNAVAILABLE`), the only one that all clients may repeat.
    fn grpc_code(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "13", // INTERNAL
            Self::HeaderTooLarge => "8", // RESOURCE_EXHAUSTED
            _ => "14",
        }
    }

    /// The fields that end a gRPC response.
    #[must_use]
    pub fn grpc_status(self) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(4);
        fields.insert(GRPC_STATUS, HeaderValue::from_static(self.grpc_code()));
        // Our texts need no percent-encoding: they are plain ASCII without a percent sign.
        if let Ok(message) = HeaderValue::from_str(&format!("ebb: {self}")) {
            fields.insert(GRPC_MESSAGE, message);
        }
        fields.insert(EBB_ERROR, HeaderValue::from_static(self.reason()));
        fields
    }

    /// The response, as the request's kind has it: with a one-line text body, or trailers only.
    #[must_use]
    pub fn response(self, form: Form) -> Response<Body> {
        let mut response = match form {
            Form::Text => self.text_response(),
            Form::Grpc => {
                let mut response = Response::new(Body::text(Bytes::new()));
                *response.headers_mut() = self.grpc_status();
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                response
            }
        };
        if let Self::Reset(reason) = self {
            response.extensions_mut().insert(reason);
        }
        response
    }

    fn text_response(self) -> Response<Body> {
        let text = format!("{self}\n");
        let mut response = Response::new(Body::text(Bytes::from(text)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(EBB_ERROR, HeaderValue::from_static(self.reason()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }

    /// The same as bytes, for a connection that has no HTTP state any more; it closes after this.
    #[must_use]
    pub fn raw_response(self) -> Vec<u8> {
        let (status, text) = (self.status(), format!("{self}\n"));
        format!(
            "HTTP/1.1 {} {}\r\nebb-error: {}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{text}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            self.reason(),
            text.len(),
        )
        .into_bytes()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest(why) => why,
            Self::HeaderTimeout => "the request head did not arrive in time",
            Self::HeaderTooLarge => "the request head is too large",
            Self::Upstream(UpstreamFailure::Refused) => "nothing listens at the app's address",
            Self::Upstream(UpstreamFailure::Unreachable) => "the app can't be reached",
            Self::Upstream(UpstreamFailure::Timeout) => "the app did not accept a connection in time",
            Self::Upstream(UpstreamFailure::Reset) => "the app's connection ended before its response did",
            Self::Upstream(UpstreamFailure::Invalid) => "what the app sent is not HTTP",
            Self::Reset(_) => "the app has reset the stream",
            Self::Overloaded => "too many connections",
            Self::DrainDeadline => "the pod is going away and its time is up",
        })
    }
}
