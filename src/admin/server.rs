//! HTTP/1.1 for few clients: connections are accepted, bounded in their number, and ended in order.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, sleep, timeout};

use super::router::Answer;

/// A port at work.
#[derive(Debug)]
pub struct Serving {
    finish: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Accepts nobody any more, lets every answer under way be taken (for so long at most), and ends.
    pub async fn finish(self, limit: Duration) {
        self.finish.send_replace(true);
        // The task ends by itself; the time-out is for a caller that does not take its answer.
        let _ = timeout(limit, self.task).await;
    }
}

/// What a connection has of the whole.
#[derive(Debug)]
pub(crate) struct Seat {
    finishing: watch::Receiver<bool>,
    /// A request is being answered.
    busy: Arc<AtomicBool>,
}

/// Serves each connection with `serve`, `max` at a time, until [`Serving::finish`].
pub(crate) fn serve<S, F>(listener: TcpListener, max: usize, serve: S) -> Serving
where
    S: Fn(TcpStream, SocketAddr, Seat) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (finish, finishing) = watch::channel(false);
    let task = tokio::spawn(accept(listener, max, serve, finishing));
    Serving { finish, task }
}

async fn accept<S, F>(listener: TcpListener, max: usize, serve: S, mut finishing: watch::Receiver<bool>)
where
    S: Fn(TcpStream, SocketAddr, Seat) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut open = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if open.len() >= max && !make_room(&mut open) {
                        continue;
                    }
                    let busy = Arc::new(AtomicBool::new(false));
                    let seat = Seat { finishing: finishing.clone(), busy: Arc::clone(&busy) };
                    open.push_back((connections.spawn(serve(stream, peer, seat)), busy));
                }
                // Out of file descriptors, most likely: not to be tried again at once.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => open.retain(|(task, _)| !task.is_finished()),
            () = told(&mut finishing) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Closes the oldest connection without a request: whoever just holds connections open must not keep a hook
/// out. False when all are at work.
fn make_room(open: &mut VecDeque<(AbortHandle, Arc<AtomicBool>)>) -> bool {
    let oldest = open.iter().position(|(_, busy)| !busy.load(Relaxed));
    let found = oldest.and_then(|oldest| open.remove(oldest));
    if let Some((task, _)) = &found {
        task.abort();
    }
    found.is_some()
}

/// Waits for the end to be announced.
async fn told(finishing: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to announce it: the end, too.
    let _ = finishing.wait_for(|finish| *finish).await;
}

/// A connection, of whatever kind.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// An answer under way.
type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

impl Seat {
    /// Answers requests until the client goes, is silent for `patience`, or the end comes.
    pub(crate) async fn http1<A, F>(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin,
        patience: Duration,
        answer: A,
    ) -> hyper::Result<()>
    where
        A: Fn(Request<Incoming>) -> F + Sync,
        F: Future<Output = Answer> + Send,
    {
        self.serve(Box::new(stream), patience, &|request| Box::pin(answer(request))).await
    }

    /// Not generic, so that the program has hyper's server for few clients once, not for each of these ports.
    async fn serve<'a>(
        mut self,
        stream: Box<dyn Connection + 'a>,
        patience: Duration,
        answer: &'a (dyn Fn(Request<Incoming>) -> Answering<'a> + Sync),
    ) -> hyper::Result<()> {
        let busy = &self.busy;
        let service = service_fn(|request| {
            let answer = answer(request);
            async move {
                busy.store(true, Relaxed);
                let answer = answer.await;
                busy.store(false, Relaxed);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = told(&mut self.finishing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }
}
