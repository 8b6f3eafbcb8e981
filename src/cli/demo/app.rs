//! The app in a pod, a process of its own: a small HTTP/1.1 server as it is found in the wild.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::page::{PAGES, PagedOut, thinking};

/// A client that has connected may take this long to send its first request during a shutdown; Go's
/// `http.Server` allows the same.
const FIRST_REQUEST: Duration = Duration::from_secs(5);

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
    /// It stops listening, finishes what it has begun, closes what is idle, and exits.
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
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    let requested = Arc::new(Notify::new());
    let service = service_fn(|request| {
        requested.notify_one();
        respond(request)
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let told = async {
        // An error would mean that the listener's task is gone, and then the process is as well.
        let _ = stopping.wait_for(|stopping| *stopping).await;
        let _ = timeout(FIRST_REQUEST, requested.notified()).await;
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = told => connection.as_mut().graceful_shutdown(),
    }
    // How a connection ends is the client's business: it counts.
    let _ = connection.await;
}

/// Answers `/PAGE` with that page.
async fn respond(request: Request<Incoming>) -> Result<Response<Either<PagedOut, Full<Bytes>>>, Infallible> {
    let page = request.uri().path().trim_start_matches('/').parse().ok().filter(|page| *page < PAGES);
    let Some(page) = page else {
        let mut response = Response::new(Either::Right(Full::default()));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    sleep(thinking(page)).await;
    Ok(Response::new(Either::Left(PagedOut::new(page))))
}

#[cfg(test)]
mod tests;
