//! The cluster as its clients see it: on every node an own, possibly outdated, list of endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::delays::Delays;

/// The endpoints of the service, as far as one node knows.
pub(super) type Node = watch::Receiver<Vec<SocketAddr>>;

/// What each node knows of the service's endpoints.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Vec<watch::Sender<Vec<SocketAddr>>>,
}

impl Cluster {
    /// A cluster in which every node knows these endpoints.
    pub(super) fn new(nodes: usize, endpoints: &[SocketAddr]) -> Self {
        Self { nodes: (0..nodes).map(|_| watch::Sender::new(endpoints.to_vec())).collect() }
    }

    /// The views of all nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.nodes.iter().map(watch::Sender::subscribe)
    }

    /// Changes the endpoints: each node knows after its delay. Returns when the last one does, and how long
    /// that took.
    pub(super) async fn publish(&self, endpoints: &[SocketAddr], delays: &Delays) -> Duration {
        let changed = Instant::now();
        let mut nodes: Vec<_> = delays.by_node().iter().zip(&self.nodes).collect();
        nodes.sort_unstable_by_key(|(delay, _)| **delay);
        for (delay, node) in nodes {
            sleep_until(changed + *delay).await;
            node.send_replace(endpoints.to_vec());
        }
        changed.elapsed()
    }

    /// How many nodes know that these are the endpoints.
    pub(super) fn informed(&self, endpoints: &[SocketAddr]) -> usize {
        self.nodes.iter().filter(|node| *node.borrow() == endpoints).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::NODES;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_node_learns_after_its_own_delay() {
        let [old, new] = [1, 2].map(|port| vec![SocketAddr::from(([127, 0, 0, 1], port))]);
        let [delays, ..] = Delays::draw(&mut fastrand::Rng::with_seed(3));
        let cluster = Cluster::new(NODES, &old);
        let start = Instant::now();
        let learned: Vec<_> = cluster
            .nodes()
            .map(|mut node| {
                tokio::spawn(async move {
                    node.changed().await.unwrap();
                    start.elapsed()
                })
            })
            .collect();
        assert_eq!(cluster.informed(&new), 0);
        cluster.publish(&new, &delays).await;
        assert_eq!(cluster.informed(&new), NODES);
        for (learned, delay) in learned.into_iter().zip(delays.by_node()) {
            // Tokio's timers tick once a millisecond.
            assert!(learned.await.unwrap().abs_diff(*delay).as_millis() <= 1);
        }
    }
}
