//! Our client and the h2 crate's server.

use std::future::poll_fn;
use std::task::{Poll, ready};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::server::{Builder, SendResponse};
use http::{Method, Request, Response};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};

use super::support::{
    Pieces, connect, exchange, h2_read, local, one_trailer, pattern, read, request, response, send,
};
use crate::http2::client::SendRequest;
use crate::http2::{Error, Reason, STREAM_WINDOW};

mod scripted;

type Order = Box<dyn FnOnce(&mut h2::server::Connection<DuplexStream, Bytes>)>;

/// An app that is driven by the h2 crate.
struct App {
    sender: SendRequest,
    ended: JoinHandle<Result<(), Error>>,
    /// Its side of the connection, and what it thinks of the requests.
    app: JoinHandle<()>,
    orders: mpsc::UnboundedSender<Order>,
}

impl App {
    fn new(builder: &Builder) -> Self {
        let (near, far) = duplex(20_000);
        let (orders, mut ordered) = mpsc::unbounded_channel::<Order>();
        let handshake = builder.handshake(far);
        let app = spawn_local(async move {
            let mut connection = handshake.await.unwrap();
            let mut streams = FuturesUnordered::new();
            poll_fn(|cx| {
                while let Poll::Ready(Some(order)) = ordered.poll_recv(cx) {
                    order(&mut connection);
                }
                while let Poll::Ready(Some(_)) = streams.poll_next_unpin(cx) {}
                while let Some(accepted) = ready!(connection.poll_accept(cx)) {
                    let Ok((request, respond)) = accepted else { break };
                    streams.push(answer(request, respond));
                    while let Poll::Ready(Some(_)) = streams.poll_next_unpin(cx) {}
                }
                Poll::Ready(())
            })
            .await;
        });
        let (sender, ended) = connect(near, 16 * STREAM_WINDOW);
        Self { sender, ended, app, orders }
    }

    fn order(&self, order: impl FnOnce(&mut h2::server::Connection<DuplexStream, Bytes>) + 'static) {
        self.orders.send(Box::new(order)).unwrap_or_else(|_| panic!("the app is gone"));
    }

    async fn echo(&self, len: usize, piece: usize) -> Bytes {
        exchange(&self.sender, "/echo", Pieces::new(&pattern(len), piece, None)).await.unwrap().0
    }
}

async fn answer(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut path = head.uri.path()[1..].split('/');
    let what = path.next().unwrap();
    let number: u32 = path.next().map_or(0, |number| number.parse().unwrap());
    match what {
        "echo" | "continue" => {
            if what == "continue" {
                let mut response = Response::new(());
                *response.status_mut() = http::StatusCode::CONTINUE;
                respond.send_informational(response)?;
            }
            let mut response = Response::new(());
            *response.headers_mut() = head.headers;
            let mut stream = respond.send_response(response, false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                stream.send_data(data, false)?;
            }
            match body.trailers().await? {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            }
        }
        "head" => {
            let response = Response::builder().header("content-length", number).body(()).unwrap();
            respond.send_response(response, true).map(|_| ())
        }
        "reset" => {
            respond.send_reset(number.into());
            Ok(())
        }
        "hold" => {
            let reason = poll_fn(|cx| respond.poll_reset(cx)).await?;
            assert_eq!(u32::from(reason), number);
            Ok(())
        }
        _ => h2_read(body).await.map(|_| ()),
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_of_many_sizes_come_and_go() {
    local(async {
        for window in [16_385, 65_535, 1 << 20] {
            let mut builder = Builder::new();
            builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
            let app = App::new(&builder);
            for len in [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 131_072, 131_073, 300_000] {
                assert_eq!(app.echo(len, 20_011).await, pattern(len), "{len} bytes, window {window}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_window_of_one_byte_and_another_one_in_mid_stream() {
    local(async {
        let app = App::new(Builder::new().initial_window_size(1));
        assert_eq!(app.echo(300, 7).await, pattern(300));
        let (body, ()) = tokio::join!(app.echo(100_000, 9_999), async {
            app.order(|connection| connection.set_initial_window_size(30_000).unwrap());
        });
        assert_eq!(body, pattern(100_000));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trailers() {
    local(async {
        let app = App::new(&Builder::new());
        for len in [0, 70_000] {
            let trailers = Some(one_trailer("x-mine", "there"));
            let body = Pieces::new(&pattern(len), 20_000, trailers.clone());
            assert_eq!(exchange(&app.sender, "/echo", body).await, Ok((pattern(len), trailers)));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn resets_keep_their_codes() {
    local(async {
        let app = App::new(&Builder::new());
        for code in [0, 1, 2, 7, 8, 11, 13] {
            let path = format!("/reset/{code}");
            let (mut incoming, _outgoing) = app.sender.send_request(&request(&path), true).unwrap();
            assert_eq!(response(&mut incoming).await.unwrap_err(), Error::Reset(Reason(code)));
            let path = format!("/hold/{code}");
            let (_incoming, mut outgoing) = app.sender.send_request(&request(&path), false).unwrap();
            outgoing.reset(Reason(code));
        }
        drop(app.sender);
        assert_eq!(app.ended.await.unwrap(), Ok(()));
        app.app.await.unwrap();
    })
    .await;
}

/// Guards: what has been sent before the app goes is finished, what comes later can be sent elsewhere.
#[tokio::test(start_paused = true)]
async fn an_app_that_goes_finishes() {
    local(async {
        let app = App::new(&Builder::new());
        let (mut incoming, outgoing) = app.sender.send_request(&request("/echo"), false).unwrap();
        response(&mut incoming).await.unwrap();
        app.order(|connection| connection.graceful_shutdown());
        while app.sender.send_request(&request("/none"), true).is_ok() {
            tokio::task::yield_now().await;
        }
        let refused = app.sender.send_request(&request("/none"), true).unwrap_err();
        assert_eq!(refused, Error::Unprocessed(Reason::NO_ERROR));
        assert!(send(Pieces::new(&pattern(100_000), 9_999, None), outgoing).await);
        assert_eq!(read(incoming).await.unwrap().0, pattern(100_000));
        app.ended.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_breaks_off() {
    local(async {
        let app = App::new(&Builder::new());
        let (mut incoming, _outgoing) = app.sender.send_request(&request("/echo"), false).unwrap();
        response(&mut incoming).await.unwrap();
        app.order(|connection| connection.abrupt_shutdown(h2::Reason::INTERNAL_ERROR));
        assert!(matches!(read(incoming).await, Err(Error::Gone(_))));
        assert!(app.sender.send_request(&request("/none"), true).is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_continue_is_heard_once() {
    local(async {
        let app = App::new(&Builder::new());
        let (mut incoming, outgoing) = app.sender.send_request(&request("/continue"), false).unwrap();
        let body = async {
            response(&mut incoming).await.unwrap();
            assert_eq!((incoming.take_continue(), incoming.take_continue()), (true, false));
            read(incoming).await.unwrap().0
        };
        let (body, sent) = tokio::join!(body, send(Pieces::new(&pattern(10), 3, None), outgoing));
        assert_eq!((body, sent), (pattern(10), true));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_response_to_a_head_has_a_length_and_no_body() {
    local(async {
        let app = App::new(&Builder::new());
        let mut head = request("/head/12345");
        *head.method_mut() = Method::HEAD;
        let (mut incoming, _outgoing) = app.sender.send_request(&head, true).unwrap();
        let response = response(&mut incoming).await.unwrap();
        assert_eq!(response.headers()["content-length"], "12345");
        assert_eq!(read(incoming).await.unwrap().0, "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_the_app_allows_wait_for_each_other() {
    local(async {
        let app = App::new(Builder::new().max_concurrent_streams(1));
        // Until the app has said so, more than it allows could be opened.
        assert_eq!(app.echo(1, 1).await, pattern(1));
        assert_eq!(app.sender.streams_max(), 1);
        let all = (0..6).map(|at| app.echo(at * 9_000, 8_000));
        for (at, body) in futures_util::future::join_all(all).await.into_iter().enumerate() {
            assert_eq!(body, pattern(at * 9_000));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn heads_of_many_frames() {
    local(async {
        let app = App::new(Builder::new().max_header_list_size(1 << 20));
        let mut large = request("/echo");
        large.headers_mut().insert("x-large", "x".repeat(60_000).parse().unwrap());
        let (mut incoming, _outgoing) = app.sender.send_request(&large, true).unwrap();
        let response = response(&mut incoming).await.unwrap();
        assert_eq!(response.headers()["x-large"].len(), 60_000);
    })
    .await;
}
