//! A TLS connection as a stream.
//!
//! rustls is used without buffers of its own ("unbuffered"): what is read, sealed and written goes through room that
//! the worker's connections share, and a connection keeps only what could not go on at once. So an idle one has
//! nothing but its keys, and what it has of an incomplete record is known.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::queue::Queue;
use super::records::{RECORD, Records};

/// Sealed and written at a time.
const AT_ONCE: usize = 2 * RECORD;

/// Read at a time: a full record, whatever it is wrapped in.
const READ: usize = RECORD + 512;

/// A handshake message may span records, and rustls wants it in one piece. Chains of certificates have a few
/// kilobytes.
const PARTIAL_MAX: usize = 64 << 10;

/// Room that the connections of a worker share, as no two use it at a time.
struct Room {
    incoming: Vec<u8>,
    /// What goes into one record, when that comes in several buffers.
    record: Vec<u8>,
    outgoing: Vec<u8>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::new(Room {
        incoming: vec![0; PARTIAL_MAX + READ],
        record: Vec::with_capacity(RECORD),
        outgoing: Vec::with_capacity(AT_ONCE + 1024),
    });
}

/// Why nothing more will be read.
#[derive(Debug, Clone)]
enum End {
    /// The client has said that it is done (`close_notify`).
    Notified,
    /// FIN without a word before it: more could have followed.
    Truncated,
    /// The socket.
    Broken(io::ErrorKind),
    /// What came is not what should have come.
    Failed(rustls::Error),
}

/// What is wanted of rustls besides reading.
#[derive(Clone, Copy)]
enum Act<'a> {
    Nothing,
    Seal(&'a [u8]),
    Goodbye,
}

/// A TLS connection with a client.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    tls: UnbufferedServerConnection,
    /// The beginning of a record whose end has not come yet.
    partial: Vec<u8>,
    /// Decrypted, and not read yet.
    plain: Queue,
    /// Sealed, and not taken by the socket yet.
    sealed: Queue,
    end: Option<End>,
    said_goodbye: bool,
    /// Who waits for something to read.
    reader: Option<Waker>,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).field("end", &self.end).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// For a fresh connection; to begin with [`TlsStream::poll_handshake`].
    pub(super) fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Box<Self>, rustls::Error> {
        Ok(Box::new(Self {
            tcp,
            tls: UnbufferedServerConnection::new(config)?,
            partial: Vec::new(),
            plain: Queue::default(),
            sealed: Queue::default(),
            end: None,
            said_goodbye: false,
            reader: None,
        }))
    }

    /// Done when the handshake is complete, and everything of it written.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_push(cx))?;
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if let Some(end) = &self.end {
                return Poll::Ready(Err(end.error()));
            }
            ready!(self.poll_pull(cx, None));
        }
    }

    /// What rustls did not like.
    pub(super) fn failure(&self) -> Option<&rustls::Error> {
        match &self.end {
            Some(End::Failed(error)) => Some(error),
            _ => None,
        }
    }

    /// The socket beneath.
    pub(in crate::connection) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Whether data is here. Looks into the kernel as well, but not for more than is needed to know.
    pub(in crate::connection) fn has_data(&mut self) -> bool {
        // The runtime may not have been told of what is there.
        while self.plain.is_empty()
            && self.end.is_none()
            && self.pull(None, |tcp, room| (&*SockRef::from(tcp)).read(room)).is_ok()
        {}
        if (!self.plain.is_empty() || self.end.is_some())
            && let Some(reader) = self.reader.take()
        {
            reader.wake(); // the kernel has nothing left to wake it with
        }
        !self.plain.is_empty()
    }

    /// Whether part of a record is here. It may be of a request.
    pub(in crate::connection) fn mid_record(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Whether the client still has to hear that this is the end.
    pub(in crate::connection) fn owes_goodbye(&self) -> bool {
        !self.said_goodbye && !matches!(self.end, Some(End::Failed(_) | End::Broken(_)))
    }

    /// Ready when there is data, an end or an error.
    pub(in crate::connection) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.plain.is_empty() && self.end.is_none() {
            ready!(self.poll_pull(cx, None));
        }
        Poll::Ready(())
    }

    /// Reads and forgets; true for data, false at the end.
    pub(in crate::connection) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if !self.plain.is_empty() {
                self.plain = Queue::default();
                return Poll::Ready(Ok(true));
            }
            match &self.end {
                Some(End::Truncated) => return Poll::Ready(Ok(false)),
                Some(End::Broken(kind)) => return Poll::Ready(Err((*kind).into())),
                // What still comes is nothing that could be understood.
                Some(End::Notified | End::Failed(_)) => {
                    let mut scratch = [0; 4096];
                    let mut scratch = ReadBuf::new(&mut scratch);
                    ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut scratch))?;
                    if scratch.filled().is_empty() {
                        return Poll::Ready(Ok(false));
                    }
                }
                None => ready!(self.poll_pull(cx, None)),
            }
        }
    }

    /// Reads from the socket once. What becomes of that is in `plain` or `out`, `partial` and `end`.
    fn poll_pull(&mut self, cx: &mut Context<'_>, mut out: Option<&mut ReadBuf<'_>>) -> Poll<()> {
        loop {
            if self.tcp.poll_read_ready(cx).is_pending() {
                if !self.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                    self.reader = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            if self.pull(out.as_deref_mut(), TcpStream::try_read).is_ok() {
                return Poll::Ready(());
            }
        }
    }

    /// As above; an error only when there is nothing to read.
    fn pull(
        &mut self,
        out: Option<&mut ReadBuf<'_>>,
        read: impl FnOnce(&TcpStream, &mut [u8]) -> io::Result<usize>,
    ) -> Result<(), ()> {
        ROOM.with_borrow_mut(|room| {
            let have = self.partial.len();
            if have > PARTIAL_MAX {
                self.end = Some(End::Broken(io::ErrorKind::InvalidData));
                return Ok(());
            }
            room.incoming[..have].copy_from_slice(&self.partial);
            let read = match read(&self.tcp, &mut room.incoming[have..have + READ]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                Err(error) => {
                    self.end = Some(End::Broken(error.kind()));
                    return Ok(());
                }
            };
            if read == 0 {
                self.end = Some(End::Truncated);
                return Ok(());
            }
            let have = have + read;
            let (used, _) = self.run(&mut room.incoming[..have], out, Act::Nothing);
            self.keep_partial(&room.incoming[used..have]);
            // An alert, or the next flight of a handshake, that the socket does not take waits for the next write.
            let _ = self.push();
            self.sealed.free_if_empty();
            Ok(())
        })
    }

    fn keep_partial(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.end.is_some() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(bytes);
        }
    }

    /// Has rustls do what there is to do, and `act` if that can be done. Returns how much of `incoming` was used.
    fn run(
        &mut self,
        incoming: &mut [u8],
        mut out: Option<&mut ReadBuf<'_>>,
        act: Act<'_>,
    ) -> (usize, io::Result<()>) {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut incoming[used..]);
            let result = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        self.plain.deliver(record.payload, out.as_deref_mut());
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.sealed);
                    None
                }
                // From here on it is in our hands.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.end.get_or_insert(End::Notified);
                    None
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    Some(perform(act, &mut traffic, &mut self.sealed))
                }
                Ok(_) => Some(match act {
                    Act::Nothing => Ok(()),
                    _ => Err(io::ErrorKind::NotConnected.into()),
                }),
                Err(error) => {
                    self.fail(error);
                    return (incoming.len(), Err(io::ErrorKind::InvalidData.into()));
                }
            };
            used += discard;
            if let Some(result) = result {
                return (used, result);
            }
        }
    }

    /// rustls has given up. What it has to say to that is all that it is asked for any more: it would read on
    /// where it stopped.
    fn fail(&mut self, error: rustls::Error) {
        self.end = Some(End::Failed(error));
        while self.tls.wants_write() {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.sealed),
                _ => return,
            }
        }
    }

    /// `act`, with nothing new from the client.
    fn act(&mut self, act: Act<'_>) -> io::Result<()> {
        if let Some(end @ End::Failed(_)) = &self.end {
            return Err(end.error());
        }
        let mut partial = std::mem::take(&mut self.partial);
        let (used, result) = self.run(&mut partial, None, act);
        partial.drain(..used);
        self.partial = partial;
        result
    }

    /// Writes what is sealed, until the socket takes no more.
    fn push(&mut self) -> io::Result<()> {
        while !self.sealed.is_empty() {
            match self.tcp.try_write(self.sealed.bytes())? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.sealed.consume(n),
            }
        }
        Ok(())
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sealed.is_empty() {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.push() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.sealed.free_if_empty();
                    return Poll::Ready(result);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Seals the beginning of `bufs`, in records as large as may be, and writes what the socket takes.
    fn seal(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        ROOM.with_borrow_mut(|room| {
            let Room { record, outgoing, .. } = room;
            self.sealed.lend(outgoing);
            let mut records = Records::new(bufs);
            let mut sealed = 0;
            while sealed < AT_ONCE
                && let Some(record) = records.next(record)
            {
                self.act(Act::Seal(record))?;
                sealed += record.len();
            }
            let pushed = self.push();
            self.sealed.give_back(outgoing);
            match pushed {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ => Ok(sealed),
            }
        })
    }
}

impl End {
    fn error(&self) -> io::Error {
        match self {
            Self::Notified | Self::Truncated => io::ErrorKind::UnexpectedEof.into(),
            Self::Broken(kind) => (*kind).into(),
            Self::Failed(error) => io::Error::new(io::ErrorKind::InvalidData, error.clone()),
        }
    }
}

fn encode(data: &mut EncodeTlsData<'_, rustls::server::ServerConnectionData>, sealed: &mut Queue) {
    let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) else { return };
    sealed.append(needed.required_size, |room| data.encode(room).unwrap_or(0));
}

fn perform(
    act: Act<'_>,
    traffic: &mut WriteTraffic<'_, rustls::server::ServerConnectionData>,
    sealed: &mut Queue,
) -> io::Result<()> {
    let mut room = match act {
        Act::Nothing => return Ok(()),
        Act::Seal(record) => record.len() + 256,
        Act::Goodbye => 256,
    };
    loop {
        let mut result = Ok(0);
        sealed.append(room, |room| {
            result = match act {
                Act::Seal(record) => traffic.encrypt(record, room),
                Act::Nothing | Act::Goodbye => traffic.queue_close_notify(room),
            };
            result.as_ref().map_or(0, |&n| n)
        });
        match result {
            Ok(_) => return Ok(()),
            // A key update goes out first.
            Err(EncryptError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            self.plain.read(buf);
            if buf.filled().len() > before || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match &self.end {
                Some(End::Notified) => return Poll::Ready(Ok(())),
                Some(end) => return Poll::Ready(Err(end.error())),
                None => ready!(self.poll_pull(cx, Some(buf))),
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_push(cx))?;
        ready!(self.tcp.poll_write_ready(cx))?;
        Poll::Ready(self.seal(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_push(cx)
    }

    /// `close_notify`, then FIN.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.said_goodbye, true) {
            // After an alert there is nothing more to say.
            let _ = self.act(Act::Goodbye);
        }
        ready!(self.poll_push(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
