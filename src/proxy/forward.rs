//! The innermost service: asks the app.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::{EXPECT, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::sync::oneshot;
use tower::Service;

use super::{Body, Caller, Error, Exchange};
use crate::metrics::UpstreamFailure;
use crate::upstream::{
    Answer, Asked, Gate, Incoming, Pool, Replay, RequestBody, ResponseBody, SendError, Sent, Upload,
};

/// Sends requests to the app of one forward.
#[derive(Debug)]
pub struct Forward {
    pool: Rc<Pool>,
    upload: Upload,
    caller: Rc<Caller>,
    /// The first request has been sent already.
    sent: Option<Sent>,
}

impl Forward {
    pub(super) fn new(exchange: &Exchange, sent: Option<Sent>) -> Self {
        Self {
            pool: Rc::clone(exchange.pool()),
            upload: exchange.upload().clone(),
            caller: Rc::clone(exchange.caller()),
            sent,
        }
    }
}

impl Service<Request<Incoming>> for Forward {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let replay = replay(&request);
        // An upgrade is HTTP/1.1's own affair, also with an app that speaks HTTP/2.
        let wants_upgrade = request.version() != Version::HTTP_2 && request.headers().contains_key(UPGRADE);
        let gate = expects_continue(&request).then(|| gate(&mut request));
        let request = request.map(|body| RequestBody::new(body, gate, &self.upload));
        let (pool, caller) = (Rc::clone(&self.pool), Rc::clone(&self.caller));
        // Each box has just the room that its way needs.
        if let Some(sent) = self.sent.take() {
            Box::pin(take_over(pool, request, sent))
        } else if !wants_upgrade && pool.speaks_http2(request.version()) {
            Box::pin(forward_http2(pool, request, replay, caller))
        } else {
            Box::pin(forward(pool, request, replay, caller, wants_upgrade))
        }
    }
}

async fn forward_http2(
    pool: Rc<Pool>,
    request: Request<RequestBody>,
    replay: Replay,
    caller: Rc<Caller>,
) -> Result<Response<Body>, Error> {
    let version = request.version();
    match pool.send_http2(request, replay, caller.preamble()).await? {
        Answer::Response(response) => Ok(of_app(response, version)),
        Answer::Upgraded { .. } => Err(Error::Upstream(UpstreamFailure::Invalid)),
    }
}

fn of_app(response: Response<ResponseBody>, version: Version) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let body = Body::app(body, &parts.headers, version);
    Response::from_parts(parts, body)
}

async fn take_over(
    pool: Rc<Pool>,
    request: Request<RequestBody>,
    sent: Sent,
) -> Result<Response<Body>, Error> {
    let version = request.version();
    match pool.take_over(request, sent).await? {
        Answer::Response(response) => Ok(of_app(response, version)),
        Answer::Upgraded { .. } => Err(Error::Upstream(UpstreamFailure::Invalid)),
    }
}

async fn forward(
    pool: Rc<Pool>,
    request: Request<RequestBody>,
    replay: Replay,
    caller: Rc<Caller>,
    wants_upgrade: bool,
) -> Result<Response<Body>, Error> {
    let version = request.version();
    match pool.send(request, replay, caller.preamble()).await? {
        Answer::Response(response) => Ok(of_app(response, version)),
        Answer::Upgraded { response, stream, unread } if wants_upgrade => {
            Ok(response.map(|()| Body::upgrade(stream, unread)))
        }
        Answer::Upgraded { .. } => Err(Error::Upstream(UpstreamFailure::Invalid)),
    }
}

/// Holds the request's body back until the app says 100 (Continue).
fn gate(request: &mut Request<Incoming>) -> Gate {
    let (tell, told) = oneshot::channel();
    let asked = Asked::new(tell);
    request.extensions_mut().insert(asked.clone());
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            asked.tell();
        }
    });
    Gate::new(told)
}

/// When this request may be sent twice (RFC 9110, section 9.2.2).
fn replay(request: &Request<Incoming>) -> Replay {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    if idempotent && request.body().is_end_stream() { Replay::Unanswered } else { Replay::Unwritten }
}

/// Over HTTP/2 it is the stream's window that keeps a body back.
fn expects_continue(request: &Request<Incoming>) -> bool {
    request.version() != Version::HTTP_2
        && request
            .headers()
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && !request.body().is_end_stream()
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::App(failure) => Self::Upstream(failure),
            SendError::Client => Self::BadRequest("the request's body broke off"),
            SendError::Host => Self::BadRequest("the Host field is not valid"),
            SendError::Reset(reason) => Self::Reset(reason),
        }
    }
}
