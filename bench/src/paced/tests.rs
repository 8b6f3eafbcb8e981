use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{sleep, sleep_until};

use super::*;
use crate::ask::Answered;

const MS: Duration = Duration::from_millis(1);

/// A server that takes its time, and stands still once.
#[derive(Clone)]
struct Fake {
    took: Duration,
    /// Until then nobody is answered.
    stalled_until: Instant,
    asked: Arc<AtomicU64>,
}

impl Ask for Fake {
    async fn ask(&mut self) -> Result<Answered, Failure> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        sleep(self.took).await;
        sleep_until(self.stalled_until).await;
        Ok(Answered { answers: 1, bytes: 0 })
    }
}

fn fake(took: Duration, stalled: Duration) -> Fake {
    Fake { took, stalled_until: Instant::now() + stalled, asked: Arc::default() }
}

async fn run(pace: Pace, server: &Fake, clients: usize) -> io::Result<Latencies> {
    let wait = async |until| {
        sleep_until(until).await;
        Ok(())
    };
    pace.run_by(vec![server.clone(); clients], wait).await
}

/// 100 requests a second for two seconds, of which one is counted.
fn pace() -> Pace {
    Pace { rate: 100.0, warm_up: 1000 * MS, length: 1000 * MS }
}

#[test]
fn percentiles_are_of_what_was_recorded() {
    let mut times = Times::default();
    assert_eq!(times.percentile(0.5), Duration::ZERO);
    for ms in (1..=1000).rev() {
        times.record(ms * MS);
    }
    let percentiles = [0.0, 0.5, 0.99, 0.999, 1.0].map(|share| times.percentile(share));
    assert_eq!(percentiles, [1, 500, 990, 999, 1000].map(|ms| ms * MS));
    let mut one = Times::default();
    one.record(7 * MS);
    assert_eq!([one.percentile(0.5), one.percentile(0.999)], [7 * MS, 7 * MS]);
}

#[tokio::test(start_paused = true)]
async fn every_request_that_was_due_is_counted_once() {
    let server = fake(3 * MS, Duration::ZERO);
    let latencies = run(pace(), &server, 2).await.unwrap();
    assert_eq!((latencies.answers.count(), latencies.unanswered), (100, 0));
    assert_eq!(server.asked.load(Ordering::Relaxed), 200);
    assert_eq!(latencies.answers.percentile(1.0), 3 * MS);
    assert_eq!((latencies.late.count(), latencies.late.percentile(1.0)), (100, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_the_latency_of_all_requests_that_were_due_in_it() {
    // It stands still for the first half of the second that counts. Two clients wait in it, and could ask no more.
    let server = fake(Duration::ZERO, 1500 * MS);
    let latencies = run(pace(), &server, 2).await.unwrap();
    assert_eq!((latencies.answers.count(), latencies.unanswered), (100, 0));
    // 50 were due: the first waited for 500 ms, the next for 490, and so on.
    assert_eq!(latencies.answers.percentile(1.0), 500 * MS);
    assert_eq!(latencies.answers.percentile(0.75), 250 * MS);
    assert_eq!(latencies.answers.percentile(0.50), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_too_slow_falls_behind() {
    // 50 a second at most: each of the 200 waits 10 ms longer than the one before.
    let server = fake(20 * MS, Duration::ZERO);
    let latencies = run(pace(), &server, 1).await.unwrap();
    assert_eq!((latencies.answers.count(), latencies.unanswered), (100, 0));
    assert_eq!(latencies.answers.percentile(1.0), 2010 * MS);
    assert_eq!(latencies.answers.percentile(0.01), 1020 * MS);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_answered_is_counted_too() {
    let server = fake(Duration::ZERO, Duration::from_secs(1000));
    let latencies = run(pace(), &server, 2).await.unwrap();
    assert_eq!((latencies.answers.count(), latencies.unanswered), (100, 100));
    // The first that counts was due a second after the start, the last almost two; all were given up after twelve.
    assert_eq!(latencies.answers.percentile(1.0), PATIENCE + 1000 * MS);
    assert_eq!(latencies.answers.percentile(0.0), PATIENCE + 10 * MS);
    assert_eq!(server.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_oversleeps_shows_it_and_leaves_nothing_out() {
    let server = fake(MS, Duration::ZERO);
    // It only wakes at every tenth request.
    let begin = Instant::now();
    let wait = async |until: Instant| {
        let ticks = (until - begin).as_millis().div_ceil(100) as u32;
        sleep_until(begin + ticks * 100 * MS).await;
        Ok(())
    };
    let latencies = pace().run_by(vec![server; 20], wait).await.unwrap();
    assert_eq!((latencies.answers.count(), latencies.late.count()), (100, 100));
    assert_eq!(latencies.late.percentile(1.0), 90 * MS);
    assert_eq!(latencies.answers.percentile(1.0), 91 * MS);
}

#[tokio::test]
async fn the_kernels_timer_is_never_early() {
    let mut timer = Timer::new().unwrap();
    for micros in [0, 1, 300] {
        let until = Instant::now() + Duration::from_micros(micros);
        timer.wait(until).await.unwrap();
        assert!(Instant::now() >= until);
    }
}
