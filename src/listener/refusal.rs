//! Refusing new connections without losing one that was accepted.
//!
//! Closing a listening socket resets every connection in its accept queue and every handshake under way, and
//! accepting until the queue is empty never ends under load. So new SYNs are steered away first:
//!
//! 1. The listening sockets are one `SO_REUSEPORT` group. A classic BPF program that picks the socket by index
//!    is attached: connections from the source ports of our own *stoppers* go to the next free indexes,
//!    all others to the real listeners.
//! 2. As many more sockets join the group at those indexes, with backlog 0, and each stopper connects to
//!    its own. Their accept queues are now full, and Linux drops a SYN to a full queue silently.
//! 3. The program is replaced: everything goes to the first full socket. No new SYN gets in, while handshakes
//!    under way still belong to the listener that got their SYN.
//! 4. The workers empty their queues and close their listeners, in whatever order. A group moves its last
//!    socket into the place of one that closes; because there are as many full sockets as real ones, the index
//!    of step 3 never stops naming a full one, and when the last real one is gone all that is left is full.
//! 5. The full sockets and the stoppers are closed. From now on SYNs get a RST: "connection refused", which
//!    a client may always retry. Those dropped meanwhile come again and get it, too.
//!
//! None of it needs a privilege (Linux 4.6). Where the program is not allowed, the caller falls back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Duration;

use crate::sys::{self, BpfInstruction};

/// A connection of our own on the loopback stands at once; this only bounds a broken machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// SYNs to a group of listening sockets are dropped while this lives, and refused afterwards (once the real
/// listeners are closed).
#[derive(Debug)]
pub struct Refusal {
    _full: Vec<TcpListener>,
    _stoppers: Vec<TcpStream>,
}

impl Refusal {
    /// Steers new SYNs away from the group of `count` listening sockets that `member` belongs to.
    ///
    /// # Errors
    /// What the kernel says. Then nothing has changed for the group.
    pub fn steer(member: &TcpListener, count: usize) -> io::Result<Self> {
        let addr = member.local_addr()?;
        let stoppers = (0..count).map(|_| Stopper::new(addr)).collect::<io::Result<Vec<_>>>()?;
        let ports: Vec<u16> = stoppers.iter().map(|stopper| stopper.port).collect();
        sys::attach_reuseport_program(member.as_fd(), &program::divert(&ports, count))?;
        let steered = fill(addr, stoppers).and_then(|refusal| {
            sys::attach_reuseport_program(member.as_fd(), &program::all_to(count))?;
            Ok(refusal)
        });
        if steered.is_err() {
            // What was opened is closed by now, so the sockets of the group are the real ones again and the
            // program would still serve them; without it the kernel hashes as it did before.
            let _ = sys::detach_reuseport_program(member.as_fd());
        }
        steered
    }
}

fn fill(addr: SocketAddr, stoppers: Vec<Stopper>) -> io::Result<Refusal> {
    let full = stoppers.iter().map(|_| super::open(addr, 0)).collect::<io::Result<Vec<_>>>()?;
    let stoppers = stoppers.into_iter().map(Stopper::connect).collect::<io::Result<Vec<_>>>()?;
    for socket in &full {
        if !sys::has_connection(socket.as_fd(), 100)? {
            return Err(io::Error::other("a stopper did not reach its socket"));
        }
    }
    Ok(Refusal { _full: full, _stoppers: stoppers })
}

/// A connection of our own that is to fill one accept queue.
struct Stopper {
    socket: Socket,
    target: SocketAddr,
    /// Its source port, in host byte order.
    port: u16,
}

impl Stopper {
    fn new(listener: SocketAddr) -> io::Result<Self> {
        let ip = match listener.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        // A dual-stack listener on a machine whose loopback has no ::1 is reached over IPv4.
        Self::bound(ip, listener.port()).or_else(|error| match ip {
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Self::bound(Ipv4Addr::LOCALHOST.into(), listener.port()),
            _ => Err(error),
        })
    }

    fn bound(ip: IpAddr, port: u16) -> io::Result<Self> {
        let target = SocketAddr::new(ip, port);
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(ip, 0).into())?;
        let port = socket.local_addr()?.as_socket().map_or(0, |addr| addr.port());
        Ok(Self { socket, target, port })
    }

    fn connect(self) -> io::Result<TcpStream> {
        self.socket.connect_timeout(&self.target.into(), CONNECT_TIMEOUT)?;
        Ok(self.socket.into())
    }
}

/// The classic BPF programs. A program sees a SYN's payload; headers are read relative to the network header.
mod program {
    use super::BpfInstruction;

    const NETWORK_HEADER: u32 = libc::SKF_NET_OFF as u32;

    fn op(code: u32, k: u32, jt: u8, jf: u8) -> BpfInstruction {
        BpfInstruction { code: code as u16, jt, jf, k }
    }

    fn load_byte(at: u32) -> BpfInstruction {
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at, 0, 0)
    }

    fn load_half(at: u32) -> BpfInstruction {
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, at, 0, 0)
    }

    fn alu(operation: u32, k: u32) -> BpfInstruction {
        op(libc::BPF_ALU | operation | libc::BPF_K, k, 0, 0)
    }

    fn jump_if_equal(k: u32, jt: u8, jf: u8) -> BpfInstruction {
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, jt, jf)
    }

    fn ret(k: u32) -> BpfInstruction {
        op(libc::BPF_RET | libc::BPF_K, k, 0, 0)
    }

    fn index(i: usize) -> u32 {
        u32::try_from(i).unwrap_or(u32::MAX)
    }

    /// Stopper `i` goes to index `count + i`; everybody else to one of the `count` real listeners.
    pub(super) fn divert(ports: &[u16], count: usize) -> Vec<BpfInstruction> {
        let mut program = vec![
            load_byte(NETWORK_HEADER),
            alu(libc::BPF_RSH, 4),
            // The source port is the first field of TCP, after 20 bytes of IPv4 (a SYN with IP options
            // reads a wrong port and goes to some real listener, as it should) or 40 of IPv6.
            jump_if_equal(6, 0, 2),
            load_half(NETWORK_HEADER.wrapping_add(40)),
            op(libc::BPF_JMP | libc::BPF_JA, 1, 0, 0),
            load_half(NETWORK_HEADER.wrapping_add(20)),
        ];
        for (i, &port) in ports.iter().enumerate() {
            program.extend([jump_if_equal(port.into(), 0, 1), ret(index(count + i))]);
        }
        program.extend([alu(libc::BPF_MOD, index(count)), op(libc::BPF_RET | libc::BPF_A, 0, 0, 0)]);
        program
    }

    /// Everything goes to one index.
    pub(super) fn all_to(i: usize) -> Vec<BpfInstruction> {
        vec![ret(index(i))]
    }
}
