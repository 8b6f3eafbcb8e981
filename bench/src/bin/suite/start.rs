//! From exec to the first accepted connection, and to the first answer.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use ebb_bench::client::After;
use ebb_bench::peer::{Kind, Serve};
use ebb_bench::{App, Connection, Origin};
use tokio::time::Instant;

use crate::context::Context;
use crate::series::Series;

const PATIENCE: Duration = Duration::from_secs(10);

/// One start, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Until a connection is accepted.
    pub(crate) listens: f64,
    /// Until the first request over it is answered.
    pub(crate) answers: f64,
}

pub(crate) async fn measure(cx: &mut Context) -> io::Result<Series<Turn>> {
    let origin = Origin::start(App { body: cx.args.body, ..App::default() })?;
    let kinds = cx.proxies();
    let mut turns = Series::new(&kinds);
    for round in 0..cx.args.starts() {
        for kind in Series::<Turn>::order(&kinds, round) {
            let turn = once(cx, kind, &origin).await;
            if let Err(error) = &turn {
                cx.failed(kind, "start", error);
            }
            turns.push(kind, turn.ok());
            // The one before is ended in the background.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(turns)
}

/// Files are written before the clock starts; then connects without a pause, which costs a processor, but a
/// timer would cost precision. The first answer may be nothing but a closed connection while a proxy is not ready.
async fn once(cx: &Context, kind: Kind, origin: &Origin) -> io::Result<Turn> {
    let prepared = cx.setup(kind, origin.addr(), Serve::Http1)?.prepare()?;
    let addr = prepared.addr();
    let start = Instant::now();
    let peer = prepared.spawn()?;
    let in_time = |what: &str| {
        let why = || io::Error::other(format!("it does not {what}: {}", peer.log()));
        if start.elapsed() < PATIENCE { Ok(()) } else { Err(why()) }
    };
    while TcpStream::connect(addr).is_err() {
        in_time("listen")?;
        std::thread::yield_now();
    }
    let listens = start.elapsed();
    loop {
        if let Ok(mut connection) = Connection::connect(addr).await
            && let Ok(response) = connection.get("/", After::Close).await
            && response.status() == 200
        {
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            return Ok(Turn { listens: millis(listens), answers: millis(start.elapsed()) });
        }
        in_time("answer")?;
    }
}
