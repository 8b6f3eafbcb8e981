//! HTTP/2 clients and apps that keep to the protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::within;

/// A client connection.
pub(crate) struct Http2Client {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The fields of the head.
    pub(crate) head: HeaderMap,
    /// The content.
    pub(crate) body: Vec<u8>,
    /// The fields after it.
    pub(crate) trailers: Option<HeaderMap>,
}

impl Http2Client {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, &Builder::new()).await
    }

    /// Connects with settings.
    pub(crate) async fn connect_with(addr: SocketAddr, builder: &Builder) -> Self {
        let stream = within("connecting", TcpStream::connect(addr)).await.expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let (sender, driver) = within("a handshake", builder.handshake(stream)).await.expect("a handshake");
        Self { sender, driver: tokio::spawn(driver) }
    }

    /// Sends a request's head.
    pub(crate) async fn send(&mut self, head: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_send(head, end).await.expect("to send a request")
    }

    /// The same, on a connection that may be over.
    pub(crate) async fn try_send(
        &mut self,
        head: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut sender = within("room for a stream", self.sender.clone().ready()).await?;
        sender.send_request(head, end)
    }

    /// Waits until the server's settings allow extended CONNECT.
    pub(crate) async fn until_extended_connect(&self) {
        let allowed = async {
            while !self.sender.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
        };
        within("the server's settings", allowed).await;
    }

    /// Sends a GET and leaves the response for later.
    pub(crate) async fn begin(&mut self, path: &str) -> ResponseFuture {
        self.send(get(path), true).await.0
    }

    /// Sends a GET and reads the response.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let response = self.begin(path).await;
        answer(response).await.expect("a response")
    }

    /// Waits for the connection's end.
    pub(crate) async fn ended(&mut self) -> Result<(), h2::Error> {
        within("the connection's end", &mut self.driver).await.expect("no panic")
    }

    /// Ends the connection at once.
    pub(crate) async fn vanish(self) {
        self.driver.abort();
        let _ = self.driver.await;
    }
}

impl Answer {
    /// A field of the head; empty when it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        text(&self.head, name)
    }
}

/// A field; empty when it is not there.
pub(crate) fn text<'a>(fields: &'a HeaderMap, name: &str) -> &'a str {
    fields.get(name).map_or("", |value| value.to_str().expect("ASCII"))
}

/// A GET.
pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://app.test{path}")).body(()).expect("a request")
}

/// A POST.
pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://app.test{path}")).body(()).expect("a request")
}

/// A gRPC call.
pub(crate) fn grpc(path: &str) -> Request<()> {
    let request = Request::post(format!("http://app.test{path}"));
    request.header("content-type", "application/grpc").header("te", "trailers").body(()).expect("a request")
}

/// Reads a whole response.
pub(crate) async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = within("a response", response).await?.into_parts();
    let (bytes, trailers) = read(&mut body).await?;
    Ok(Answer { status: head.status.as_u16(), head: head.headers, body: bytes, trailers })
}

/// Reads a body to its end.
pub(crate) async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = within("a body", body.data()).await {
        let data = data?;
        bytes.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok((bytes, within("trailers", body.trailers()).await?))
}

/// Reads the next piece of a body as text.
pub(crate) async fn piece(body: &mut RecvStream) -> Result<String, h2::Error> {
    let data = within("a piece of a body", body.data()).await.expect("more of the body")?;
    body.flow_control().release_capacity(data.len())?;
    Ok(String::from_utf8(data.to_vec()).expect("UTF-8"))
}

/// Sends bytes as far as the receiver has room for them, and waits for room.
pub(crate) async fn write(stream: &mut SendStream<Bytes>, bytes: &[u8], end: bool) -> Result<(), h2::Error> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx));
        match within("room in the window", room).await {
            Some(room) => {
                let part = bytes.split_to(room?.min(bytes.len()));
                stream.send_data(part, end && bytes.is_empty())?;
            }
            None => return Err(Reason::STREAM_CLOSED.into()),
        }
    }
    if end { stream.send_data(Bytes::new(), true).or(Ok(())) } else { Ok(()) }
}

/// Waits for the other side to reset a stream that is being sent on.
pub(crate) async fn reset(stream: &mut SendStream<Bytes>) -> Reason {
    within("a reset", std::future::poll_fn(|cx| stream.poll_reset(cx))).await.expect("a reset, not an end")
}

/// An origin that does nothing by itself: the test takes each request with [`Http2App::call`].
pub(crate) struct Http2App {
    addr: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    open: AtomicUsize,
    orders: Mutex<Vec<mpsc::UnboundedSender<Order>>>,
}

/// What an app's connection is to do.
enum Order {
    Leave,
    Kill,
}

/// A request that has reached the app.
pub(crate) struct Call {
    /// The request's head.
    pub(crate) request: Request<()>,
    /// Its body.
    pub(crate) body: RecvStream,
    /// The way back.
    pub(crate) respond: SendResponse<Bytes>,
    /// On which of the app's connections it has come, in the order in which they were accepted.
    pub(crate) connection: usize,
}

impl Http2App {
    /// An app whose connections have the usual settings.
    pub(crate) async fn start() -> Self {
        Self::start_with(server::Builder::new()).await
    }

    /// An app whose connections have these settings.
    pub(crate) async fn start_with(builder: server::Builder) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
        let addr = listener.local_addr().expect("its address");
        let (sender, calls) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, builder, sender, Arc::clone(&shared)));
        Self { addr, calls, shared, _accepting: accepting }
    }

    /// An app that answers every request with its own body, and ends with its trailers.
    pub(crate) async fn echo() -> SocketAddr {
        let app = Self::start().await;
        let addr = app.addr;
        tokio::spawn(async move {
            // All of it, not only what is used here.
            let mut app = app;
            while let Some(call) = app.calls.recv().await {
                tokio::spawn(echo(call));
            }
        });
        addr
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next request, on whatever connection it comes.
    pub(crate) async fn call(&mut self) -> Call {
        within("a request to reach the app", self.calls.recv()).await.expect("a scripted app")
    }

    /// The next request, if one is here already.
    pub(crate) fn call_now(&mut self) -> Option<Call> {
        self.calls.try_recv().ok()
    }

    /// Connections that ebb has opened so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Begins a graceful end of one connection: GOAWAY.
    pub(crate) fn leave(&self, connection: usize) {
        self.order(connection, Order::Leave);
    }

    /// Drops one connection, whatever is under way on it.
    pub(crate) fn kill(&self, connection: usize) {
        self.order(connection, Order::Kill);
    }

    fn order(&self, connection: usize, order: Order) {
        // The connection may be over.
        let _ = self.shared.orders.lock().expect("no panic")[connection].send(order);
    }
}

async fn accept(
    listener: TcpListener,
    builder: server::Builder,
    calls: mpsc::UnboundedSender<Call>,
    shared: Arc<Shared>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("the app accepts");
        let (order, orders) = mpsc::unbounded_channel();
        shared.orders.lock().expect("no panic").push(order);
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let (builder, calls, shared) = (builder.clone(), calls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            serve(stream, &builder, number, &calls, orders).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(
    stream: TcpStream,
    builder: &server::Builder,
    number: usize,
    calls: &mpsc::UnboundedSender<Call>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (head, body) = request.into_parts();
                    let request = Request::from_parts(head, ());
                    let _ = calls.send(Call { request, body, respond, connection: number });
                }
                // An error here is ebb's hanging up, which it may.
                _ => return,
            },
            Some(order) = orders.recv() => match order {
                Order::Leave => connection.graceful_shutdown(),
                Order::Kill => return,
            },
        }
    }
}

async fn echo(mut call: Call) -> Result<(), h2::Error> {
    let mut stream = call.respond.send_response(Response::new(()), false)?;
    while let Some(data) = call.body.data().await {
        let data = data?;
        write(&mut stream, &data, false).await?;
        call.body.flow_control().release_capacity(data.len())?;
    }
    match call.body.trailers().await? {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    }
}

impl Call {
    /// The request's path.
    pub(crate) fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// A field of the request, which must not be there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.request.headers().get_all(name).iter();
        let value = all.next().map(|value| value.to_str().expect("ASCII"));
        assert!(all.next().is_none(), "{name} twice: {:?}", self.request);
        value
    }

    /// Sends a head and leaves the body for later.
    pub(crate) fn begin(&mut self) -> SendStream<Bytes> {
        self.begin_with(Response::new(()))
    }

    /// Sends this head and leaves the body for later.
    pub(crate) fn begin_with(&mut self, head: Response<()>) -> SendStream<Bytes> {
        self.respond.send_response(head, false).expect("to send a head")
    }

    /// Sends a whole response.
    pub(crate) fn answer(mut self, body: &str) {
        let mut stream = self.begin();
        stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).expect("to send a body");
    }

    /// Sends the head of a gRPC response.
    pub(crate) fn begin_grpc(&mut self) -> SendStream<Bytes> {
        let head = Response::builder().header("content-type", "application/grpc").body(());
        self.begin_with(head.expect("a head"))
    }

    /// Waits until ebb resets the stream.
    pub(crate) async fn reset(&mut self) -> Reason {
        let reset = std::future::poll_fn(|cx| self.respond.poll_reset(cx));
        within("a reset to reach the app", reset).await.expect("a reset, not an end")
    }
}
