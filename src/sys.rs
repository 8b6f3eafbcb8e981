//! Socket options, and the few system calls that no safe library offers: the only `unsafe` in ebb.
#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod memcpy;

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Keepalive: a dead peer is found out after about two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Sets what every TCP connection needs: no Nagle, and an end when the peer is dead. A listening socket hands
/// these options on to what it accepts.
///
/// `TCP_USER_TIMEOUT` is not among them: Linux applies it to a window that stays closed, too, so it would cut a
/// client that pauses its download, and it takes the place of the keepalive's own count. Data in flight to a dead
/// peer is given up by `tcp_retries2` (about 15 minutes).
///
/// # Errors
/// What the kernel says.
pub fn tune(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// Raises the soft limit on open files to the hard one and returns it.
///
/// The soft limit is 1024 in many images for the sake of programs that use `select(2)`; a proxy wants the
/// rest. When the limit can't be read or raised, what stands is returned (1024 if even that is unknown).
pub fn raise_fd_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: the pointer is to a live, writable rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 1024;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer is to a live rlimit that the call only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    limit.rlim_cur
}

/// Gives memory that the calling thread has freed back to the system, if the program's allocator is mimalloc. It
/// does so by itself only while it is used: a worker that falls idle after a burst would keep it all.
pub fn give_memory_back() {
    // SAFETY: may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Takes the program's code and constants out of the process's memory: what only the start needs (parsing flags and
/// the like) is most of what a sidecar at rest would hold. It stays in the page cache as long as there is room there,
/// and comes back 64 KiB at a time with a minor fault.
pub fn let_code_go() {
    /// The program itself is visited first; anything but 0 ends the visits.
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the loader passes a live entry, with as many headers as it says.
        let (base, headers) = unsafe {
            let info = &*info;
            (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
        };
        let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        for header in loaded.filter(|header| header.p_flags & libc::PF_W == 0) {
            let (start, end) = (base + header.p_vaddr, base + header.p_vaddr + header.p_memsz);
            // Whole pages: in one at the rim there may be something that can be written.
            let start = start.next_multiple_of(PAGE_MAX) as usize;
            let length = (end as usize).saturating_sub(start) & !(PAGE_MAX as usize - 1);
            // SAFETY: nobody has written to these pages (no PF_W, and a program in Rust has no text relocations), so
            // the kernel brings them back as they were. If it refuses, they stay.
            unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        }
        1
    }
    // SAFETY: the callback keeps nothing of what it is shown.
    unsafe { libc::dl_iterate_phdr(Some(visit), ptr::null_mut()) };
}

/// No Linux system has larger pages; on arm64 they may be these.
const PAGE_MAX: u64 = 64 << 10;

/// One instruction of a classic BPF program (`struct sock_filter`).
pub type BpfInstruction = libc::sock_filter;

/// Attaches a classic BPF program that picks the socket of `socket`'s `SO_REUSEPORT` group by its index
/// (socket(7), `SO_ATTACH_REUSEPORT_CBPF`; Linux 4.6, no privilege needed). A program attached before is
/// replaced.
///
/// # Errors
/// What the kernel says, `ENOPROTOOPT` or `EPERM` where such programs are not offered (gVisor), or
/// `InvalidInput` for a program longer than the kernel could take.
pub fn attach_reuseport_program(socket: BorrowedFd<'_>, program: &[BpfInstruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel copies the program and does not write to it, whatever the pointer's type says.
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the option takes a sock_fprog whose `filter` points to `len` instructions; both live through
    // the call.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const fprog).cast(),
            mem::size_of_val(&fprog) as libc::socklen_t,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the program of [`attach_reuseport_program`] off again (Linux 5.3).
///
/// # Errors
/// What the kernel says.
pub fn detach_reuseport_program(socket: BorrowedFd<'_>) -> io::Result<()> {
    let unused: libc::c_int = 0;
    // SAFETY: the option ignores its value; the pointer is to a live int of the stated size.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const unused).cast(),
            mem::size_of_val(&unused) as libc::socklen_t,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What TCP knows of a connection and its peer (`TCP_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// TCP has given it up: after a RST or a time-out. Not `SO_ERROR`: that tells of passing trouble, too, which TCP
    /// rides out (an ICMP "unreachable" while a route changes).
    pub closed: bool,
    /// Time-outs since the peer last acknowledged data anew (`tcpi_retransmits`).
    pub retransmits: u8,
    /// Probes of a closed window, or keepalive's, since the peer last answered anything (`tcpi_probes`).
    pub probes: u8,
    /// Since the peer last acknowledged or answered anything (`tcpi_last_ack_recv`).
    pub unheard: Duration,
}

/// Looks at a TCP connection; nothing is known of other sockets, or where the kernel does not say.
#[must_use]
pub fn health(socket: BorrowedFd<'_>) -> Health {
    const TCP_CLOSE: u8 = 7;
    // SAFETY: the struct consists of integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut len = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the pointers are to a live, writable tcp_info and to its size; the kernel writes no more than that.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    if failed != 0 {
        return Health::default();
    }
    Health {
        closed: info.tcpi_state == TCP_CLOSE,
        retransmits: info.tcpi_retransmits,
        probes: info.tcpi_probes,
        unheard: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    }
}

/// Moves up to `len` bytes from a socket into a pipe, or from a pipe into a socket, inside the kernel (splice(2)).
/// Neither waits. 0: the socket's peer has ended its side.
///
/// # Errors
/// What the kernel says. `WouldBlock` does not tell whether the pipe or the socket is meant; `InvalidInput` where
/// these can't be spliced.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: the offsets may be null, and must be for sockets and pipes.
    let moved = unsafe {
        libc::splice(from.as_raw_fd(), ptr::null_mut(), to.as_raw_fd(), ptr::null_mut(), len, flags)
    };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Gives a pipe room for so many bytes, as far as the system allows, and returns the room that it has.
pub fn size_pipe(pipe: BorrowedFd<'_>, bytes: usize) -> usize {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the call takes no pointer.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
    // SAFETY: the call takes no pointer.
    usize::try_from(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) }).unwrap_or(0)
}

/// Bytes (and the FIN) that a TCP socket has sent and the peer has not acknowledged (`SIOCOUTQ`, tcp(7)); 0 when
/// the kernel does not say.
#[must_use]
pub fn unacknowledged(socket: BorrowedFd<'_>) -> i32 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, to which the pointer is.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } {
        0 => bytes,
        _ => 0,
    }
}

/// Has the runtime watch a listening socket for connections to accept.
///
/// # Errors
/// What the kernel says.
pub fn watch(listener: mio::net::TcpListener) -> io::Result<AsyncFd<mio::net::TcpListener>> {
    // SAFETY: a listener keeps its one descriptor open until it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Waits up to `millis` until a listening socket has a connection to accept.
///
/// # Errors
/// What the kernel says.
pub fn has_connection(listener: BorrowedFd<'_>, millis: i32) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one live, writable pollfd, and the count says so.
    match unsafe { libc::poll(&raw mut poll, 1, millis) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(poll.revents & libc::POLLIN != 0),
    }
}

/// Sends SIGTERM to a process.
///
/// The caller must not have waited for the process yet: until then its id can't belong to another one.
///
/// # Errors
/// What `kill(2)` says, such as that there is no such process.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: the call takes no pointer.
    if unsafe { libc::kill(pid, libc::SIGTERM) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel kill the child of this command when the thread that spawns it ends, whatever ends it.
pub fn die_with_parent(command: &mut Command) {
    let arm = || {
        // SAFETY: the call takes no pointer.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(arm) };
}
