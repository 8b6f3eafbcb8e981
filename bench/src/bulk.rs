//! As many bytes over TCP as it takes, in one direction.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// What is read or written at a time.
const BLOCK: usize = 128 * 1024;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the app.
    Up,
    /// To the client.
    Down,
}

/// An app that takes all bytes, or sends them without an end. It listens as long as the process runs.
#[derive(Debug)]
pub struct Bulk {
    addr: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Bulk {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no port or thread to be had.
    pub fn start(direction: Direction) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        thread::Builder::new().name("bulk".to_owned()).spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let counter = Arc::clone(&counter);
                thread::spawn(move || match direction {
                    Direction::Up => receive(&stream, &counter),
                    Direction::Down => send(&stream),
                });
            }
        })?;
        Ok(Self { addr, received })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connects the other end to the proxy at `addr`. It works until the returned stream is shut down.
    ///
    /// # Errors
    /// When there is no connection or thread to be had.
    pub fn connect(&self, addr: SocketAddr, direction: Direction) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(addr)?;
        let (own, counter) = (stream.try_clone()?, Arc::clone(&self.received));
        thread::Builder::new().spawn(move || match direction {
            Direction::Up => send(&own),
            Direction::Down => receive(&own, &counter),
        })?;
        Ok(stream)
    }

    /// Bytes that have arrived, at whichever end.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

fn send(mut stream: &TcpStream) {
    let block = vec![b'x'; BLOCK];
    while stream.write_all(&block).is_ok() {}
}

fn receive(mut stream: &TcpStream, counter: &AtomicU64) {
    let mut block = vec![0; BLOCK];
    while let Ok(length @ 1..) = stream.read(&mut block) {
        counter.fetch_add(length as u64, Ordering::Relaxed);
    }
}
