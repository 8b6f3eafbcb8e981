//! The bodies on the way to and from the app.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::http2::{self, Reason, Receiving};

/// A body as it comes in, from the client or the app.
#[derive(Debug)]
pub enum Incoming {
    /// Over HTTP/1.1.
    Http1(hyper::body::Incoming),
    /// Over HTTP/2.
    Http2(Receiving),
    /// None.
    Empty,
}

/// Why a body does not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Over HTTP/1.1: the connection broke, or what came is not HTTP.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// Over HTTP/2: the stream was reset, or the connection broke.
    #[error(transparent)]
    Http2(#[from] http2::Error),
}

impl BodyError {
    /// The code, if the other side has reset the stream.
    #[must_use]
    pub fn reset(&self) -> Option<Reason> {
        match self {
            Self::Http2(http2::Error::Reset(reason)) => Some(*reason),
            _ => None,
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Http1),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Http2),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    gate: Option<Gate>,
    upload: Upload,
    /// What happens to it concerns the upload: it has a body, which has not come to its end.
    counts: bool,
    /// Which of the connection's requests it belongs to.
    request: u64,
}

/// What is known of the body that a connection's present request has; one for each client connection.
#[derive(Debug, Clone, Default)]
pub struct Upload(Rc<UploadState>);

#[derive(Debug, Default)]
struct UploadState {
    stage: Cell<UploadStage>,
    client_sends: Cell<bool>,
    /// Shared by all exchanges of a connection.
    settling: Rc<Cell<usize>>,
    /// Counts requests: the body of an earlier one may still be on its way to the app.
    request: Cell<u64>,
    /// Why the client does not want the response any more, over HTTP/2.
    reset: Cell<Option<Reason>>,
    /// Waits for that.
    sender: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum UploadStage {
    /// There is none, or all of it has been read from the client.
    #[default]
    Over,
    /// Nobody wants what has not been read of it.
    Left,
    /// Held back until the app asks for it.
    Held,
    Flowing,
    /// It broke off: the client's fault.
    Broken,
}

impl Upload {
    /// For another exchange on the same connection: what settles there counts here too.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self(Rc::new(UploadState { settling: Rc::clone(&self.0.settling), ..UploadState::default() }))
    }

    /// A request has come. Nobody has asked for its body yet, and perhaps nobody will.
    pub fn begins(&self, has_body: bool) {
        self.0.stage.set(if has_body { UploadStage::Left } else { UploadStage::Over });
    }

    /// All of the body has been read: what comes next is another request.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.stage.get() == UploadStage::Over
    }

    /// Part of the body may still come from the client.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.0.stage.get(), UploadStage::Held | UploadStage::Flowing)
    }

    /// None of the body has been asked for.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.stage.get() == UploadStage::Held
    }

    /// The client broke it off.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.stage.get() == UploadStage::Broken
    }

    /// Something of it has not reached the app yet.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.is_open() || self.is_settling()
    }

    /// The client has sent something that has not reached the app yet, of this request or an earlier one.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        self.0.settling.get() > 0
    }

    /// The code with which the client has reset the exchange.
    #[must_use]
    pub fn reset(&self) -> Option<Reason> {
        self.0.reset.get()
    }

    /// The client has reset the exchange: what is dropped from now on is dropped for that reason.
    pub fn set_reset(&self, reason: Reason) {
        self.0.reset.set(Some(reason));
        if let Some(sender) = self.0.sender.take() {
            sender.wake();
        }
    }

    /// Ready when the client has reset the exchange. For whoever sends the body: it may be stuck with an app that
    /// does not read, and would not look at what comes from the client.
    pub(super) fn poll_reset(&self, cx: &Context<'_>) -> Poll<Reason> {
        match self.reset() {
            Some(reason) => Poll::Ready(reason),
            None => {
                *self.0.sender.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Says whether the client sends its body though nobody has asked for it.
    pub fn set_client_sends(&self, sends: bool) -> bool {
        self.0.client_sends.replace(sends) != sends
    }

    /// Keeps the upload under way until the guard is dropped.
    pub(super) fn settling(&self) -> Settling {
        self.0.settling.set(self.0.settling.get() + 1);
        Settling(self.clone())
    }
}

/// What the client has sent is still being written to the app.
#[derive(Debug)]
pub(super) struct Settling(Upload);

impl Drop for Settling {
    fn drop(&mut self) {
        let settling = &self.0.0.settling;
        settling.set(settling.get() - 1);
    }
}

/// Holds a body back until the app has said 100 (Continue), or the client sends it unasked.
///
/// A client need not wait for ever (RFC 9110, section 10.1.1), and an app need not say 100. Then the client begins
/// to send, and its connection notes that and polls again.
#[derive(Debug)]
pub struct Gate(oneshot::Receiver<()>);

impl Gate {
    /// A gate that opens when something is sent to `asked`, or when the client sends.
    #[must_use]
    pub fn new(asked: oneshot::Receiver<()>) -> Self {
        Self(asked)
    }

    fn poll_open(&mut self, client_sends: bool, cx: &mut Context<'_>) -> Poll<()> {
        // Dropped unsent means that the response has come without a 100: then the body stays where it is.
        let asked = !self.0.is_terminated() && matches!(Pin::new(&mut self.0).poll(cx), Poll::Ready(Ok(())));
        if asked || client_sends { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Tells a [`Gate`] that the app has said 100 (Continue). Travels in the request's extensions.
#[derive(Debug, Clone)]
pub struct Asked(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl Asked {
    /// For the gate at the other end of `tell`.
    #[must_use]
    pub fn new(tell: oneshot::Sender<()>) -> Self {
        Self(Arc::new(Mutex::new(Some(tell))))
    }

    /// Opens the gate.
    pub fn tell(&self) {
        if let Some(tell) = self.0.lock().ok().and_then(|mut tell| tell.take()) {
            // The gate is gone when the exchange has ended meanwhile.
            let _ = tell.send(());
        }
    }
}

impl RequestBody {
    /// A client's body, behind a gate or not; `upload` is its connection's.
    #[must_use]
    pub fn new(incoming: Incoming, gate: Option<Gate>, upload: &Upload) -> Self {
        let counts = !incoming.is_end_stream();
        upload.0.stage.set(match (counts, &gate) {
            (false, _) => UploadStage::Over,
            (true, Some(_)) => UploadStage::Held,
            (true, None) => UploadStage::Flowing,
        });
        let request = upload.0.request.get() + 1;
        upload.0.request.set(request);
        Self { incoming, gate, upload: upload.clone(), counts, request }
    }

    /// The body as it came, if nothing has been taken from it.
    #[must_use]
    pub fn into_incoming(mut self) -> Incoming {
        self.counts = false;
        std::mem::replace(&mut self.incoming, Incoming::Empty)
    }

    /// Whether it belongs to the present request; what becomes of an earlier one's body says nothing about it.
    fn is_present(&self) -> bool {
        self.request == self.upload.0.request.get()
    }

    pub(super) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// The last word about the upload: from then on it may be another request's.
    fn ends(&mut self, stage: UploadStage) {
        if std::mem::take(&mut self.counts) && self.is_present() {
            self.upload.0.stage.set(stage);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let present = this.is_present();
        if let Some(gate) = &mut this.gate {
            ready!(gate.poll_open(present && this.upload.0.client_sends.get(), cx));
            this.gate = None;
            if present {
                this.upload.0.stage.set(UploadStage::Flowing);
            }
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if matches!(frame, Some(Err(_))) {
            self.ends(UploadStage::Broken);
        } else if frame.is_none() || self.incoming.is_end_stream() {
            self.ends(UploadStage::Over);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.ends(UploadStage::Left);
    }
}
