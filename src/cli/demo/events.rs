//! The stream of events (`text/event-stream`) that the app sends: each with a number, and a text that follows from
//! it, so that a client knows when one is missing or damaged.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

/// Where the stream is.
pub(super) const PATH: &str = "/events";
/// What it is.
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/event-stream");
/// The event that a client saw last, when it comes back.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Between two events.
const PAUSE: Duration = Duration::from_millis(40);

/// An event on the wire, with the empty line that ends it.
pub(super) fn event(id: u64) -> String {
    let text: String = ('a'..='z').cycle().take((id * 7 % 500) as usize).collect();
    format!("id: {id}\ndata: {text}\n\n")
}

/// The events from a number on, without an end.
#[derive(Debug)]
pub(super) struct Events {
    next: u64,
    pause: Pin<Box<Sleep>>,
}

impl Events {
    /// Those that come after the one with this number.
    pub(super) fn after(last: u64) -> Self {
        Self { next: last + 1, pause: Box::pin(sleep(PAUSE)) }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        ready!(self.pause.as_mut().poll(cx));
        self.pause.as_mut().reset(Instant::now() + PAUSE);
        let event = event(self.next);
        self.next += 1;
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_go_on_where_the_client_was() {
        let mut events = Events::after(41);
        for expected in ["id: 42\ndata: ", "id: 43\ndata: "] {
            let frame = events.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(frame.starts_with(expected.as_bytes()) && frame.ends_with(b"\n\n"));
        }
        assert_ne!(event(1).len(), event(2).len());
    }
}
