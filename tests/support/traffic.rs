//! Clients that never stop by themselves, and what became of their requests.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::wire::Wire;
use super::within;

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Answered with 200 and a whole body.
    pub(crate) served: usize,
    /// Connections that were refused: they cost the client nothing, it goes elsewhere.
    pub(crate) refused: usize,
    /// Everything else: what a user would notice.
    pub(crate) lost: Vec<String>,
}

/// Running clients.
pub(crate) struct Traffic {
    clients: JoinSet<Tally>,
    served: watch::Sender<usize>,
}

impl Traffic {
    /// Starts clients that use one connection for as long as they may, and others that use one a request.
    /// Each ends when it is refused.
    pub(crate) fn start(addr: SocketAddr, keep_alive: usize, one_shot: usize) -> Self {
        let served = watch::Sender::new(0);
        let mut clients = JoinSet::new();
        for i in 0..keep_alive + one_shot {
            clients.spawn(client(addr, i < keep_alive, served.clone()));
        }
        Self { clients, served }
    }

    /// Waits until this many requests have been served since the start.
    pub(crate) async fn served(&self, count: usize) {
        let mut served = self.served.subscribe();
        within("requests to be served", served.wait_for(|served| *served >= count)).await.expect("clients");
    }

    /// Waits until every client has been refused.
    pub(crate) async fn until_refused(self) -> Tally {
        let tallies = within("every client to be refused", self.clients.join_all()).await;
        let mut sum = Tally::default();
        for tally in tallies {
            sum.served += tally.served;
            sum.refused += tally.refused;
            sum.lost.extend(tally.lost);
        }
        sum
    }
}

async fn client(addr: SocketAddr, keep_alive: bool, served: watch::Sender<usize>) -> Tally {
    let mut tally = Tally::default();
    loop {
        let mut wire = match TcpStream::connect(addr).await {
            Ok(stream) => Wire::new(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tally.refused += 1;
                return tally;
            }
            Err(error) => {
                tally.lost.push(format!("connecting: {error}"));
                continue;
            }
        };
        loop {
            match exchange(&mut wire, keep_alive).await {
                Ok(more) => {
                    tally.served += 1;
                    served.send_modify(|served| *served += 1);
                    if !more {
                        break;
                    }
                }
                Err(what) => {
                    tally.lost.push(what);
                    break;
                }
            }
        }
    }
}

/// One request; says whether the connection may be used again.
async fn exchange(wire: &mut Wire, keep_alive: bool) -> Result<bool, String> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let request = format!("GET /traffic HTTP/1.1\r\nHost: app.test\r\nConnection: {connection}\r\n\r\n");
    wire.send(request).await.map_err(|error| format!("sending: {error}"))?;
    let head = wire.head().await.map_err(|error| format!("reading the head: {error}"))?;
    let head = head.ok_or("closed without a response")?;
    let body = wire.body(head.response_framing("GET")).await;
    body.map_err(|error| format!("reading the body: {error}"))?;
    if head.status() == 200 { Ok(keep_alive && !head.has("connection", "close")) } else { Err(head.start) }
}
