//! Requests whose heads go to the app as they came, from one connection over HTTP/2 to another.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::call::{Call, Unsent};
use super::{Failed, Slot};
use crate::http2::{Error, Head, RecvStream, SendStream};
use crate::metrics::{Shard, UpstreamFailure};
use crate::upstream::link::Replay;
use crate::upstream::{Pool, RequestBody, ResponseBody, SendError};

/// Says that a request has been sent once already, and has not been processed; in its extensions.
#[derive(Debug, Clone, Copy)]
pub struct Repeated;

/// Room for a request on a connection to the app that is there already.
#[derive(Debug)]
pub struct Place(Slot);

/// A request that has been sent.
#[derive(Debug)]
pub struct Direct {
    /// None after its end.
    call: Option<Call<Head>>,
    replay: Replay,
    shard: Arc<Shard>,
}

/// Why there is no response.
#[derive(Debug)]
pub enum NoAnswer {
    /// The app has not processed the request, which may be sent again: [`Repeated`].
    Unprocessed(Box<(Head, RequestBody)>),
    /// As for any other request.
    Failed(SendError),
}

impl Pool {
    /// Room for a request of a client that speaks HTTP/2; none when a connection has to be opened for it, or when it has to
    /// go to the app in another way.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let speaks = self.speaks_http2(http::Version::HTTP_2) && self.send_proxy().is_none();
        if speaks { self.mux.find().map(Place) } else { None }
    }
}

impl Place {
    /// Sends the head that `write` appends; it is the whole request if it is its `end`. None when the connection has ended
    /// meanwhile.
    pub fn open(
        &self,
        is_head: bool,
        end: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<(RecvStream, SendStream)> {
        let Slot { conn, mux } = &self.0;
        let opened = conn.sender.send(is_head, end, write);
        if opened.is_err() {
            mux.forget(conn);
        }
        opened.ok()
    }

    /// Waits for the response to the request with this head, which has been sent on `stream`.
    #[must_use]
    pub fn wait(
        self,
        head: Head,
        stream: (RecvStream, SendStream),
        body: RequestBody,
        replay: Replay,
    ) -> Direct {
        let shard = Arc::clone(&self.0.mux.shard);
        Direct { call: Some(Call::sent(self.0, head, stream, body)), replay, shard }
    }
}

impl Direct {
    /// Waits for the response.
    ///
    /// # Errors
    /// There is none.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, ResponseBody), NoAnswer>> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        let head = ready!(call.poll_head(cx));
        let Some(call) = self.call.take() else { return Poll::Pending };
        Poll::Ready(match head {
            Ok(head) => Ok((head, call.into_body().into())),
            Err(error) => Err(self.fail(call, error)),
        })
    }

    fn fail(&self, call: Call<Head>, error: Option<Error>) -> NoAnswer {
        match call.into_unanswered(error).into_unsent(true, self.replay) {
            Ok(Unsent { head, body }) => NoAnswer::Unprocessed(Box::new((head, body))),
            Err(Failed::Send(error)) => {
                if let SendError::App(failure) = error {
                    self.shard.upstream_failures[failure as usize].inc();
                }
                NoAnswer::Failed(error)
            }
            Err(Failed::NotSpoken(_)) => NoAnswer::Failed(SendError::App(UpstreamFailure::Invalid)),
        }
    }
}
