//! Memory: of an idle proxy, and of each connection that has served and now waits.

use std::io;
use std::time::Duration;

use ebb_bench::client::After;
use ebb_bench::peer::{Kind, Peer};
use ebb_bench::table::Table;
use ebb_bench::usage::{family, memory};
use ebb_bench::{App, Connection, Origin};
use tokio::time::{Instant, sleep};

use crate::{Args, setup};

/// Connections that come and go before the memory per connection is measured.
const WARM_UP: usize = 64;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(500);

/// Memory has settled when it has not shrunk for this long.
const SETTLED: Duration = Duration::from_secs(3);

/// Nobody tidies up later than this.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(args: &Args) -> io::Result<()> {
    let connections = args.parked;
    let head =
        ["proxy", "started, MiB", "warm, MiB", "after one request each, MiB", "settled, MiB", "kB each"];
    let mut table = Table::new(&head);
    for &kind in &args.peers {
        table.row(one(args, kind).await?);
    }
    println!(
        "Memory (PSS) with {} workers: idle since the start; idle after {WARM_UP} connections; with {connections} \
         keep-alive connections after one request each; the same when it no longer shrinks, and the difference to \
         warm per connection\n",
        args.workers
    );
    print!("{table}");
    Ok(())
}

async fn one(args: &Args, kind: Kind) -> io::Result<Vec<String>> {
    let origin = Origin::start(App { body: args.body, ..App::default() })?;
    let peer = Peer::start(&setup(args, kind, &origin)?).await?;
    // nginx listens before it has workers.
    sleep(Duration::from_secs(1)).await;
    let pids = family(peer.pid());
    let started = memory(&pids)?;
    // The first connections touch code and tables that all later ones share.
    drop(connect(kind, &peer, WARM_UP).await?);
    let warm = settle(&pids).await?;
    let mut clients = connect(kind, &peer, args.parked).await?;
    let fresh = memory(&pids)?;
    let settled = settle(&pids).await?;
    for client in &mut clients {
        if client.closed_within(Duration::ZERO).await != Ok(false) {
            return Err(io::Error::other(format!("{}: an idle connection was closed", kind.name())));
        }
    }
    let each = settled.saturating_sub(warm) as f64 / args.parked as f64;
    let mut cells = vec![kind.name().to_owned()];
    cells.extend([started, warm, fresh, settled].map(mib));
    cells.push(format!("{:.2}", each / 1000.0));
    Ok(cells)
}

/// Connections that have each had a response and stay open.
async fn connect(kind: Kind, peer: &Peer, count: usize) -> io::Result<Vec<Connection>> {
    let failed = |failure| io::Error::other(format!("{}: {failure}", kind.name()));
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Connection::connect(peer.addr()).await.map_err(failed)?;
        let response = client.get("/", After::KeepAlive).await.map_err(failed)?;
        if response.status() != 200 || response.close() {
            return Err(io::Error::other(format!("{}: a connection is not kept", kind.name())));
        }
        clients.push(client);
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
