//! Unary calls at a steady rate. Nobody repeats one that has left the client: each that fails is counted.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Duration, Instant, interval};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::app::ECHO;
use crate::codec::Raw;

/// What has become of the calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Answered, by server.
    answered: BTreeMap<char, usize>,
    /// Failed, by status.
    failed: BTreeMap<String, usize>,
    /// Made again, because they had never left tonic.
    unsent: usize,
    slowest: Duration,
    took: Duration,
}

impl Tally {
    fn count(&mut self, result: Result<char, Status>, took: Duration) {
        match result {
            Ok(server) => *self.answered.entry(server).or_default() += 1,
            Err(status) => {
                *self.failed.entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1
            }
        }
        self.slowest = self.slowest.max(took);
    }

    pub(crate) fn answered(&self) -> usize {
        self.answered.values().sum()
    }

    pub(crate) fn servers(&self) -> usize {
        self.answered.len()
    }

    pub(crate) fn failures(&self) -> usize {
        self.failed.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.answered() + self.failures();
        write!(
            f,
            "{calls} unary calls in {:.1} s, slowest {:.2} s, {:?}; {} failed {:?}, {} had not left tonic",
            self.took.as_secs_f64(),
            self.slowest.as_secs_f64(),
            self.answered,
            self.failures(),
            self.failed,
            self.unsent
        )
    }
}

/// A load under way.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Tally>,
}

impl Load {
    /// Starts `rate` calls a second.
    pub(crate) fn start(channel: &Channel, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(run(channel.clone(), rate, Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Waits for the calls under way.
    pub(crate) async fn stop(self) -> Tally {
        self.stop.store(true, Relaxed);
        self.task.await.unwrap_or_default()
    }
}

async fn run(channel: Channel, rate: u32, stop: Arc<AtomicBool>) -> Tally {
    let tally = Arc::new(Mutex::new(Tally::default()));
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    while !stop.load(Relaxed) {
        // A tick that came late is followed by those that were missed.
        ticks.tick().await;
        let (channel, tally) = (channel.clone(), Arc::clone(&tally));
        calls.spawn(async move {
            let begun = Instant::now();
            let mut result = call(channel.clone()).await;
            while result.as_ref().is_err_and(is_unsent) {
                tally.lock().unwrap_or_else(PoisonError::into_inner).unsent += 1;
                result = call(channel.clone()).await;
            }
            tally.lock().unwrap_or_else(PoisonError::into_inner).count(result, begun.elapsed());
        });
        while calls.try_join_next().is_some() {}
    }
    let took = begun.elapsed();
    while calls.join_next().await.is_some() {}
    let mut tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    tally.took = took;
    tally
}

/// One call; returns the name of the server.
async fn call(channel: Channel) -> Result<char, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unknown(format!("not ready: {error}")))?;
    let request = Request::new(Bytes::from_static(b"words"));
    let answer = client.unary(request, PathAndQuery::from_static(ECHO), Raw).await?.into_inner();
    match answer.split_first() {
        Some((&name, b"words")) => Ok(char::from(name)),
        _ => Err(Status::data_loss(format!("{answer:?}"))),
    }
}

/// Whether tonic has given a call up that it had not sent: its connection was told to go (GOAWAY) before.
fn is_unsent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let queued = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        let unopened =
            error.downcast_ref::<h2::Error>().is_some_and(|error| error.is_go_away() && error.is_remote());
        if queued || unopened {
            return true;
        }
        cause = error.source();
    }
    false
}
