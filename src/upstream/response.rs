//! The body of a response on its way from the app.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Pool;
use super::body::{BodyError, Upload};
use super::conn::Conn;
use super::http2::Streamed;

/// The body of a response.
#[derive(Debug)]
pub struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Http1(Driven),
    Http2(Streamed),
}

impl From<Driven> for ResponseBody {
    fn from(body: Driven) -> Self {
        Self(Kind::Http1(body))
    }
}

impl From<Streamed> for ResponseBody {
    fn from(body: Streamed) -> Self {
        Self(Kind::Http2(body))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Http1(body) => Pin::new(body).poll_frame(cx),
            Kind::Http2(body) => Pin::new(&mut body.incoming).poll_frame(cx).map_err(BodyError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Http1(body) => body.is_end_stream(),
            Kind::Http2(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Http1(body) => body.size_hint(),
            Kind::Http2(body) => body.incoming.size_hint(),
        }
    }
}

/// The body of a response over HTTP/1.1. It drives the connection that it comes from and gives it back to the pool.
#[derive(Debug)]
pub(super) struct Driven {
    incoming: hyper::body::Incoming,
    conn: Option<Box<Conn>>,
    pool: Rc<Pool>,
    upload: Upload,
}

impl Driven {
    pub(super) fn new(
        incoming: hyper::body::Incoming,
        conn: Option<Box<Conn>>,
        pool: &Rc<Pool>,
        upload: &Upload,
    ) -> Self {
        Self { incoming, conn, pool: Rc::clone(pool), upload: upload.clone() }
    }
}

impl Body for Driven {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Asking for a frame lets the connection know that one is wanted, so it is asked before and after.
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(conn) = &mut this.conn
        {
            let over = conn.drive(cx).is_ready();
            polled = Pin::new(&mut this.incoming).poll_frame(cx);
            if over {
                this.conn = None;
            }
        }
        let frame = ready!(polled.map_err(BodyError::Http1));
        // Trailers are the last frame, and nobody asks for another.
        let last = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || this.incoming.is_end_stream(),
            _ => true,
        };
        if last && let Some(mut conn) = this.conn.take() {
            // Lets the connection see that the body is over.
            if conn.drive(cx).is_pending() {
                this.pool.release(conn, &this.upload);
            }
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
