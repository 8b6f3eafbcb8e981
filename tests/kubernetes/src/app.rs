//! The app: pages and WebSockets over HTTP/1.1, gRPC over HTTP/2, and a second port whose pages take seconds.
//!
//! It shuts down as a good server does (Go's `http.Server.Shutdown`): it stops listening, closes what is idle, tells HTTP/2 clients to go
//! and finishes what it has begun. So what is lost without ebb is not the app's fault. WebSockets end with the process.

use std::io;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The demo's gRPC service.
#[path = "../../../src/cli/demo/app/grpc.rs"]
mod grpc;
#[path = "app/http1.rs"]
mod http1;

/// Its ports, and how long a page takes there.
const PORTS: [(u16, RangeInclusive<Duration>); 2] = [
    (3000, Duration::from_millis(5)..=Duration::from_millis(25)),
    (3001, Duration::from_secs(1)..=Duration::from_secs(4)),
];

/// What has begun is finished within this.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// The flags of the app.
#[derive(Debug, clap::Args)]
pub(crate) struct AppArgs {
    /// Goes on as if nothing were when it is told to end
    #[arg(long)]
    ignore_sigterm: bool,
}

/// One of the ports.
#[derive(Debug, Clone)]
struct Door {
    pace: RangeInclusive<Duration>,
    /// What `/healthz` says.
    sick: Arc<AtomicBool>,
    stopping: watch::Receiver<bool>,
}

/// Serves until it is told to end, and to make `/healthz` fail before that.
pub(crate) async fn serve(args: AppArgs) -> io::Result<()> {
    let mut told = signal(SignalKind::terminate())?;
    let sick = Arc::<AtomicBool>::default();
    let (stop, stopping) = watch::channel(false);
    let mut doors = JoinSet::new();
    for (port, pace) in PORTS {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
        let door = Door { pace, sick: Arc::clone(&sick), stopping: stopping.clone() };
        doors.spawn(door.open(listener));
    }
    let control = super::control::listen(async |words: &str| match words {
        "fail" => {
            sick.store(true, Relaxed);
            Ok("failing".to_owned())
        }
        _ => Err(format!("{words:?}?")),
    });
    let end = async {
        loop {
            told.recv().await;
            if !args.ignore_sigterm {
                return;
            }
        }
    };
    tokio::select! {
        ended = control => return ended,
        () = end => {}
    }
    stop.send_replace(true);
    let _ = timeout(SHUTDOWN_TIMEOUT, async { while doors.join_next().await.is_some() {} }).await;
    Ok(())
}

impl Door {
    /// Accepts until the app is to end, then lets the connections finish.
    async fn open(mut self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let door = self.clone();
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(door.serve(stream))),
                    // Most likely out of file descriptors: some of them will be free again.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
                Some(_) = connections.join_next() => {}
                () = told(&mut self.stopping) => break,
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// HTTP/2 begins with `PRI`; of HTTP/1.1 the app knows nothing but `GET`.
    async fn serve(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first == *b"P" => grpc::serve(stream, self.stopping).await,
            Ok(1) => http1::serve(stream, self).await,
            _ => {}
        }
    }
}

/// Waits until the app is told to end.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error would mean that the app is gone, and then the process is as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
