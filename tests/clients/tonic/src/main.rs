//! A tonic client and server on both sides of ebb: no call fails when a pod goes away.
//!
//! tonic repeats nothing by itself, not even a call that has never left it: at a GOAWAY it fails those that wait in
//! its own queue. Here they are made again, as gRPC has it for them ("transparent
//! retries"), and counted. That they had not left is proved by the apps: they answer each call once.
#![allow(clippy::print_stdout, reason = "the results are what this prints")]

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, interval, sleep};
use tonic::client::Grpc;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tower::service_fn;

mod app;
mod codec;
mod load;
mod pod;

use app::{ECHO, TALK};
use codec::Raw;
use load::Load;
use pod::Pod;

/// How long the removal of a pod takes to reach the clients.
const PROPAGATION: Duration = Duration::from_secs(1);

/// Turns of the long stream: over a few seconds, well into the drain.
const TURNS: usize = 200;

type Outcome = Result<String, Box<dyn Error>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> ExitCode {
    let rate = std::env::args().nth(1).and_then(|rate| rate.parse().ok()).unwrap_or(1000);
    let mut failed = 0;
    failed += report("behind a service's address", service(rate).await);
    failed += report("balanced by the client", balanced(rate).await);
    failed += report("a stream at the deadline", deadline().await);
    failed += report("the app crashes", crash().await);
    ExitCode::from(failed)
}

fn report(name: &str, outcome: Outcome) -> u8 {
    match outcome {
        Ok(saw) => {
            println!("ok   {name}: {saw}");
            0
        }
        Err(why) => {
            println!("FAIL {name}: {why}");
            1
        }
    }
}

/// A channel with one connection to whatever `addr` says when it is made.
fn channel_to(addr: &Arc<Mutex<SocketAddr>>) -> Channel {
    let addr = Arc::clone(addr);
    Endpoint::from_static("http://talk").connect_with_connector_lazy(service_fn(move |_| {
        let addr = *addr.lock().unwrap_or_else(PoisonError::into_inner);
        async move { TcpStream::connect(addr).await.map(TokioIo::new) }
    }))
}

/// One channel to a service's address, which leads to the first pod until its removal has got about.
async fn service(rate: u32) -> Outcome {
    let (one, two) = (Pod::start(b'1').await?, Pod::start(b'2').await?);
    let addr = Arc::new(Mutex::new(one.addr));
    let answered = [one.answered(), two.answered()];
    let load = Load::start(&channel_to(&addr), rate);
    let stream = tokio::spawn(turns(channel_to(&addr), TURNS));
    sleep(Duration::from_secs(1)).await;
    let removal = async {
        sleep(PROPAGATION).await;
        *addr.lock().unwrap_or_else(PoisonError::into_inner) = two.addr;
    };
    let (report, ()) = tokio::join!(one.delete(), removal);
    sleep(Duration::from_secs(1)).await;
    stream.await??;
    verdict(load, &report?, answered).await
}

/// A channel that balances between two pods, until a resolver would tell it that there is only one.
async fn balanced(rate: u32) -> Outcome {
    let (one, two) = (Pod::start(b'1').await?, Pod::start(b'2').await?);
    let (channel, changes) = Channel::balance_channel(16);
    for pod in [&one, &two] {
        changes
            .send(Change::Insert(pod.addr, Endpoint::from_shared(format!("http://{}", pod.addr))?))
            .await?;
    }
    let answered = [one.answered(), two.answered()];
    let load = Load::start(&channel, rate);
    let stream = tokio::spawn(turns(channel_to(&Arc::new(Mutex::new(one.addr))), TURNS));
    sleep(Duration::from_secs(1)).await;
    let gone = one.addr;
    let removal = async {
        sleep(PROPAGATION).await;
        changes.send(Change::Remove(gone)).await
    };
    let (report, removed) = tokio::join!(one.delete(), removal);
    removed?;
    sleep(Duration::from_secs(1)).await;
    stream.await??;
    verdict(load, &report?, answered).await
}

/// What the load has come to: no call failed, and none was answered twice.
async fn verdict(load: Load, report: &Value, answered: [Arc<AtomicUsize>; 2]) -> Outcome {
    let tally = load.stop().await;
    let answered = answered.iter().map(|answered| answered.load(Relaxed)).sum::<usize>() - TURNS;
    let saw = format!(
        "{tally}; the apps answered {answered}; a stream of {TURNS} turns whole; drain {}",
        ends(report)
    );
    let once = answered == tally.answered();
    if tally.failures() > 0 || tally.servers() < 2 || !once || report["outcome"] != "clean" {
        return Err(saw.into());
    }
    Ok(saw)
}

/// How the drain's HTTP/2 connections ended.
fn ends(report: &Value) -> String {
    format!("{} {}", report["outcome"], report["connections"]["http2"])
}

async fn open(channel: Channel, method: &'static str, turns: usize) -> Result<Streaming<Bytes>, Status> {
    let mut client = Grpc::new(channel).max_decoding_message_size(4 << 20);
    client.ready().await.map_err(|error| Status::unknown(format!("not ready: {error}")))?;
    let words =
        stream::unfold((interval(Duration::from_millis(20)), turns), |(mut ticks, left)| async move {
            ticks.tick().await;
            (left > 0).then(|| (Bytes::from_static(b"word"), (ticks, left - 1)))
        });
    Ok(client.streaming(Request::new(words), PathAndQuery::from_static(method), Raw).await?.into_inner())
}

/// A bidirectional stream of so many turns, all on one server.
async fn turns(channel: Channel, turns: usize) -> Result<(), Status> {
    let mut stream = open(channel, ECHO, turns).await?;
    let mut answered = 0;
    while let Some(said) = stream.message().await? {
        if said != "1word" {
            return Err(Status::data_loss(format!("{said:?}")));
        }
        answered += 1;
    }
    if answered == turns { Ok(()) } else { Err(Status::data_loss(format!("{answered} of {turns}"))) }
}

/// A stream without end is ended with `UNAVAILABLE`, and the channel leads elsewhere by then.
async fn deadline() -> Outcome {
    let (one, two) = (Pod::start(b'1').await?, Pod::start(b'2').await?);
    let addr = Arc::new(Mutex::new(one.addr));
    let channel = channel_to(&addr);
    let (mut large, mut small) =
        (open(channel.clone(), TALK, 1).await?, open(channel.clone(), ECHO, usize::MAX).await?);
    large.message().await?;
    small.message().await?;
    *addr.lock().unwrap_or_else(PoisonError::into_inner) = two.addr;
    let begun = Instant::now();
    let (report, large, small) = tokio::join!(one.delete(), last(&mut large), last(&mut small));
    let report = report?;
    let again = open(channel, ECHO, 1).await?.message().await?;
    let saw = format!(
        "large messages: {large}; small: {small}; after {:.1} s; then {again:?}; drain {}",
        begun.elapsed().as_secs_f64(),
        ends(&report)
    );
    let unavailable = [&large, &small].iter().all(|status| status.code() == Code::Unavailable);
    if unavailable && again.as_deref() == Some(b"2word") && report["outcome"] == "forced" {
        return Ok(saw);
    }
    Err(saw.into())
}

/// Reads a stream to its end, and returns the status.
async fn last(stream: &mut Streaming<Bytes>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok("the end"),
            Err(status) => return status,
        }
    }
}

/// The app ends in the middle of streams.
async fn crash() -> Outcome {
    let mut pod = Pod::start(b'1').await?;
    let channel = channel_to(&Arc::new(Mutex::new(pod.addr)));
    let (mut large, mut small) =
        (open(channel.clone(), TALK, 1).await?, open(channel.clone(), ECHO, usize::MAX).await?);
    large.message().await?;
    small.message().await?;
    pod.crash_app();
    let (large, small) = tokio::join!(last(&mut large), last(&mut small));
    let down = match open(channel, ECHO, 1).await {
        Ok(mut stream) => last(&mut stream).await,
        Err(status) => status,
    };
    let saw = format!("large messages: {large}; small: {small}; afterwards: {down}");
    if [large, small, down].iter().all(|status| status.code() == Code::Unavailable) {
        return Ok(saw);
    }
    Err(saw.into())
}
