//! The bodies on the way to and from the app.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::Pool;
use super::conn::Conn;

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    gate: Option<Gate>,
    upload: Upload,
}

/// Whether a request's body is still on its way.
#[derive(Debug, Clone, Default)]
pub struct Upload(Option<Rc<Cell<State>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Held back until the app asks for it.
    Held,
    Flowing,
    Over,
}

impl Upload {
    /// Part of the body has been or can be sent, and part is still to come.
    pub(super) fn under_way(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.get() == State::Flowing)
    }

    /// None of the body has been asked for.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.get() == State::Held)
    }

    fn set(&self, state: State) {
        if let Some(cell) = &self.0 {
            cell.set(state);
        }
    }
}

/// Holds a body back until the app has said 100 (Continue), or the client sends it unasked.
///
/// A client need not wait for ever (RFC 9110, section 10.1.1), and an app need not say 100. Then the client begins
/// to send, and its connection notes that and polls again.
#[derive(Debug)]
pub struct Gate {
    asked: oneshot::Receiver<()>,
    client_sends: Rc<Cell<bool>>,
    open: bool,
}

impl Gate {
    /// A gate that opens when `asked` is sent to, or when `client_sends` is true.
    #[must_use]
    pub fn new(asked: oneshot::Receiver<()>, client_sends: Rc<Cell<bool>>) -> Self {
        Self { asked, client_sends, open: false }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Dropped unsent means that the response has come without a 100: then the body stays where it is.
        self.open |= self.client_sends.get()
            || (!self.asked.is_terminated()
                && matches!(Pin::new(&mut self.asked).poll(cx), Poll::Ready(Ok(()))));
        if self.open { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl RequestBody {
    /// A client's body, behind a gate or not.
    #[must_use]
    pub fn new(incoming: Incoming, gate: Option<Gate>) -> Self {
        let state = match (incoming.is_end_stream(), &gate) {
            (true, _) => None,
            (false, Some(_)) => Some(State::Held),
            (false, None) => Some(State::Flowing),
        };
        let upload = Upload(state.map(|state| Rc::new(Cell::new(state))));
        Self { incoming, gate, upload }
    }

    /// Tells how far the body is, even after it has been handed over.
    #[must_use]
    pub fn upload(&self) -> Upload {
        self.upload.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll_open(cx));
            self.gate = None;
            self.upload.set(State::Flowing);
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if frame.is_none() || self.incoming.is_end_stream() {
            self.upload.set(State::Over);
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
        self.upload.set(State::Over);
    }
}

/// The body of a response. It drives the connection that it comes from and gives it back to the pool.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    conn: Option<Box<Conn>>,
    pool: Rc<Pool>,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, conn: Option<Box<Conn>>, pool: &Rc<Pool>) -> Self {
        Self { incoming, conn, pool: Rc::clone(pool) }
    }

    /// The body is over: lets the connection see that, and returns it if it can go on.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        if let Some(mut conn) = self.conn.take()
            && conn.drive(cx).is_pending()
            && conn.sender.is_ready()
        {
            self.pool.put(conn);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Asking for a frame lets the connection know that one is wanted, so it is asked before and after.
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let this = &mut *self;
        if polled.is_pending()
            && let Some(conn) = &mut this.conn
        {
            let over = conn.drive(cx).is_ready();
            polled = Pin::new(&mut this.incoming).poll_frame(cx);
            if over {
                this.conn = None;
            }
        }
        let frame = ready!(polled);
        if frame.is_none() || self.incoming.is_end_stream() {
            self.give_back(cx);
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
