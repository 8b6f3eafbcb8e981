//! The app in a pod, a process of its own: a small server as it is found in the wild. On one port it has pages,
//! events and WebSockets over HTTP/1.1, and gRPC over HTTP/2.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

mod grpc;
mod http1;

/// What is not finished by then is cut: frameworks have such a time-out, because WebSockets and streams of events
/// never finish. Theirs is longer, but the demo is in a hurry.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The flags of the app, which only the demo sets.
#[derive(Debug, clap::Args)]
pub(crate) struct AppArgs {
    /// The pod's address
    #[arg(long)]
    ip: IpAddr,

    /// What SIGTERM does
    #[arg(long, value_enum)]
    on_sigterm: OnSigterm,
}

/// What the app does when it is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnSigterm {
    /// It has no handler: the process is over.
    Exit,
    /// It stops listening, closes what is idle, tells HTTP/2 clients to go, finishes what it has begun, and exits
    /// when that is done or the time is up.
    Graceful,
}

impl AppArgs {
    /// Runs the app until it is told to end.
    pub(crate) fn run(self) -> ExitCode {
        match super::runtime().and_then(|runtime| runtime.block_on(self.serve())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(2)
            }
        }
    }

    async fn serve(self) -> io::Result<()> {
        // The handler stands before anybody can know of the process. Without one, SIGTERM ends it.
        let told = match self.on_sigterm {
            OnSigterm::Exit => None,
            OnSigterm::Graceful => Some(signal(SignalKind::terminate())?),
        };
        let listener = TcpListener::bind((self.ip, 0)).await?;
        announce(&listener)?;
        let stop = async {
            match told {
                Some(mut told) => told.recv().await,
                None => std::future::pending().await,
            }
        };
        serve_until(listener, stop).await;
        Ok(())
    }
}

/// Tells the demo where the app listens.
#[expect(clippy::print_stdout, reason = "it is how the parent learns of the port")]
fn announce(listener: &TcpListener) -> io::Result<()> {
    println!("{}", listener.local_addr()?);
    Ok(())
}

/// Serves until `stop`, then shuts down as Go's `http.Server.Shutdown` does.
async fn serve_until(listener: TcpListener, stop: impl Future) {
    let (stopping, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, stopping.subscribe()));
                }
                // Most likely out of file descriptors: some of them will be free again.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
            _ = &mut stop => break,
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(SHUTDOWN_TIMEOUT, finished).await;
}

/// HTTP/2 begins with `PRI`; of HTTP/1.1 the app knows nothing but `GET`.
async fn serve_connection(stream: TcpStream, stopping: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    // How a connection ends is the client's business: it counts.
    match stream.peek(&mut first).await {
        Ok(1) if first == *b"P" => grpc::serve(stream, stopping).await,
        Ok(1) => http1::serve(stream, stopping).await,
        _ => {}
    }
}

/// Waits until the app is told to end.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error would mean that the listener's task is gone, and then the process is as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

#[cfg(test)]
mod tests;
