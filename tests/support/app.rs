//! The app behind ebb: an origin on a real socket, each of whose steps a test can decide.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::message::{Body, Head};
use super::wire::Wire;
use super::within;

type Handling = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
type Handler = Arc<dyn Fn(Exchange) -> Handling + Send + Sync>;

/// An origin. Dropping it kills it.
pub(crate) struct App {
    /// Bound, never listening: keeps the port from others while the app is down.
    reserved: TcpSocket,
    handler: Handler,
    in_flight: Arc<AtomicUsize>,
    running: Option<Running>,
    scripted: mpsc::UnboundedReceiver<Exchange>,
}

/// The accept loop and, inside it, the connections.
struct Running {
    accepting: JoinSet<()>,
    /// Closed when the last connection is gone.
    alive: mpsc::Receiver<()>,
}

impl App {
    /// An app that does nothing by itself: the test takes each request with [`App::request`].
    pub(crate) fn scripted() -> Self {
        let (sender, scripted) = mpsc::unbounded_channel();
        let handler: Handler = Arc::new(move |exchange| {
            // The receiver is gone only when the whole app is.
            let _ = sender.send(exchange);
            Box::pin(async { Ok(()) })
        });
        Self::new(handler, scripted)
    }

    /// An app that handles every request by itself.
    pub(crate) fn answering<H, F>(handler: H) -> Self
    where
        H: Fn(Exchange) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |exchange| Box::pin(handler(exchange)));
        Self::new(handler, mpsc::unbounded_channel().1)
    }

    /// An app that says hello to everything.
    pub(crate) fn hello() -> Self {
        Self::answering(|mut exchange| async move {
            exchange.body().await?;
            exchange.answer("200 OK", "hello").await?;
            exchange.keep();
            Ok(())
        })
    }

    fn new(handler: Handler, scripted: mpsc::UnboundedReceiver<Exchange>) -> Self {
        let reserved = bound((Ipv4Addr::LOCALHOST, 0).into());
        let mut app = Self { reserved, handler, in_flight: Arc::default(), running: None, scripted };
        app.start();
        app
    }

    /// Listens on its port, at first or again.
    pub(crate) fn start(&mut self) {
        assert!(self.running.is_none(), "the app runs already");
        let listener = bound(self.addr()).listen(1024).expect("a listener");
        let (token, alive) = mpsc::channel(1);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&self.handler), Arc::clone(&self.in_flight), token));
        self.running = Some(Running { accepting, alive });
    }

    /// Ends as if by SIGKILL: everything that the app itself handles is cut, and its port refuses. An
    /// [`Exchange`] that the test has in its hands is the test's to drop.
    pub(crate) async fn kill(&mut self) {
        let mut running = self.running.take().expect("a running app");
        running.accepting.shutdown().await;
        within("the app's connections to close", running.alive.recv()).await;
        // A child process that another test is just starting has a copy of the listener until its exec.
        within("the app's port to refuse", async { while TcpStream::connect(self.addr()).await.is_ok() {} })
            .await;
    }

    /// Where the app listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.reserved.local_addr().expect("the app's address")
    }

    /// The next request of a scripted app, on whatever connection it comes.
    pub(crate) async fn request(&mut self) -> Exchange {
        within("a request to reach the app", self.scripted.recv()).await.expect("a scripted app")
    }

    /// The next request, if one is here already.
    pub(crate) fn request_now(&mut self) -> Option<Exchange> {
        self.scripted.try_recv().ok()
    }

    /// Requests whose [`Exchange`] has not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }
}

/// A socket for the app's port, which several may be bound to as long as none of the others listens.
fn bound(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket.bind(addr).expect("the app's port");
    socket
}

async fn accept(
    listener: TcpListener,
    handler: Handler,
    in_flight: Arc<AtomicUsize>,
    token: mpsc::Sender<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("the app accepts");
        let (handler, in_flight, token) = (Arc::clone(&handler), Arc::clone(&in_flight), token.clone());
        connections.spawn(async move {
            // An error here is ebb's hanging up, which it may.
            let _ = serve(stream, handler, in_flight).await;
            drop(token);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, handler: Handler, in_flight: Arc<AtomicUsize>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head().await? {
        let (give_back, given_back) = oneshot::channel();
        in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(Arc::clone(&in_flight));
        handler(Exchange { head, wire, give_back, in_flight: guard }).await?;
        match given_back.await {
            Ok(back) => wire = back,
            Err(_) => break,
        }
    }
    Ok(())
}

/// One request that is being handled.
#[derive(Debug)]
struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A request that has reached the app, and its connection. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The request's head.
    pub(crate) head: Head,
    /// The connection, after that head.
    pub(crate) wire: Wire,
    give_back: oneshot::Sender<Wire>,
    in_flight: InFlight,
}

impl Exchange {
    /// ebb's end of this connection.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.wire.stream().peer_addr().expect("the peer's address")
    }

    /// Reads the request's body.
    pub(crate) async fn body(&mut self) -> io::Result<Body> {
        self.wire.body(self.head.request_framing()).await
    }

    /// Sends a whole response with a `Content-Length`.
    pub(crate) async fn answer(&mut self, status: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        self.wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")).await
    }

    /// Sends a head and leaves the body, chunked, to [`Exchange::chunk`].
    pub(crate) async fn begin_chunked(&mut self) -> io::Result<()> {
        self.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await
    }

    /// Sends a chunk; the empty one is the last.
    pub(crate) async fn chunk(&mut self, bytes: &str) -> io::Result<()> {
        self.wire.send(format!("{:x}\r\n{bytes}\r\n", bytes.len())).await
    }

    /// Waits for the next request on this connection.
    pub(crate) fn keep(self) {
        drop(self.in_flight);
        // When nobody takes it, the app was killed, and the connection ends here.
        let _ = self.give_back.send(self.wire);
    }

    /// Ends the connection with a RST.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }
}

/// Lets an app be reached through a Unix socket too.
pub(crate) fn unix_door(path: &Path, app: &App) {
    let listener = UnixListener::bind(path).expect("a Unix socket");
    let addr = app.addr();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut app = TcpStream::connect(addr).await?;
                tokio::io::copy_bidirectional(&mut client, &mut app).await
            });
        }
    });
}
