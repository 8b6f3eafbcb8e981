//! The clients of all nodes, at work.

use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Client, Kind, Stop};
use super::cluster::Cluster;
use super::error::DemoError;
use super::tally::{ByProtocol, Tally};

/// The clients on each node.
const PER_NODE: [Kind; 7] = [
    Kind::OneShot,
    Kind::KeepAlive,
    Kind::Grpc,
    Kind::WebSocket,
    Kind::WebSocket,
    Kind::Events,
    Kind::Events,
];

/// Clients that send requests until they are stopped.
#[derive(Debug)]
pub(super) struct Load {
    clients: JoinSet<Result<(), DemoError>>,
    stop: watch::Sender<bool>,
    tally: Arc<Tally>,
}

impl Load {
    /// Starts the clients. The same seed gives them the same habits.
    pub(super) fn start(cluster: &Cluster, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let tally = Arc::new(Tally::default());
        let stop = watch::Sender::new(false);
        let mut clients = JoinSet::new();
        for node in cluster.nodes() {
            for kind in PER_NODE {
                for client in Client::of_kind(kind, &node, &mut rng) {
                    clients.spawn(work(client, Arc::clone(&tally), stop.subscribe()));
                }
            }
        }
        Self { clients, stop, tally }
    }

    /// What became of the requests so far.
    pub(super) fn counts(&self) -> ByProtocol {
        self.tally.counts()
    }

    /// Lets every client finish its request, and counts.
    pub(super) async fn stop(mut self) -> Result<ByProtocol, DemoError> {
        self.stop.send_replace(true);
        while let Some(client) = self.clients.join_next().await {
            client.map_err(|error| DemoError::Client(error.into()))??;
        }
        Ok(self.tally.counts())
    }
}

async fn work(mut client: Client, tally: Arc<Tally>, mut stop: Stop) -> Result<(), DemoError> {
    while timeout(client.think(), stop.wait_for(|stop| *stop)).await.is_err() {
        let outcome = client.run(&mut stop).await.map_err(DemoError::Client)?;
        tally.count(client.protocol(), outcome);
    }
    Ok(())
}
