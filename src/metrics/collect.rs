//! A scrape: the workers' shards added up into metric families.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};

use super::shard::{BUCKETS_MICROS, End, HandshakeFailure, Protocol, Shard, Toward, UpstreamFailure};

/// Label values to a sum. Ordered, so that the output is stable.
type Sums<V> = BTreeMap<Vec<String>, V>;

/// One family: name, help, kind and label names.
struct Family(&'static str, &'static str, MetricType, &'static [&'static str]);

const CONNECTIONS: Family =
    Family("ebb_connections", "Client connections", MetricType::GAUGE, &["forward", "protocol", "state"]);
const CONNECTIONS_TOTAL: Family = Family(
    "ebb_connections_total",
    "Client connections accepted",
    MetricType::COUNTER,
    &["forward", "protocol"],
);
const IN_FLIGHT: Family = Family(
    "ebb_requests_in_flight",
    "Requests whose response has not ended",
    MetricType::GAUGE,
    &["forward"],
);
const REQUESTS: Family =
    Family("ebb_requests_total", "Requests answered", MetricType::COUNTER, &["forward", "protocol", "code"]);
const DURATION: Family = Family(
    "ebb_request_duration_seconds",
    "From a request's head to the end of its response",
    MetricType::HISTOGRAM,
    &["forward"],
);
const UPSTREAM_ERRORS: Family =
    Family("ebb_upstream_errors_total", "Failures of the app", MetricType::COUNTER, &["forward", "reason"]);
const UPSTREAM_CONNECTIONS: Family =
    Family("ebb_upstream_connections", "Connections to the app", MetricType::GAUGE, &["forward", "state"]);
const TUNNEL_BYTES: Family = Family(
    "ebb_tunnel_bytes_total",
    "Bytes passed on after a 101 and on tcp:// forwards",
    MetricType::COUNTER,
    &["forward", "protocol", "direction"],
);
const HANDSHAKE_FAILURES: Family = Family(
    "ebb_tls_handshake_failures_total",
    "TLS handshakes that failed",
    MetricType::COUNTER,
    &["forward", "reason"],
);
const DRAIN_CONNECTIONS: Family = Family(
    "ebb_drain_connections_total",
    "How connections ended in drains",
    MetricType::COUNTER,
    &["protocol", "end"],
);
const RACED: Family = Family(
    "ebb_drain_raced_requests_total",
    "Idle connections whose next request was on the wire when they were closed in a drain",
    MetricType::COUNTER,
    &[],
);

const PROXY_PROTOCOL_ERRORS: Family = Family(
    "ebb_proxy_protocol_errors_total",
    "Connections whose PROXY protocol header was missing or bad",
    MetricType::COUNTER,
    &["forward"],
);

const FAMILIES: [&Family; 12] = [
    &CONNECTIONS,
    &CONNECTIONS_TOTAL,
    &IN_FLIGHT,
    &REQUESTS,
    &DURATION,
    &UPSTREAM_ERRORS,
    &UPSTREAM_CONNECTIONS,
    &TUNNEL_BYTES,
    &HANDSHAKE_FAILURES,
    &DRAIN_CONNECTIONS,
    &RACED,
    &PROXY_PROTOCOL_ERRORS,
];

/// Adds the shards up when it is asked.
pub(super) struct Sum {
    shards: Vec<Arc<Shard>>,
    descs: Vec<Desc>,
}

impl Sum {
    pub(super) fn new(shards: Vec<Arc<Shard>>) -> prometheus::Result<Self> {
        let descs = FAMILIES
            .iter()
            .map(|Family(name, help, _, labels)| {
                let labels = labels.iter().map(|&label| label.to_owned()).collect();
                Desc::new((*name).to_owned(), (*help).to_owned(), labels, std::collections::HashMap::new())
            })
            .collect::<prometheus::Result<_>>()?;
        Ok(Self { shards, descs })
    }

    /// Adds up what `read` finds in each shard: label values and a number.
    fn sum(&self, read: impl Fn(&Shard, &mut dyn FnMut(&[&str], f64))) -> Sums<f64> {
        let mut sums = Sums::new();
        for shard in &self.shards {
            read(shard, &mut |labels, value| {
                let key = labels.iter().map(|&label| label.to_owned()).collect();
                *sums.entry(key).or_insert(0.0) += value;
            });
        }
        sums
    }

    fn durations(&self) -> Sums<proto::Histogram> {
        let mut counts: BTreeMap<&str, ([u64; BUCKETS_MICROS.len() + 1], u64)> = BTreeMap::new();
        for shard in &self.shards {
            let (buckets, micros) = counts.entry(&shard.forward).or_default();
            for (sum, bucket) in buckets.iter_mut().zip(&shard.buckets) {
                *sum += bucket.get();
            }
            *micros += shard.micros.get();
        }
        counts
            .into_iter()
            .map(|(forward, (buckets, micros))| (vec![forward.to_owned()], histogram(buckets, micros)))
            .collect()
    }
}

fn histogram(buckets: [u64; BUCKETS_MICROS.len() + 1], micros: u64) -> proto::Histogram {
    let mut below = 0;
    let bounded = BUCKETS_MICROS.iter().zip(buckets).map(|(&bound, n)| {
        below += n;
        let mut bucket = proto::Bucket::default();
        bucket.set_cumulative_count(below);
        bucket.set_upper_bound(seconds(bound));
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(bounded.collect());
    histogram.set_sample_count(buckets.iter().sum());
    histogram.set_sample_sum(seconds(micros));
    histogram
}

#[allow(clippy::cast_precision_loss)] // 2^52 microseconds are 142 years
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[allow(clippy::cast_precision_loss)] // Prometheus has no integers
fn number(n: u64) -> f64 {
    n as f64
}

#[allow(clippy::cast_precision_loss)] // as above
fn level(n: i64) -> f64 {
    n as f64
}

fn family<V>(family: &Family, sums: Sums<V>, fill: impl Fn(&mut proto::Metric, V)) -> MetricFamily {
    let Family(name, help, kind, labels) = family;
    let metrics = sums.into_iter().map(|(values, sum)| {
        let mut metric = proto::Metric::default();
        let pairs = labels.iter().zip(values).map(|(&label, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(label.to_owned());
            pair.set_value(value);
            pair
        });
        metric.set_label(pairs.collect());
        fill(&mut metric, sum);
        metric
    });
    let mut out = MetricFamily::default();
    out.set_metric(metrics.collect());
    out.set_name((*name).to_owned());
    out.set_help((*help).to_owned());
    out.set_field_type(*kind);
    out
}

fn counter(of: &Family, sums: Sums<f64>) -> MetricFamily {
    family(of, sums, |metric, value| {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    })
}

fn gauge(of: &Family, sums: Sums<f64>) -> MetricFamily {
    family(of, sums, |metric, value| {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    })
}

impl Collector for Sum {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let connections = self.sum(|shard, add| {
            for (i, protocol) in Protocol::ALL.into_iter().enumerate() {
                add(&[&shard.forward, protocol.name(), "active"], level(shard.active[i].get()));
                add(&[&shard.forward, protocol.name(), "idle"], level(shard.idle[i].get()));
            }
        });
        let accepted = self.sum(|shard, add| {
            for (protocol, n) in Protocol::ALL.into_iter().zip(&shard.accepted) {
                add(&[&shard.forward, protocol.name()], number(n.get()));
            }
        });
        let in_flight = self.sum(|shard, add| add(&[&shard.forward], level(shard.in_flight.get())));
        let requests = self.sum(|shard, add| {
            for (protocol, status, n) in shard.statuses() {
                add(&[&shard.forward, protocol.name(), &status.to_string()], number(n));
            }
        });
        let upstream_errors = self.sum(|shard, add| {
            for (reason, n) in UpstreamFailure::ALL.into_iter().zip(&shard.upstream_failures) {
                add(&[&shard.forward, reason.name()], number(n.get()));
            }
        });
        let upstream_connections = self.sum(|shard, add| {
            add(&[&shard.forward, "active"], level(shard.upstream_active.get()));
            add(&[&shard.forward, "idle"], level(shard.upstream_idle.get()));
        });
        let tunnel_bytes = self.sum(|shard, add| {
            for protocol in [Protocol::WebSocket, Protocol::Upgrade, Protocol::Tcp] {
                for (toward, n) in Toward::ALL.into_iter().zip(&shard.tunnel_bytes[protocol as usize]) {
                    add(&[&shard.forward, protocol.name(), toward.name()], number(n.get()));
                }
            }
        });
        let handshake_failures = self.sum(|shard, add| {
            for (reason, n) in HandshakeFailure::ALL.into_iter().zip(&shard.handshake_failures) {
                // Forwards in the clear have none to show.
                if n.get() > 0 {
                    add(&[&shard.forward, reason.name()], number(n.get()));
                }
            }
        });
        let ends = self.sum(|shard, add| {
            for (protocol, ends) in Protocol::ALL.into_iter().zip(&shard.ends) {
                for (end, n) in End::ALL.into_iter().zip(ends) {
                    add(&[protocol.name(), end.name()], number(n.get()));
                }
            }
        });
        let raced = self.sum(|shard, add| add(&[], number(shard.raced.get())));
        let proxy_protocol_errors =
            self.sum(|shard, add| add(&[&shard.forward], number(shard.proxy_protocol_errors.get())));
        let durations =
            family(&DURATION, self.durations(), |metric, histogram| metric.set_histogram(histogram));
        let mut families = vec![
            gauge(&CONNECTIONS, connections),
            counter(&CONNECTIONS_TOTAL, accepted),
            gauge(&IN_FLIGHT, in_flight),
            counter(&REQUESTS, requests),
            durations,
            counter(&UPSTREAM_ERRORS, upstream_errors),
            gauge(&UPSTREAM_CONNECTIONS, upstream_connections),
            counter(&TUNNEL_BYTES, tunnel_bytes),
            counter(&HANDSHAKE_FAILURES, handshake_failures),
            counter(&DRAIN_CONNECTIONS, ends),
            counter(&RACED, raced),
            counter(&PROXY_PROTOCOL_ERRORS, proxy_protocol_errors),
        ];
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}
