//! Memory: of an idle proxy, and of each connection that has served and now waits.

use std::io;
use std::time::Duration;

use ebb_bench::client::After;
use ebb_bench::http2::Idle;
use ebb_bench::peer::{Kind, Peer, Serve};
use ebb_bench::table::Table;
use ebb_bench::usage::{family, memory};
use ebb_bench::{App, Connection, Origin};
use tokio::time::{Instant, sleep};

use crate::{Args, peers, setup};

/// Connections that come and go before the memory per connection is measured.
const WARM_UP: usize = 64;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(500);

/// Memory has settled when it has not shrunk for this long.
const SETTLED: Duration = Duration::from_secs(3);

/// Nobody tidies up later than this.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(args: &Args, serve: &Serve) -> io::Result<()> {
    let connections = args.parked;
    let head =
        ["proxy", "started, MiB", "warm, MiB", "after one request each, MiB", "settled, MiB", "kB each"];
    let mut table = Table::new(&head);
    for kind in peers(args, serve) {
        table.row(one(args, kind, serve).await?);
    }
    println!(
        "Memory (PSS) with {} workers: idle since the start; idle after {WARM_UP} connections; with {connections} \
         {} connections after one request each; the same when it no longer shrinks, and the difference to \
         warm per connection\n",
        args.workers,
        if let Serve::Http2 = serve { "HTTP/2" } else { "keep-alive" }
    );
    print!("{table}");
    Ok(())
}

async fn one(args: &Args, kind: Kind, serve: &Serve) -> io::Result<Vec<String>> {
    let origin = Origin::start(App { body: args.body, ..App::default() })?;
    let peer = Peer::start(&setup(args, kind, origin.addr(), serve)?).await?;
    // nginx listens before it has workers.
    sleep(Duration::from_secs(1)).await;
    let pids = family(peer.pid());
    let started = memory(&pids)?;
    // The first connections touch code and tables that all later ones share.
    drop(connect(kind, &peer, WARM_UP, serve).await?);
    let warm = settle(&pids).await?;
    let mut clients = connect(kind, &peer, args.parked, serve).await?;
    let fresh = memory(&pids)?;
    let settled = settle(&pids).await?;
    for client in &mut clients {
        if client.closed().await {
            return Err(io::Error::other(format!("{}: an idle connection was closed", kind.name())));
        }
    }
    let each = settled.saturating_sub(warm) as f64 / args.parked as f64;
    let mut cells = vec![kind.name().to_owned()];
    cells.extend([started, warm, fresh, settled].map(mib));
    cells.push(format!("{:.2}", each / 1000.0));
    Ok(cells)
}

/// A connection that has had a response.
enum Client {
    Http1(Connection),
    Http2(Idle),
}

impl Client {
    async fn connect(kind: Kind, peer: &Peer, serve: &Serve) -> io::Result<Self> {
        let failed = |failure| io::Error::other(format!("{}: {failure}", kind.name()));
        if let Serve::Http2 = serve {
            return Idle::connect(peer.addr()).await.map(Self::Http2).map_err(failed);
        }
        let mut client = Connection::connect(peer.addr()).await.map_err(failed)?;
        let response = client.get("/", After::KeepAlive).await.map_err(failed)?;
        if response.status() != 200 || response.close() {
            return Err(io::Error::other(format!("{}: a connection is not kept", kind.name())));
        }
        Ok(Self::Http1(client))
    }

    async fn closed(&mut self) -> bool {
        match self {
            Self::Http1(client) => client.closed_within(Duration::ZERO).await != Ok(false),
            Self::Http2(client) => client.closed().await,
        }
    }
}

/// Connections that have each had a response and stay open.
async fn connect(kind: Kind, peer: &Peer, count: usize, serve: &Serve) -> io::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(Client::connect(kind, peer, serve).await?);
    }
    Ok(clients)
}

/// Waits until the memory no longer shrinks.
async fn settle(pids: &[u32]) -> io::Result<u64> {
    let start = Instant::now();
    let (mut least, mut since) = (memory(pids)?, start);
    while since.elapsed() < SETTLED && start.elapsed() < PATIENCE {
        sleep(LOOK).await;
        let now = memory(pids)?;
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    memory(pids)
}

fn mib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}
