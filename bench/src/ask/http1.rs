//! HTTP/1.1, over a connection for all requests or one for each, with or without TLS, to get or to send.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Answered, Ask};
use crate::client::{Failure, Stream};
use crate::origin::body_of;
use crate::response::{Framing, Parsed, parse_head};
use crate::tls::Trust;

/// What is read at a time.
const BLOCK: usize = 64 * 1024;

/// The page that is asked for.
const TARGET: &str = "/";

/// What is asked, and how.
#[derive(Debug, Clone)]
pub struct Http1Options {
    /// Where it goes.
    pub addr: SocketAddr,
    /// The size of the app's bodies.
    pub body: usize,
    /// The size of a request's body; none makes it a GET.
    pub upload: Option<usize>,
    /// Every request has a connection of its own.
    pub one_shot: bool,
    /// TLS 1.3, and whom to trust.
    pub tls: Option<Trust>,
}

/// A client.
#[derive(Debug)]
pub struct Http1 {
    options: Http1Options,
    head: Bytes,
    upload: Bytes,
    expected: Bytes,
    stream: Option<Stream>,
    buf: Box<[u8]>,
}

impl Http1Options {
    /// So many clients, which share what they send and expect. They connect when they ask first.
    #[must_use]
    pub fn clients(&self, count: usize) -> Vec<Http1> {
        let (method, length) = match self.upload {
            Some(length) => ("POST", format!("content-length: {length}\r\n")),
            None => ("GET", String::new()),
        };
        let close = if self.one_shot { "connection: close\r\n" } else { "" };
        let head = format!("{method} {TARGET} HTTP/1.1\r\nhost: {}\r\n{length}{close}\r\n", self.addr);
        let (head, expected) = (Bytes::from(head), Bytes::from(body_of(TARGET, self.body)));
        let upload = Bytes::from(vec![b'x'; self.upload.unwrap_or(0)]);
        let client = || Http1 {
            options: self.clone(),
            head: head.clone(),
            upload: upload.clone(),
            expected: expected.clone(),
            stream: None,
            buf: vec![0; BLOCK.min(self.body + 4096)].into(),
        };
        (0..count).map(|_| client()).collect()
    }
}

impl Ask for Http1 {
    async fn ask(&mut self) -> Result<Answered, Failure> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = Stream::connect(self.options.addr, self.options.tls.as_ref()).await?;
                if self.options.tls.is_some() && !stream.is_tls13() {
                    return Err(Failure::Bad);
                }
                stream
            }
        };
        stream.write_all(&self.head).await.map_err(|_| Failure::LostReused)?;
        if !self.upload.is_empty() {
            stream.write_all(&self.upload).await.map_err(|_| Failure::Cut)?;
        }
        self.receive(&mut stream).await?;
        // Dropped otherwise, as clients do that know the length of what they wait for.
        self.stream = Some(stream).filter(|_| !self.options.one_shot);
        let bytes = if self.upload.is_empty() { self.expected.len() } else { self.upload.len() };
        Ok(Answered { answers: 1, bytes: bytes as u64 })
    }
}

impl Http1 {
    async fn receive(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        let mut filled = 0;
        let (head, mut read) = loop {
            if filled == self.buf.len() {
                return Err(Failure::Bad);
            }
            match stream.read(&mut self.buf[filled..]).await {
                Ok(0) | Err(_) => return Err(Failure::LostReused),
                Ok(length) => filled += length,
            }
            match parse_head(&self.buf[..filled]) {
                Parsed::Complete((head, Framing::Length(length)))
                    if length == self.expected.len() && is_ok(&self.buf) =>
                {
                    break (head, filled - head);
                }
                Parsed::Partial => {}
                _ => return Err(Failure::Bad),
            }
        };
        if self.expected.get(..read) != Some(&self.buf[head..filled]) {
            return Err(Failure::Bad);
        }
        while read < self.expected.len() {
            let length = stream.read(&mut self.buf).await.map_err(|_| Failure::Cut)?;
            if length == 0 {
                return Err(Failure::Cut);
            }
            if self.expected.get(read..read + length) != Some(&self.buf[..length]) {
                return Err(Failure::Bad);
            }
            read += length;
        }
        Ok(())
    }
}

fn is_ok(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 200")
}
