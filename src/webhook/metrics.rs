//! What a webhook counts.

use std::time::{Duration, SystemTime};

use prometheus::process_collector::ProcessCollector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

use super::review::Outcome;

/// A review takes about a millisecond; a slow client as long as it may.
const BUCKETS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The metrics of the process.
#[derive(Debug)]
pub(super) struct Metrics {
    requests: IntCounterVec,
    duration: Histogram,
    tls_reloads: IntCounterVec,
    expiry: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("ebb_webhook_requests_total", "Requests answered, by what became of the pod"),
                &["result"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "ebb_webhook_request_duration_seconds",
                    "From a request's head to its answer",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            tls_reloads: IntCounterVec::new(
                Opts::new(
                    "ebb_tls_reloads_total",
                    "Changed certificates that were loaded or could not be used",
                ),
                &["forward", "outcome"],
            )?,
            expiry: Gauge::new(
                "ebb_webhook_certificate_expiry_timestamp_seconds",
                "When the certificate in use ends (unix time)",
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.tls_reloads.clone()))?;
        registry.register(Box::new(metrics.expiry.clone()))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        // A rate needs the zero before the first one.
        for result in Outcome::ALL {
            metrics.requests.with_label_values(&[result.name()]).inc_by(0);
        }
        Ok(metrics)
    }

    /// Counts a request.
    pub(super) fn answered(&self, result: Outcome, took: Duration) {
        self.requests.with_label_values(&[result.name()]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts certificates that have changed.
    pub(super) fn tls_reloaded(&self, label: &str, outcome: &str) {
        self.tls_reloads.with_label_values(&[label, outcome]).inc();
    }

    /// Shows when the certificate ends.
    pub(super) fn expires(&self, when: Option<SystemTime>) {
        let since = when.and_then(|when| when.duration_since(SystemTime::UNIX_EPOCH).ok());
        self.expiry.set(since.map_or(f64::NAN, |since| since.as_secs_f64()));
    }
}
