//! Many clients at once, until they are stopped.
//!
//! Two kinds, because a drain can hurt them in different ways: *one-shot* clients open a connection for every
//! request, without pause, and so always have some in the accept queue; *keep-alive* clients think between
//! requests and honour `Connection: close`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{After, Connection, Failure};
use crate::origin::{Random, body_of};
use crate::response::Response;
use crate::session::{Running, Session};
use crate::tally::Tally;
use crate::tls::Trust;

/// A load against one address, which must lead to an [`Origin`](crate::Origin).
#[derive(Debug, Clone)]
pub struct Load {
    /// Where the requests go.
    pub addr: SocketAddr,
    /// The size of the origin's bodies.
    pub body: usize,
    /// Clients with one request per connection, without pause.
    pub one_shot: usize,
    /// Clients with many requests per connection.
    pub keep_alive: usize,
    /// How long the keep-alive clients think between two requests.
    pub think: RangeInclusive<Duration>,
    /// Speaks TLS and trusts this.
    pub tls: Option<Trust>,
}

impl Load {
    /// 64 one-shot and 200 keep-alive clients that think for 5 to 35 ms.
    #[must_use]
    pub fn new(addr: SocketAddr, body: usize) -> Self {
        let think = Duration::from_millis(5)..=Duration::from_millis(35);
        Self { addr, body, one_shot: 64, keep_alive: 200, think, tls: None }
    }

    /// Starts all clients as tasks of the current runtime.
    pub fn start(self) -> Running {
        let (one_shot, all) = (self.one_shot, self.one_shot + self.keep_alive);
        let load = Arc::new(self);
        let mut running = Running::new();
        for id in 0..all {
            let load = Arc::clone(&load);
            running.spawn(|session| async move {
                let client = Client { id, requests: 0, session, load };
                if id < one_shot { client.one_shot().await } else { client.keep_alive().await }
            });
        }
        running
    }
}

struct Client {
    id: usize,
    requests: u64,
    session: Session,
    load: Arc<Load>,
}

impl Client {
    async fn one_shot(mut self) -> Tally {
        while !self.session.stopped() {
            if let Some(mut connection) = self.connect().await {
                let end = self.ask(&mut connection, After::Close).await;
                self.session.record(end.map(drop));
            }
        }
        self.session.tally
    }

    async fn keep_alive(mut self) -> Tally {
        let mut random = Random::new(self.id as u64);
        while !self.session.stopped() {
            let Some(mut connection) = self.connect().await else { continue };
            while self.reuse(&mut connection, &mut random).await {}
        }
        self.session.tally
    }

    /// One request and the pause after it; true when the connection can be used again.
    async fn reuse(&mut self, connection: &mut Connection, random: &mut Random) -> bool {
        let end = self.ask(connection, After::KeepAlive).await;
        let again = matches!(&end, Ok(response) if !response.close());
        self.session.tally.told += u64::from(end.as_ref().is_ok_and(Response::close));
        self.session.record(end.map(drop));
        if !again || self.session.stopped() {
            return false;
        }
        let closed = tokio::select! {
            closed = connection.closed_within(random.within(&self.load.think)) => closed,
            () = self.session.stop() => return false,
        };
        match closed {
            Ok(false) => true,
            Ok(true) => {
                self.session.tally.closed_idle += 1;
                false
            }
            Err(failure) => {
                self.session.record(Err(failure));
                false
            }
        }
    }

    async fn connect(&mut self) -> Option<Connection> {
        let connect = async {
            match &self.load.tls {
                Some(trust) => Connection::connect_tls(self.load.addr, trust).await,
                None => Connection::connect(self.load.addr).await,
            }
        };
        self.session.connected(connect).await
    }

    async fn ask(&mut self, connection: &mut Connection, after: After) -> Result<Response, Failure> {
        self.requests += 1;
        let target = format!("/{}/{}", self.id, self.requests);
        let response = connection.get(&target, after).await?;
        let right = response.status() == 200 && response.body() == body_of(&target, self.load.body);
        if right { Ok(response) } else { Err(Failure::Bad) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;
    use crate::origin::{App, Origin};

    fn small(addr: SocketAddr) -> Load {
        Load {
            one_shot: 2,
            keep_alive: 3,
            think: Duration::ZERO..=Duration::from_millis(1),
            ..Load::new(addr, 700)
        }
    }

    #[tokio::test]
    async fn a_healthy_app_loses_nothing() {
        let origin = Origin::start(App { body: 700, ..App::default() }).unwrap();
        let load = small(origin.addr()).start();
        load.reached(200).await;
        let tally = load.stop().await;
        assert!(tally.ok >= 200, "{tally}");
        assert_eq!(tally, Tally { ok: tally.ok, connections: tally.connections, ..Tally::default() });
        assert_eq!(origin.served(), tally.ok);
    }

    #[tokio::test]
    async fn chunked_bodies_are_verified_too() {
        let origin = Origin::start(App { body: 700, chunked: true, ..App::default() }).unwrap();
        let load = small(origin.addr()).start();
        load.reached(50).await;
        assert_eq!(load.stop().await.lost(), 0);
    }

    #[tokio::test]
    async fn a_body_of_another_size_is_bad() {
        let origin = Origin::start(App { body: 699, ..App::default() }).unwrap();
        let load = Load { one_shot: 1, keep_alive: 0, ..small(origin.addr()) }.start();
        while origin.served() == 0 {
            tokio::task::yield_now().await;
        }
        let tally = load.stop().await;
        assert!(tally.bad > 0 && tally.ok == 0, "{tally}");
    }

    #[tokio::test]
    async fn refusals_are_no_loss() {
        // Bound and not listening: nobody else can get the port.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let load = small(socket.local_addr().unwrap()).start();
        let first = load.refused().await;
        let tally = load.stop().await;
        assert!(tally.refused > 0 && tally.first_refusal == first, "{tally}");
        assert_eq!((tally.requests(), tally.accepted_after_refusal), (0, 0));
    }

    #[tokio::test]
    async fn idle_closes_are_seen_before_the_next_request() {
        let origin = Origin::start(App { body: 700, hang_up: true, ..App::default() }).unwrap();
        let think = Duration::from_secs(60)..=Duration::from_secs(60);
        let load = Load { one_shot: 0, keep_alive: 1, think, ..small(origin.addr()) }.start();
        load.reached(20).await;
        let tally = load.stop().await;
        assert!(tally.closed_idle >= 19, "{tally:?}");
        assert_eq!((tally.lost(), tally.told), (0, 0), "{tally:?}");
    }
}
