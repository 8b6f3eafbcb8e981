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

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(500);

/// Memory has settled when it has not shrunk for this long.
const SETTLED: Duration = Duration::from_secs(3);

/// Nobody tidies up later than this.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(args: &Args) -> io::Result<()> {
    let connections = args.parked;
    let mut table =
        Table::new(&["proxy", "idle, MiB", "after one request each, MiB", "settled, MiB", "kB each"]);
    for &kind in &args.peers {
        table.row(one(args, kind).await?);
    }
    println!(
        "Memory (PSS) with {} workers: idle; with {connections} keep-alive connections after one request each; \
         the same when it no longer shrinks, and the difference to idle per connection\n",
        args.workers
    );
    print!("{table}");
    Ok(())
}

async fn one(args: &Args, kind: Kind) -> io::Result<Vec<String>> {
    let origin = Origin::start(App { body: args.body, ..App::default() })?;
    let peer = Peer::start(&setup(args, kind, &origin)?).await?;
    let pids = family(peer.pid());
    sleep(Duration::from_secs(1)).await;
    let idle = memory(&pids)?;

    let mut clients = Vec::with_capacity(args.parked);
    for _ in 0..args.parked {
        let failed = |failure| io::Error::other(format!("{}: {failure}", kind.name()));
        let mut client = Connection::connect(peer.addr()).await.map_err(failed)?;
        let response = client.get("/", After::KeepAlive).await.map_err(failed)?;
        if response.status() != 200 || response.close() {
            return Err(io::Error::other(format!("{}: a connection is not kept", kind.name())));
        }
        clients.push(client);
    }
    let fresh = memory(&pids)?;
    let settled = settle(&pids).await?;
    for client in &mut clients {
        if client.closed_within(Duration::ZERO).await != Ok(false) {
            return Err(io::Error::other(format!("{}: an idle connection was closed", kind.name())));
        }
    }
    let each = settled.saturating_sub(idle) as f64 / args.parked as f64;
    Ok(vec![kind.name().to_owned(), mib(idle), mib(fresh), mib(settled), format!("{:.2}", each / 1000.0)])
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
