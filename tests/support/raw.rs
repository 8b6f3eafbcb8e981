//! An app behind a `tcp://` forward: plain connections, on TCP or a Unix socket.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::client::Client;
use super::ebb::Ebb;
use super::wire::Wire;
use super::within;

/// What a client says first, so that its connection is told from ebb's own looks at the app, which say nothing.
const HELLO: &[u8] = b"hello";

/// An app on TCP.
pub(crate) struct RawApp {
    listener: TcpListener,
}

impl RawApp {
    /// Listens.
    pub(crate) async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a listener") }
    }

    /// What `--forward` is to say.
    pub(crate) fn forward(&self) -> String {
        format!("tcp://127.0.0.1:0={}", self.listener.local_addr().expect("the app's address"))
    }

    /// Starts ebb in front of it.
    pub(crate) async fn start_ebb(&self, flags: &[&str]) -> Ebb {
        Ebb::start_bare(&[&["--forward", &self.forward(), "--admin", "127.0.0.1:0"], flags].concat()).await
    }

    /// The next connection, before its first byte.
    pub(crate) async fn accept(&self) -> Wire {
        let (stream, _) =
            within("a connection to reach the app", self.listener.accept()).await.expect("to accept");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Wire::new(stream)
    }

    /// Answers every connection with what it says.
    pub(crate) async fn echo(&self) {
        let mut connections = JoinSet::new();
        loop {
            let mut stream = self.accept().await.into_stream();
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    }

    /// A client, and its connection as the app has it.
    pub(crate) async fn open(&self, ebb: &Ebb) -> (Client, Wire) {
        let client = ebb.client().await;
        self.meet(client).await
    }

    /// The same with a client that is connected already.
    pub(crate) async fn meet(&self, mut client: Client) -> (Client, Wire) {
        client.send(HELLO).await;
        loop {
            let mut wire = self.accept().await;
            if within("hello", wire.exactly(HELLO.len())).await.is_ok_and(|said| said == HELLO) {
                return (client, wire);
            }
        }
    }
}

/// An app on a Unix socket.
pub(crate) struct RawUnixApp {
    path: PathBuf,
    listener: UnixListener,
}

impl RawUnixApp {
    /// Listens on a path of its own.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ebb-raw-{}-{number}.sock", std::process::id()));
        // What an earlier process with this id left behind.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a Unix socket");
        Self { path, listener }
    }

    /// Starts ebb in front of it.
    pub(crate) async fn start_ebb(&self) -> Ebb {
        let forward = format!("tcp://127.0.0.1:0=unix:{}", self.path.display());
        Ebb::start_bare(&["--forward", &forward, "--admin", "127.0.0.1:0"]).await
    }

    /// A client, and its connection as the app has it.
    pub(crate) async fn open(&self, ebb: &Ebb) -> (Client, tokio::net::UnixStream) {
        let mut client = ebb.client().await;
        client.send(HELLO).await;
        loop {
            let accepted = within("a connection to reach the app", self.listener.accept()).await;
            let (mut stream, _) = accepted.expect("to accept");
            let mut said = [0; HELLO.len()];
            if within("hello", stream.read_exact(&mut said)).await.is_ok() {
                return (client, stream);
            }
        }
    }
}

impl Drop for RawUnixApp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes of which each says where it belongs, so that none can be lost, doubled or moved unseen.
pub(crate) struct Pattern {
    state: u64,
    rest: [u8; 8],
    used: usize,
}

impl Pattern {
    /// The same for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed | 1, rest: [0; 8], used: 8 }
    }

    /// The next bytes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == 8 {
                // xorshift64
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                (self.rest, self.used) = (self.state.to_le_bytes(), 0);
            }
            *byte = self.rest[self.used];
            self.used += 1;
        }
    }

    /// Sends `count` bytes and a FIN.
    pub(crate) async fn send(mut self, mut to: impl AsyncWrite + Unpin, mut count: usize) {
        use tokio::io::AsyncWriteExt as _;
        let mut block = vec![0; 100_000];
        while count > 0 {
            let part = count.min(block.len());
            self.fill(&mut block[..part]);
            to.write_all(&block[..part]).await.expect("to send");
            count -= part;
        }
        to.shutdown().await.expect("to half-close");
    }

    /// Reads to the end, so much at a time, and fails unless exactly `count` of these bytes come. Returns the stream.
    pub(crate) async fn expect<R: AsyncRead + Unpin>(
        mut self,
        mut from: R,
        count: usize,
        at_a_time: usize,
    ) -> R {
        let (mut got, mut wanted, mut total) = (vec![0; at_a_time], vec![0; at_a_time], 0);
        loop {
            let n = from.read(&mut got).await.expect("to read");
            if n == 0 {
                break;
            }
            self.fill(&mut wanted[..n]);
            assert!(got[..n] == wanted[..n], "damaged between byte {total} and {}", total + n);
            total += n;
        }
        assert_eq!(total, count);
        from
    }
}
