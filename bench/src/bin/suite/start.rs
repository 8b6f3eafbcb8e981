//! From exec to the first accepted connection.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use ebb_bench::peer::{Kind, Serve};
use ebb_bench::table::{Table, median};
use ebb_bench::{App, Origin};
use tokio::time::Instant;

use crate::{Args, setup};

pub(crate) async fn measure(args: &Args) -> io::Result<()> {
    let origin = Origin::start(App::default())?;
    let mut times: Vec<Vec<f64>> = args.peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.starts {
        for (kind, times) in args.peers.iter().zip(&mut times) {
            times.push(once(args, *kind, &origin)?.as_secs_f64() * 1e3);
            // The one before is ended in the background.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut table = Table::new(&["proxy", "ms", "max"]);
    for (kind, times) in args.peers.iter().zip(&times) {
        let max = times.iter().copied().fold(0.0, f64::max);
        table.row(vec![kind.name().to_owned(), format!("{:.1}", median(times)), format!("{max:.1}")]);
    }
    println!("Start: from fork and exec to the first accepted connection, median of {}\n", args.starts);
    print!("{table}");
    Ok(())
}

/// Files are written before the clock starts; then connects without a pause, which costs a processor, but a
/// timer would cost precision.
fn once(args: &Args, kind: Kind, origin: &Origin) -> io::Result<Duration> {
    let prepared = setup(args, kind, origin.addr(), &Serve::Http1)?.prepare()?;
    let addr = prepared.addr();
    let start = Instant::now();
    let peer = prepared.spawn()?;
    while TcpStream::connect(addr).is_err() {
        if start.elapsed() > Duration::from_secs(5) {
            return Err(io::Error::other(format!("{} does not listen: {}", kind.name(), peer.log())));
        }
        std::thread::yield_now();
    }
    Ok(start.elapsed())
}
