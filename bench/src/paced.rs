//! Asking at a fixed rate, whatever becomes of the answers.
//!
//! Every request has a moment at which it is due, and its latency counts from then: when the server is slow, or this
//! program is, the requests that have to wait show it, whether they were sent or not. Clients that wait for an answer
//! before they ask again would leave out just those ("coordinated omission").

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::ask::{Ask, PATIENCE};
use crate::client::Failure;

/// What is asked when.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests per second, at equal distances.
    pub rate: f64,
    /// Requests that are due so early are not counted.
    pub warm_up: Duration,
    /// Those that are due in this time after it are.
    pub length: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    /// How long it took from the moment each request was due until its answer was there.
    pub answers: Times,
    /// How late each request was because this program was: the share of the latencies that is no proxy's.
    pub late: Times,
    /// Requests that were not answered at all; they count with the time until they were given up.
    pub unanswered: u64,
}

/// Times, every one of which is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn record(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest one that is not exceeded by this share of them, from 0 to 1. Zero when there are none.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).or(sorted.last()).copied().unwrap_or_default()
    }
}

impl Pace {
    /// How many requests there are.
    fn total(&self) -> u64 {
        ((self.warm_up + self.length).as_secs_f64() * self.rate).floor() as u64
    }

    /// When one is due, after the beginning.
    fn due(&self, n: u64) -> Duration {
        Duration::from_secs_f64(n as f64 / self.rate)
    }

    /// Lets the clients ask, each request by the next one that is free; those that nobody is free for wait. Then waits for
    /// all answers, ten seconds at most.
    ///
    /// # Errors
    /// When an answer was wrong, or there is no timer to be had.
    pub async fn run<A: Ask>(&self, clients: Vec<A>) -> io::Result<Latencies> {
        let mut timer = Timer::new()?;
        self.run_by(clients, async |until| timer.wait(until).await).await
    }

    async fn run_by<A: Ask>(
        &self,
        clients: Vec<A>,
        mut wait: impl AsyncFnMut(Instant) -> io::Result<()>,
    ) -> io::Result<Latencies> {
        let (queue, due) = unbounded_channel();
        let start = Instant::now();
        let shared = Arc::new(Shared {
            due: tokio::sync::Mutex::new(due),
            counted_from: start + self.warm_up,
            deadline: start + self.warm_up + self.length + PATIENCE,
            latencies: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn(Arc::clone(&shared).work(client));
        }
        let late = self.fill(start, queue, &mut wait).await?;
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(io::Error::other)?.map_err(io::Error::other)?;
        }
        let latencies = std::mem::take(&mut *shared.latencies.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Latencies { late, ..latencies })
    }

    /// Puts each request into the queue when it is due; says how late. Those that are overdue come at once.
    async fn fill(
        &self,
        start: Instant,
        queue: UnboundedSender<Instant>,
        wait: &mut impl AsyncFnMut(Instant) -> io::Result<()>,
    ) -> io::Result<Times> {
        let mut late = Times::default();
        for n in 0..self.total() {
            let due = start + self.due(n);
            if due > Instant::now() {
                wait(due).await?;
            }
            if self.due(n) >= self.warm_up {
                late.record(due.elapsed());
            }
            // Nobody is left to ask when all have failed; that is said by them.
            if queue.send(due).is_err() {
                break;
            }
        }
        Ok(late)
    }
}

/// What the clients have in common.
struct Shared {
    /// When the next request is due, or was. Whoever holds the lock is the next to ask; the lock is given in turn.
    due: tokio::sync::Mutex<UnboundedReceiver<Instant>>,
    counted_from: Instant,
    deadline: Instant,
    latencies: Mutex<Latencies>,
}

impl Shared {
    async fn work<A: Ask>(self: Arc<Self>, mut client: A) -> Result<(), Failure> {
        while let Some(due) = self.next().await {
            // After the deadline, what is still in the queue is only counted.
            let late = Instant::now() >= self.deadline;
            let answered = !late
                && match timeout_at(self.deadline, client.ask()).await {
                    Ok(answered) => answered.map(|_| true)?,
                    Err(_) => false,
                };
            if due >= self.counted_from {
                let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                latencies.answers.record(due.elapsed());
                latencies.unanswered += u64::from(!answered);
            }
        }
        Ok(())
    }

    async fn next(&self) -> Option<Instant> {
        self.due.lock().await.recv().await
    }
}

/// A timer of the kernel's: the runtime's own know whole milliseconds, and requests are due every few microseconds.
struct Timer(AsyncFd<std::os::fd::OwnedFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[allow(
            deprecated,
            reason = "the other way is `unsafe`, for types that might change their descriptor"
        )]
        Ok(Self(AsyncFd::new(timer)?))
    }

    async fn wait(&mut self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: left };
        rustix::time::timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.0.readable().await?;
        let _ = rustix::io::read(self.0.get_ref(), &mut [0; 8]);
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
