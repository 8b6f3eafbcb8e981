//! An app behind a Unix socket, whose buffers are small and never grow: what it does not read stays with ebb.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::ebb::Ebb;
use super::message::Head;
use super::within;

/// The app. It takes connections only when the test asks for a request.
pub(crate) struct UnixApp {
    path: PathBuf,
    listener: UnixListener,
}

impl UnixApp {
    /// Listens on a path of its own.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ebb-app-{}-{number}.sock", std::process::id()));
        // What an earlier process with this id left behind.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a Unix socket");
        Self { path, listener }
    }

    /// Starts ebb in front of it.
    pub(crate) async fn start_ebb(&self, flags: &[&str]) -> Ebb {
        let forward = format!("127.0.0.1:0=unix:{}", self.path.display());
        Ebb::start_bare(&[&["--forward", &forward, "--admin", "127.0.0.1:0"], flags].concat()).await
    }

    /// The next request on a connection of its own. Connections without a request are ebb's looks at the app.
    pub(crate) async fn request(&self) -> UnixExchange {
        let request = async {
            loop {
                let (stream, _) = self.listener.accept().await.expect("the app accepts");
                if let Some(exchange) = UnixExchange::read(stream).await {
                    return exchange;
                }
            }
        };
        within("a request to reach the app", request).await
    }
}

impl Drop for UnixApp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A request, and its connection. Dropping it closes the connection.
pub(crate) struct UnixExchange {
    /// The request's head.
    pub(crate) head: Head,
    stream: UnixStream,
    /// What of the body came with the head.
    body: usize,
}

impl UnixExchange {
    async fn read(mut stream: UnixStream) -> Option<Self> {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = Head::parse(std::str::from_utf8(&bytes[..end]).expect("a head in UTF-8"));
                return Some(Self { head, stream, body: bytes.len() - end - 4 });
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("the app to send", self.stream.write_all(bytes.as_ref())).await.expect("to send");
    }

    /// Sends a whole response with a `Content-Length`.
    pub(crate) async fn answer(&mut self, status: &str, body: &str) {
        let length = body.len();
        self.send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    }

    /// Reads up to this many bytes of the body and returns how many there were before the connection's end.
    pub(crate) async fn read_body(&mut self, length: usize) -> usize {
        let read = async {
            let mut scratch = vec![0; 64 << 10];
            while self.body < length {
                match self.stream.read(&mut scratch).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => self.body += n,
                }
            }
        };
        within("the body to reach the app", read).await;
        self.body
    }
}
