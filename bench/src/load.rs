//! Many clients at once, until they are stopped.
//!
//! Two kinds, because a drain can hurt them in different ways: *one-shot* clients open a connection for every
//! request, without pause, and so always have some in the accept queue; *keep-alive* clients think between
//! requests and honour `Connection: close`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::{After, Connection, Failure};
use crate::origin::{Random, body_of};
use crate::response::Response;
use crate::tally::Tally;

/// A client that got no connection waits this long, or it would only spin.
const BACK_OFF: Duration = Duration::from_millis(5);

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
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    ok: u64,
    first_refusal: Option<Instant>,
}

/// A load under way. Dropping it aborts its clients.
#[must_use]
#[derive(Debug)]
pub struct Running {
    clients: JoinSet<Tally>,
    shared: Arc<Shared>,
}

/// What the clients of one load have in common.
#[derive(Debug)]
struct Shared {
    load: Load,
    stop: watch::Sender<bool>,
    progress: watch::Sender<Progress>,
}

impl Load {
    /// 64 one-shot and 200 keep-alive clients that think for 5 to 35 ms.
    #[must_use]
    pub fn new(addr: SocketAddr, body: usize) -> Self {
        let think = Duration::from_millis(5)..=Duration::from_millis(35);
        Self { addr, body, one_shot: 64, keep_alive: 200, think }
    }

    /// Starts all clients as tasks of the current runtime.
    pub fn start(self) -> Running {
        let (one_shot, all) = (self.one_shot, self.one_shot + self.keep_alive);
        let (stop, progress) = (watch::Sender::default(), watch::Sender::default());
        let shared = Arc::new(Shared { load: self, stop, progress });
        let mut clients = JoinSet::new();
        for id in 0..all {
            let client = Client { id, requests: 0, tally: Tally::default(), shared: Arc::clone(&shared) };
            if id < one_shot {
                clients.spawn(client.one_shot());
            } else {
                clients.spawn(client.keep_alive());
            }
        }
        Running { clients, shared }
    }
}

impl Running {
    /// Waits until this many requests have ended well; tests need no sleep to be in the middle of a load.
    pub async fn reached(&self, ok: u64) {
        let _ = self.shared.progress.subscribe().wait_for(|progress| progress.ok >= ok).await;
    }

    /// Waits until a connection was refused, and says when.
    pub async fn refused(&self) -> Option<Instant> {
        let mut progress = self.shared.progress.subscribe();
        let found = progress.wait_for(|progress| progress.first_refusal.is_some()).await;
        found.ok().and_then(|progress| progress.first_refusal)
    }

    /// Lets every client end the request it is at, and returns what became of all of them.
    ///
    /// # Panics
    /// When a client panicked.
    pub async fn stop(self) -> Tally {
        self.shared.stop.send_replace(true);
        let mut total = Tally::default();
        for tally in self.clients.join_all().await {
            total.merge(&tally);
        }
        total
    }
}

struct Client {
    id: usize,
    requests: u64,
    tally: Tally,
    shared: Arc<Shared>,
}

impl Client {
    async fn one_shot(mut self) -> Tally {
        while !self.stopped() {
            if let Some(mut connection) = self.connect().await {
                let end = self.ask(&mut connection, After::Close).await;
                self.record(end.map(drop));
            }
        }
        self.tally
    }

    async fn keep_alive(mut self) -> Tally {
        let mut random = Random::new(self.id as u64);
        while !self.stopped() {
            let Some(mut connection) = self.connect().await else { continue };
            while self.reuse(&mut connection, &mut random).await {}
        }
        self.tally
    }

    /// One request and the pause after it; true when the connection can be used again.
    async fn reuse(&mut self, connection: &mut Connection, random: &mut Random) -> bool {
        let end = self.ask(connection, After::KeepAlive).await;
        let again = matches!(&end, Ok(response) if !response.close());
        self.tally.told += u64::from(end.as_ref().is_ok_and(Response::close));
        self.record(end.map(drop));
        if !again || self.stopped() {
            return false;
        }
        let mut stop = self.shared.stop.subscribe();
        let closed = tokio::select! {
            closed = connection.closed_within(random.within(&self.shared.load.think)) => closed,
            _ = stop.wait_for(|stop| *stop) => return false,
        };
        match closed {
            Ok(false) => true,
            Ok(true) => {
                self.tally.closed_idle += 1;
                false
            }
            Err(failure) => {
                self.record(Err(failure));
                false
            }
        }
    }

    async fn connect(&mut self) -> Option<Connection> {
        let late = self.shared.progress.borrow().first_refusal.is_some();
        let failure = match Connection::connect(self.shared.load.addr).await {
            Ok(connection) => {
                self.tally.connections += 1;
                self.tally.accepted_after_refusal += u64::from(late);
                return Some(connection);
            }
            Err(failure) => failure,
        };
        self.tally.accepted_after_refusal += u64::from(late && failure == Failure::LostFresh);
        if failure == Failure::Refused {
            let now = Instant::now();
            self.tally.first_refusal.get_or_insert(now);
            self.shared.progress.send_if_modified(|progress| {
                let first = progress.first_refusal.is_none();
                progress.first_refusal.get_or_insert(now);
                first
            });
        }
        self.record(Err(failure));
        sleep(BACK_OFF).await;
        None
    }

    async fn ask(&mut self, connection: &mut Connection, after: After) -> Result<Response, Failure> {
        self.requests += 1;
        let target = format!("/{}/{}", self.id, self.requests);
        let response = connection.get(&target, after).await?;
        let right = response.status() == 200 && response.body() == body_of(&target, self.shared.load.body);
        if right { Ok(response) } else { Err(Failure::Bad) }
    }

    fn record(&mut self, end: Result<(), Failure>) {
        self.tally.record(end);
        if end.is_ok() {
            self.shared.progress.send_modify(|progress| progress.ok += 1);
        }
    }

    fn stopped(&self) -> bool {
        *self.shared.stop.borrow()
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
