//! The pages that the app serves: each with a length and a content of its own, so that a client knows
//! whether it got the whole of the right one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// Pages have the numbers below this.
pub(super) const PAGES: u16 = 1000;

/// A page is sent in pieces of this size...
const PIECE: usize = 1024;
/// ...with this much time between them, as if they came from a database.
const PAUSE: Duration = Duration::from_millis(2);

/// The whole of a page: 2 to 6 KB.
pub(super) fn content(page: u16) -> Bytes {
    let length = 2000 + usize::from(page) * 4;
    (b'a'..=b'z').cycle().skip(usize::from(page % 26)).take(length).collect()
}

/// How long the app thinks before it answers with a page: 2 to 21 ms.
pub(super) fn thinking(page: u16) -> Duration {
    Duration::from_millis(2 + u64::from(page) % 20)
}

/// A page as a response body that takes its time.
#[derive(Debug)]
pub(super) struct PagedOut {
    rest: Bytes,
    pause: Pin<Box<Sleep>>,
}

impl PagedOut {
    /// The body of a page.
    pub(super) fn new(page: u16) -> Self {
        Self { rest: content(page), pause: Box::pin(sleep(PAUSE)) }
    }
}

impl Body for PagedOut {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.pause.as_mut().poll(cx));
        self.pause.as_mut().reset(Instant::now() + PAUSE);
        let piece = PIECE.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn neighbouring_pages_differ_in_length_and_content() {
        assert_eq!(&content(27)[..3], b"bcd");
        assert_eq!(content(27).len() - content(26).len(), 4);
        assert_eq!(content(PAGES - 1).len(), 5996);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_takes_its_time_and_arrives_whole() {
        let start = Instant::now();
        let sent = PagedOut::new(600).collect().await.unwrap().to_bytes();
        assert_eq!(sent, content(600));
        assert_eq!(start.elapsed(), PAUSE * 5);
    }
}
