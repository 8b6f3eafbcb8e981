//! The innermost service: asks the app.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::task::{Context, Poll};

use http::header::{CONNECTION, EXPECT, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tower::Service;

use super::{Body, Error};
use crate::metrics::UpstreamFailure;
use crate::upstream::{Answer, Gate, Pool, Replay, RequestBody};

/// Sends requests to the app of one forward.
#[derive(Debug, Clone)]
pub struct Forward {
    pool: Rc<Pool>,
    client_sends: Rc<Cell<bool>>,
}

impl Forward {
    pub(super) fn new(pool: &Rc<Pool>, client_sends: &Rc<Cell<bool>>) -> Self {
        Self { pool: Rc::clone(pool), client_sends: Rc::clone(client_sends) }
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
        let gate = expects_continue(&request).then(|| gate(&mut request, &self.client_sends));
        Box::pin(forward(Rc::clone(&self.pool), request, gate))
    }
}

async fn forward(
    pool: Rc<Pool>,
    request: Request<Incoming>,
    gate: Option<Gate>,
) -> Result<Response<Body>, Error> {
    let wants_upgrade = request.headers().contains_key(UPGRADE);
    let replay = replay(&request);
    let request = request.map(|body| RequestBody::new(body, gate));
    let upload = request.body().upload();
    match pool.send(request, replay).await? {
        Answer::Response(response) => {
            let (mut parts, body) = response.into_parts();
            if upload.is_held() {
                // The app has answered without asking for the body. The client may take that as "don't send
                // it" or send it all the same; only closing makes the end of this request unmistakable.
                parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let body = Body::app(body, &parts.headers);
            Ok(Response::from_parts(parts, body))
        }
        Answer::Upgraded { response, stream, unread } if wants_upgrade => {
            Ok(response.map(|()| Body::upgrade(stream, unread)))
        }
        Answer::Upgraded { .. } => Err(Error::Upstream(UpstreamFailure::Invalid)),
    }
}

/// Holds the request's body back until the app says 100 (Continue).
fn gate(request: &mut Request<Incoming>, client_sends: &Rc<Cell<bool>>) -> Gate {
    let (tell, asked) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(tell) = tell.lock().ok().and_then(|mut tell| tell.take())
        {
            // The gate is gone when the exchange has ended meanwhile.
            let _ = tell.send(());
        }
    });
    Gate::new(asked, Rc::clone(client_sends))
}

/// When this request may be sent twice (RFC 9110, section 9.2.2).
fn replay(request: &Request<Incoming>) -> Replay {
    use http_body::Body as _;
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    if idempotent && request.body().is_end_stream() { Replay::Unanswered } else { Replay::Unwritten }
}

fn expects_continue(request: &Request<Incoming>) -> bool {
    use http_body::Body as _;
    request.headers().get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && !request.body().is_end_stream()
}
