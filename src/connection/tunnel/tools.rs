//! What the tunnels of one worker share: a buffer to copy through, and pipes to splice through.
//!
//! A worker is one thread, and no tunnel keeps either of them while it waits for bytes, so an idle tunnel has no
//! buffer at all.

use std::cell::{Cell, RefCell, RefMut};
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use crate::sys;

/// Read at a time.
pub(super) const BUFFER: usize = 32 << 10;

/// Asked for in each pipe.
const PIPE: usize = 256 << 10;

/// With less room a pipe is not worth its two system calls a filling. (The kernel gives so little to a user who has
/// many: `pipe-user-pages-soft`.)
const PIPE_MIN: usize = 64 << 10;

/// Pipes that are kept while nobody needs them.
const IDLE_MAX: usize = 4;

/// How often is copied before a pipe is asked for again that the system did not have.
const WAIT: u32 = 256;

/// A worker's buffer and pipes.
#[derive(Debug)]
pub(in crate::connection) struct Tools {
    buffer: RefCell<Box<[u8]>>,
    head: RefCell<Vec<u8>>,
    idle: RefCell<Vec<Pipe>>,
    /// One strong reference a pipe, and this one.
    pipes: Rc<()>,
    pipes_max: usize,
    /// The kernel does not splice (gVisor).
    refused: Cell<bool>,
    /// So many times nobody asks for a new pipe yet, since there was none to be had.
    wait: Cell<u32>,
}

impl Tools {
    pub(in crate::connection) fn new(pipes_max: usize) -> Self {
        Self {
            buffer: RefCell::default(),
            head: RefCell::default(),
            idle: RefCell::default(),
            pipes: Rc::default(),
            pipes_max,
            refused: Cell::new(false),
            wait: Cell::new(0),
        }
    }

    /// Room for a head that is being rewritten, empty; to be let go of before the next await.
    pub(in crate::connection) fn head(&self) -> RefMut<'_, Vec<u8>> {
        let mut head = self.head.borrow_mut();
        head.clear();
        head
    }

    /// The buffer, to be let go of before the next await.
    pub(in crate::connection) fn buffer(&self) -> RefMut<'_, Box<[u8]>> {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            *buffer = vec![0; BUFFER].into_boxed_slice();
        }
        buffer
    }

    /// An empty pipe, unless there are too many already.
    pub(super) fn take(&self) -> Option<Pipe> {
        if self.refused.get() {
            return None;
        }
        if let Some(pipe) = self.idle.borrow_mut().pop() {
            return Some(pipe);
        }
        // File descriptors are for connections first: how many pipes there may be has been kept back for them.
        if Rc::strong_count(&self.pipes) > self.pipes_max {
            return None;
        }
        if self.wait.get() > 0 {
            self.wait.set(self.wait.get() - 1);
            return None;
        }
        let pipe = self.open();
        if pipe.is_none() {
            self.wait.set(WAIT);
        }
        pipe
    }

    fn open(&self) -> Option<Pipe> {
        let (reader, writer) = io::pipe().ok()?;
        let room = sys::size_pipe(writer.as_fd(), PIPE);
        (room >= PIPE_MIN).then(|| Pipe { reader, writer, held: 0, _one: Rc::clone(&self.pipes) })
    }

    /// Takes a pipe back. One that still holds something is of no use.
    pub(super) fn give(&self, pipe: Pipe) {
        let mut idle = self.idle.borrow_mut();
        if pipe.held == 0 && idle.len() < IDLE_MAX {
            idle.push(pipe);
        }
    }

    /// Nothing is spliced any more.
    pub(super) fn refuse(&self) {
        self.refused.set(true);
        self.idle.borrow_mut().clear();
    }
}

/// A pipe, and how much is in it. Dropping it loses that.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    held: usize,
    _one: Rc<()>,
}

impl Pipe {
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes in what there is on the socket. Only an empty pipe may be filled: or else nobody could tell whether the
    /// pipe or the socket has no more.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0);
        self.held = sys::splice(from, self.writer.as_fd(), PIPE)?;
        Ok(self.held)
    }

    /// Passes on what it holds. As it holds something, `WouldBlock` means the socket.
    ///
    /// Never with `SPLICE_F_MORE`: whether more is coming nobody knows, and the last bytes would wait for it.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let moved = sys::splice(self.reader.as_fd(), to, self.held)?;
        self.held -= moved;
        Ok(moved)
    }

    /// Takes out what it holds.
    pub(super) fn read_out(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        (&self.reader).read_exact(&mut bytes)?;
        self.held = 0;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_pipe_carries_and_can_be_emptied_by_hand() {
        let tools = Tools::new(1);
        let mut pipe = tools.take().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"all that was said").unwrap();
        assert_eq!(pipe.fill(far.as_fd()).unwrap(), 17);
        assert_eq!(pipe.read_out().unwrap(), b"all that was said");
        assert_eq!(pipe.held(), 0);
    }

    #[test]
    fn pipes_are_bounded_and_come_back() {
        let tools = Tools::new(2);
        let (one, two) = (tools.take().unwrap(), tools.take().unwrap());
        assert!(tools.take().is_none());
        tools.give(one);
        assert!(tools.take().is_some());
        drop(two);
        assert!(tools.take().is_some());
        tools.refuse();
        assert!(tools.take().is_none());
    }
}
