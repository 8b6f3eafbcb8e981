//! The app behind the proxy, on a thread of its own: a small server whose bodies are known. On one port it speaks
//! HTTP/1.1 with WebSockets and HTTP/2 with gRPC, on another it sends back what it gets.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::frames::ACCEPT;
use crate::response::has_token;

mod http2;
mod websocket;

/// Header fields that a request may have.
const MAX_HEADERS: usize = 64;

/// Who asks for this gets no answer, over HTTP/1.1.
pub const NEVER: &str = "/never";

/// The gRPC method that sends its message back as often as its first byte says, without a pause.
pub(crate) const BURST: &str = "/bench.Echo/Burst";

/// What is read of a request's body at a time.
const BLOCK: usize = 64 * 1024;

/// What bodies are filled up with; a prime number of bytes, so that a page that is missing shows.
const FILL: &[u8; 61] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXY";

/// What the app does.
#[derive(Debug, Clone)]
pub struct App {
    /// The size of a response's body in bytes.
    pub body: usize,
    /// How long a response takes; a random time in this range, in whole milliseconds.
    pub delay: RangeInclusive<Duration>,
    /// Sends bodies in two chunks instead of with a `Content-Length`.
    pub chunked: bool,
    /// Closes each connection after its first response without having said so.
    pub hang_up: bool,
}

impl Default for App {
    fn default() -> Self {
        Self { body: 128, delay: Duration::ZERO..=Duration::ZERO, chunked: false, hang_up: false }
    }
}

/// The body of the response to `target`: the target itself, then filler, `size` bytes in all. So a client sees
/// when it got an answer that belongs to someone else.
#[must_use]
pub fn body_of(target: &str, size: usize) -> Vec<u8> {
    let mut body: Vec<u8> = target.bytes().chain(*b"\n").take(size).collect();
    while body.len() < size {
        let missing = size - body.len();
        body.extend_from_slice(&FILL[..missing.min(FILL.len())]);
    }
    body
}

/// A message of this size whose every byte follows from the seed, which is its beginning.
pub(crate) fn pattern(seed: u64, size: usize) -> Bytes {
    let mut random = Random::new(seed);
    let mut message = Vec::with_capacity(size + 8);
    message.extend_from_slice(&seed.to_le_bytes());
    while message.len() < size {
        message.extend_from_slice(&random.next().to_le_bytes());
    }
    message.truncate(size);
    message.into()
}

/// Whether this is such a message; one that is too short for a seed may be anything.
fn is_pattern(message: &[u8]) -> bool {
    message.first_chunk().is_none_or(|seed| pattern(u64::from_le_bytes(*seed), message.len()) == message)
}

/// A running app. Dropping it stops it, with all its connections.
#[derive(Debug)]
pub struct Origin {
    addr: SocketAddr,
    tcp_addr: SocketAddr,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the app counts.
#[derive(Debug, Default)]
struct Counters {
    served: AtomicU64,
    held: AtomicU64,
    broken: AtomicU64,
}

impl Counters {
    fn serve(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl Origin {
    /// Starts an app on two free ports of 127.0.0.1; it listens when this returns.
    ///
    /// # Errors
    /// When there is no port, thread or runtime to be had.
    pub fn start(app: App) -> io::Result<Self> {
        let (listener, addr) = listen()?;
        let (tcp, tcp_addr) = listen()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let counters = Arc::<Counters>::default();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&counters);
        let thread = std::thread::Builder::new().name("origin".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, app, shared) => {}
                    () = accept_tcp(tcp) => {}
                }
            });
        })?;
        Ok(Self { addr, tcp_addr, counters, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it sends back what it gets.
    #[must_use]
    pub fn tcp_addr(&self) -> SocketAddr {
        self.tcp_addr
    }

    /// Responses written so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.counters.served.load(Ordering::Relaxed)
    }

    /// Requests so far that get [no answer](NEVER).
    #[must_use]
    pub fn held(&self) -> u64 {
        self.counters.held.load(Ordering::Relaxed)
    }

    /// WebSockets that ended without a Close frame, or with a damaged message, as the app sees it.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.counters.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen() -> io::Result<(StdListener, SocketAddr)> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

async fn accept(listener: StdListener, app: App, counters: Arc<Counters>) {
    let app = Arc::new(app);
    accept_each(listener, |stream, id| {
        let (app, counters) = (Arc::clone(&app), Arc::clone(&counters));
        async move {
            if starts_http2(&stream).await {
                http2::serve(stream, &app, &counters, Random::new(id)).await;
            } else {
                let _ = serve(stream, &app, &counters, Random::new(id)).await;
            }
        }
    })
    .await;
}

async fn accept_tcp(listener: StdListener) {
    accept_each(listener, |mut stream, _| async move {
        let (mut read, mut write) = stream.split();
        if tokio::io::copy(&mut read, &mut write).await.is_ok() {
            let _ = write.shutdown().await;
        }
    })
    .await;
}

async fn accept_each<S>(listener: StdListener, serve: impl Fn(TcpStream, u64) -> S)
where
    S: Future<Output = ()> + Send + 'static,
{
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    for id in 0.. {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, id));
            }
            // Out of file descriptors, most likely: the next accept would fail at once, too.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Looks whether the first bytes are those of HTTP/2's preface.
async fn starts_http2(stream: &TcpStream) -> bool {
    const PREFACE: &[u8] = b"PRI ";
    let mut first = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return false,
            Ok(length) if length == first.len() || !PREFACE.starts_with(&first[..length]) => {
                return first == PREFACE;
            }
            // The kernel says that there is something to read, so there is nothing to wait for.
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn serve(mut stream: TcpStream, app: &App, counters: &Counters, mut random: Random) -> io::Result<()> {
    let (mut input, mut output) = (Vec::with_capacity(1024), Vec::new());
    // What `output` is the answer to: clients that measure ask the same thing again and again.
    let mut answered = None;
    loop {
        let request = loop {
            if let Some(request) = Request::parse(&input)? {
                break request;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        input.drain(..request.head);
        if request.upgrade {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
            stream.write_all(format!("{head}Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n").as_bytes()).await?;
            if !websocket::echo(stream).await {
                counters.broken.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(());
        }
        discard(&mut stream, &mut input, request.body).await?;
        if request.target == NEVER {
            counters.held.fetch_add(1, Ordering::Relaxed);
            // Until the client gives up.
            return stream.read_buf(&mut input).await.map(drop);
        }
        if !app.delay.end().is_zero() {
            tokio::time::sleep(random.within(&app.delay)).await;
        }
        if answered.as_ref() != Some(&request) {
            output.clear();
            request.answer(app, &mut output);
        }
        // Counted before it is written, so that a client that has its answer finds it counted.
        counters.serve();
        stream.write_all(&output).await?;
        if request.close || app.hang_up {
            return stream.shutdown().await;
        }
        answered = Some(request);
    }
}

/// Reads a body, the first of which may be here already, and keeps nothing of it.
async fn discard(stream: &mut TcpStream, input: &mut Vec<u8>, body: usize) -> io::Result<()> {
    let here = body.min(input.len());
    input.drain(..here);
    let mut missing = body - here;
    if missing == 0 {
        return Ok(());
    }
    let mut block = vec![0; missing.min(BLOCK)];
    while missing > 0 {
        let length = missing.min(BLOCK);
        match stream.read(&mut block[..length]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => missing -= length,
        }
    }
    Ok(())
}

/// The head of a request.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// Its length.
    head: usize,
    /// The length of the body behind it.
    body: usize,
    target: String,
    close: bool,
    upgrade: bool,
}

impl Request {
    /// None while it is not complete.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let head = match request.parse(bytes).map_err(io::Error::other)? {
            httparse::Status::Complete(head) => head,
            httparse::Status::Partial => return Ok(None),
        };
        let header = |name: &str| {
            let field = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            field.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let body = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let close = request.version == Some(0) || header("connection").is_some_and(|v| has_token(v, "close"));
        let upgrade = header("upgrade").is_some();
        Ok(Some(Self { head, body, target: request.path.unwrap_or("").to_owned(), close, upgrade }))
    }

    fn answer(&self, app: &App, output: &mut Vec<u8>) {
        let body = body_of(&self.target, app.body);
        let connection = if self.close { "connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{connection}");
        output.extend_from_slice(head.as_bytes());
        if app.chunked {
            output.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            let (first, second) = body.split_at(body.len() / 2);
            for chunk in [first, second].into_iter().filter(|chunk| !chunk.is_empty()) {
                let _ = write!(output, "{:x}\r\n", chunk.len());
                output.extend_from_slice(chunk);
                output.extend_from_slice(b"\r\n");
            }
            output.extend_from_slice(b"0\r\n\r\n");
        } else {
            let _ = write!(output, "content-length: {}\r\n\r\n", body.len());
            output.extend_from_slice(&body);
        }
    }
}

/// Pseudo-random times (xorshift), the same in every run.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring numbers, and zero would stay zero.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A whole number of milliseconds in the range.
    pub(crate) fn within(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let random = self.next();
        let width = range.end().saturating_sub(*range.start()).as_millis() as u64;
        *range.start() + Duration::from_millis((random >> 16) % (width + 1))
    }
}

#[cfg(test)]
mod tests;
