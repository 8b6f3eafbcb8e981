//! The least that can stand between two sockets: it reads here and writes there. What any proxy costs beyond this,
//! it costs for what it knows and does.

use std::io;
use std::net::SocketAddr;
use std::thread;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;

/// What is read at a time; small messages fit in less, and in bulk more gains little.
const BUFFER: usize = 64 * 1024;

/// Relays every connection to `addr` over one of its own to `upstream`, on this many threads with an event loop and a
/// listening socket each, as ebb's workers have. It ends with the process.
///
/// # Errors
/// When it cannot listen.
pub fn run(addr: SocketAddr, upstream: SocketAddr, workers: usize) -> io::Result<()> {
    let workers = (0..workers.max(1)).map(|_| {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let listener = {
            let _in_runtime = runtime.enter();
            listen(addr)?
        };
        Ok(thread::spawn(move || runtime.block_on(accept(listener, upstream))))
    });
    for worker in workers.collect::<io::Result<Vec<_>>>()? {
        let _ = worker.join();
    }
    Ok(())
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    socket.listen(4096)
}

async fn accept(listener: TcpListener, upstream: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(relay(client, upstream))),
            // Out of file descriptors, most likely: others may go meanwhile.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn relay(mut client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let mut app = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    app.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut app, BUFFER, BUFFER).await.map(drop)
}
