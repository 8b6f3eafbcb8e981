//! Mending, on real sockets: what is repeated, and what never is.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::proxy_protocol::{Ends, Version};

struct Origin {
    listener: TcpListener,
    upstream: Rc<Upstream>,
}

impl Origin {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = Rc::new(Upstream::Tcp { host: "127.0.0.1".to_owned(), port });
        Self { listener, upstream }
    }

    async fn link(&self) -> (Rc<Lane>, Link, TcpStream) {
        self.link_with(None).await
    }

    async fn link_with(&self, preamble: Option<Preamble>) -> (Rc<Lane>, Link, TcpStream) {
        let limit = Duration::from_secs(5);
        let stream = stream::connect(&self.upstream, limit, preamble.as_ref()).await.unwrap();
        let lane = Lane::new(stream, Rc::clone(&self.upstream), limit, preamble);
        (Rc::clone(&lane), Link::new(lane), self.accept().await)
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin), n: usize) -> String {
    let mut bytes = vec![0; n];
    from.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn an_idempotent_request_is_repeated_when_the_app_had_closed() {
    let origin = Origin::new().await;
    let (lane, mut link, app) = origin.link().await;
    drop(app);
    lane.arm(Replay::Unanswered);
    link.write_all(b"GET /").await.unwrap();
    let (answer, ()) = tokio::join!(read(&mut link, 2), async {
        let mut app = origin.accept().await;
        assert_eq!(read(&mut app, 5).await, "GET /");
        app.write_all(b"ok").await.unwrap();
    });
    assert_eq!(answer, "ok");
}

/// The request before must not be taken for the present one: it would be executed twice, and its answer given
/// to somebody else.
#[tokio::test]
async fn nothing_of_an_earlier_request_is_repeated() {
    let origin = Origin::new().await;
    let (lane, mut link, mut app) = origin.link().await;
    lane.arm(Replay::Unanswered);
    link.write_all(b"GET /old").await.unwrap();
    assert_eq!(read(&mut app, 8).await, "GET /old");
    app.write_all(b"1").await.unwrap();
    assert_eq!(read(&mut link, 1).await, "1");
    lane.disarm();
    drop(app);
    // As hyper does: it looks for a close before it writes.
    lane.arm(Replay::Unwritten);
    let mut byte = [0];
    let (answer, ()) = tokio::join!(
        async {
            let mut early = Box::pin(link.read_exact(&mut byte));
            let nothing = futures_poll_once(&mut early).await;
            assert!(nothing, "a new connection has nothing to say yet");
            drop(early);
            link.write_all(b"POST /new").await.unwrap();
            read(&mut link, 1).await
        },
        async {
            let mut app = origin.accept().await;
            assert_eq!(read(&mut app, 9).await, "POST /new");
            app.write_all(b"2").await.unwrap();
        }
    );
    assert_eq!(answer, "2");
}

/// Polls until it would wait twice: once for the connect, once for an answer.
async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    let mut polls = 0;
    std::future::poll_fn(|cx| match Pin::new(&mut *future).poll(cx) {
        Poll::Ready(_) => Poll::Ready(false),
        Poll::Pending if polls == 1 => Poll::Ready(true),
        Poll::Pending => {
            polls += 1;
            Poll::Pending
        }
    })
    .await
}

/// Without it the app would take the request for the header, and refuse it.
#[tokio::test]
async fn a_mended_connection_begins_with_the_same_header() {
    let origin = Origin::new().await;
    let ends = Ends { client: ([192, 0, 2, 1], 1).into(), server: ([192, 0, 2, 2], 80).into() };
    let line = "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n";
    let (lane, mut link, mut app) = origin.link_with(Some(Preamble::new(Version::V1, ends))).await;
    assert_eq!(read(&mut app, line.len()).await, line);
    drop(app);
    lane.arm(Replay::Unanswered);
    link.write_all(b"GET /").await.unwrap();
    let (answer, ()) = tokio::join!(read(&mut link, 2), async {
        let mut app = origin.accept().await;
        assert_eq!(read(&mut app, line.len() + 5).await, format!("{line}GET /"));
        app.write_all(b"ok").await.unwrap();
    });
    assert_eq!(answer, "ok");
}

#[tokio::test]
async fn a_written_post_is_not_repeated() {
    let origin = Origin::new().await;
    let (lane, mut link, mut app) = origin.link().await;
    lane.arm(Replay::Unwritten);
    link.write_all(b"POST /").await.unwrap();
    assert_eq!(read(&mut app, 6).await, "POST /");
    drop(app);
    assert_eq!(link.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn unasked_words_on_an_idle_connection_are_no_answer() {
    let origin = Origin::new().await;
    let (lane, mut link, mut app) = origin.link().await;
    app.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    drop(app);
    lane.arm(Replay::Unanswered);
    let (answer, ()) = tokio::join!(
        async {
            let mut byte = [0];
            let mut early = Box::pin(link.read_exact(&mut byte));
            assert!(futures_poll_once(&mut early).await);
            drop(early);
            link.write_all(b"GET /").await.unwrap();
            read(&mut link, 2).await
        },
        async {
            let mut app = origin.accept().await;
            assert_eq!(read(&mut app, 5).await, "GET /");
            app.write_all(b"ok").await.unwrap();
        }
    );
    assert_eq!(answer, "ok");
}

#[tokio::test]
async fn an_answer_that_began_is_never_asked_for_again() {
    let origin = Origin::new().await;
    let (lane, mut link, mut app) = origin.link().await;
    lane.arm(Replay::Unanswered);
    link.write_all(b"GET /").await.unwrap();
    assert_eq!(read(&mut app, 5).await, "GET /");
    app.write_all(b"H").await.unwrap();
    drop(app);
    assert_eq!(read(&mut link, 1).await, "H");
    assert_eq!(link.read(&mut [0]).await.unwrap(), 0);
}
