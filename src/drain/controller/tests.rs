//! The phase machine in paused time, with workers and an app that are scripted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::drain::report::{Ends, Seconds, Tally};
use crate::drain::watch::{Report as Done, Subscriber, channel};

/// What happened, in order, with the milliseconds since the start.
type Story = Arc<Mutex<Vec<(u64, String)>>>;

struct Fake {
    story: Story,
    start: Instant,
    app: Arc<Mutex<App>>,
    cut: Arc<AtomicU64>,
    openings: mpsc::UnboundedSender<u64>,
}

impl Fake {
    fn note(&self, what: impl Into<String>) {
        let at = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        self.story.lock().unwrap().push((at, what.into()));
    }
}

impl Surroundings for Fake {
    fn steer(&mut self) -> bool {
        self.note("steer");
        true
    }

    fn shut(&mut self) {
        self.note("shut");
    }

    fn reopen(&mut self, generation: u64) -> io::Result<()> {
        self.note("reopen");
        let _ = self.openings.send(generation);
        Ok(())
    }

    async fn look_at_app(&self) -> App {
        *self.app.lock().unwrap()
    }

    fn tally(&self) -> Tally {
        let ends = Ends { cut: self.cut.load(Relaxed), ..Ends::default() };
        Tally { ends: vec![("http1", ends)], raced: 0 }
    }

    fn entered(&mut self, phase: Phase) {
        self.note(phase.name());
    }

    fn ended(&mut self, report: &Report) {
        self.note(report.outcome.name());
    }
}

/// A sidecar without sockets.
struct World {
    handle: Handle,
    story: Story,
    app: Arc<Mutex<App>>,
    arrivals: Arc<Arrivals>,
    controller: JoinHandle<Exit>,
}

const GRACE: Duration = Duration::from_secs(30);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A worker whose listeners take 200 ms to close and whose connections take `work` to finish, or are cut at
/// the deadline.
async fn worker(
    mut drain: Subscriber,
    mut openings: mpsc::UnboundedReceiver<u64>,
    work: Duration,
    cut: Arc<AtomicU64>,
) {
    let mut next = Some(0);
    while let Some(generation) = next {
        let closed = drain.guard(Done::Closed(generation));
        let emptied = drain.guard(Done::Emptied(generation));
        let plan = drain.reached(Phase::Draining).await.plan.unwrap();
        let since = Instant::now();
        sleep(ms(200)).await;
        drop(closed);
        tokio::select! {
            () = sleep_until(since + work) => {}
            () = sleep_until(plan.deadline) => cut.store(cut.load(Relaxed) + 1, Relaxed),
            opening = openings.recv() => {
                next = opening;
                continue;
            }
        }
        drop(emptied);
        next = openings.recv().await;
    }
}

impl World {
    fn new(budget: Budget, work: Duration) -> Self {
        let (story, app, cut) =
            (Story::default(), Arc::new(Mutex::new(App::Up)), Arc::new(AtomicU64::new(0)));
        let (openings, openings_rx) = mpsc::unbounded_channel();
        let fake = Fake {
            story: Arc::clone(&story),
            start: Instant::now(),
            app: Arc::clone(&app),
            cut: Arc::clone(&cut),
            openings,
        };
        let (publisher, subscriber) = channel();
        let arrivals = Arc::new(Arrivals::default());
        tokio::spawn(worker(subscriber, openings_rx, work, Arc::clone(&cut)));
        let (handle, controller) = Controller::new(fake, publisher, Arc::clone(&arrivals), budget, 1);
        Self { handle, story, app, arrivals, controller: tokio::spawn(controller.run()) }
    }

    /// With the default times: lame duck 5 to 15 s, quiet 3 s, deadline after 24 s.
    fn default(work: Duration) -> Self {
        Self::new(Budget::new(GRACE, ms(5000), ms(5000), ms(15_000), ms(3000)).unwrap(), work)
    }

    fn set_app(&self, app: App) {
        *self.app.lock().unwrap() = app;
    }

    fn story(&self) -> Vec<(u64, String)> {
        self.story.lock().unwrap().clone()
    }

    fn words(&self) -> Vec<String> {
        self.story().into_iter().map(|(_, what)| what).collect()
    }

    /// Waits, in paused time, until a phase has begun.
    async fn until(&self, phase: Phase) {
        timeout(GRACE * 2, async {
            while self.handle.state().phase != phase {
                sleep(ms(1)).await;
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn without_traffic_a_drain_takes_the_shortest_lame_duck_and_the_emptying() {
    let world = World::default(ms(0));
    let report = world.handle.drain().await.unwrap();
    assert_eq!(report.outcome, Outcome::Clean);
    assert_eq!(report.seconds, Seconds { lame_duck: 5.0, draining: 0.2, total: 5.2 });
    assert_eq!(report.last_arrival_seconds, None);
    assert_eq!(world.words(), ["lame-duck", "steer", "draining", "shut", "clean", "drained"]);
}

#[tokio::test(start_paused = true)]
async fn arrivals_prolong_lame_duck_until_it_is_quiet_and_are_measured() {
    let world = World::default(ms(0));
    let arrivals = Arc::clone(&world.arrivals);
    let start = Instant::now();
    tokio::spawn(async move {
        for at in [1000, 4500, 6000] {
            sleep_until(start + ms(at)).await;
            arrivals.note(Instant::now());
        }
    });
    let report = world.handle.drain().await.unwrap();
    assert_eq!(report.last_arrival_seconds, Some(6.0));
    assert_eq!(report.seconds.lame_duck, 9.0);
}

#[tokio::test(start_paused = true)]
async fn a_trickle_prolongs_lame_duck_up_to_the_maximum() {
    let world = World::default(ms(0));
    let arrivals = Arc::clone(&world.arrivals);
    let trickle = tokio::spawn(async move {
        loop {
            arrivals.note(Instant::now());
            sleep(ms(1000)).await;
        }
    });
    let report = world.handle.drain().await.unwrap();
    trickle.abort();
    assert_eq!(report.seconds.lame_duck, 15.0);
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_cut_at_the_deadline() {
    let world = World::default(GRACE * 10);
    let report = world.handle.drain().await.unwrap();
    assert_eq!(report.outcome, Outcome::Forced);
    assert_eq!(report.seconds.total, 24.0);
    assert_eq!(report.connections, [("http1", Ends { cut: 1, ..Ends::default() })]);
}

#[tokio::test(start_paused = true)]
async fn every_caller_gets_the_same_answer_also_one_that_comes_late() {
    let world = World::default(ms(2000));
    let first = tokio::spawn({
        let handle = world.handle.clone();
        async move { handle.drain().await }
    });
    let hung_up = tokio::spawn({
        let handle = world.handle.clone();
        async move { handle.drain().await }
    });
    world.until(Phase::Draining).await;
    hung_up.abort();
    let second = world.handle.drain().await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), second);
    assert_eq!(world.handle.drain().await.unwrap(), second);
}

#[tokio::test(start_paused = true)]
async fn sigterm_joins_and_the_process_ends_once_drained() {
    for when in [Phase::Serving, Phase::LameDuck, Phase::Draining, Phase::Drained] {
        let world = World::default(ms(2000));
        let caller = (when != Phase::Serving).then(|| {
            let handle = world.handle.clone();
            tokio::spawn(async move { handle.drain().await })
        });
        world.until(when).await;
        let begun = world.handle.state().deadline;
        world.handle.trigger(Trigger::Sigterm);
        let exit = timeout(GRACE, world.controller).await.unwrap().unwrap();
        assert_eq!(exit, Exit::Drained);
        if let Some(caller) = caller {
            assert_eq!(caller.await.unwrap().unwrap().outcome, Outcome::Clean, "{when:?}");
            assert_eq!(world.handle.state().deadline, begun, "SIGTERM cuts nothing short");
        }
        assert_eq!(world.handle.state().report.unwrap().seconds.total, 7.0);
    }
}

#[tokio::test(start_paused = true)]
async fn sigterm_with_the_app_gone_skips_lame_duck_and_is_bounded() {
    let world = World::default(GRACE * 10);
    world.set_app(App::Gone);
    world.handle.trigger(Trigger::Sigterm);
    assert_eq!(world.controller.await.unwrap(), Exit::Drained);
    let report = world.handle.state().report.unwrap();
    assert_eq!(report.seconds.lame_duck, 0.0);
    assert_eq!(report.seconds.total, 1.5);
}

#[tokio::test(start_paused = true)]
async fn sigterm_with_an_app_that_still_answers_requests_leaves_them_their_time() {
    let world = World::default(ms(8000));
    world.set_app(App::Leaving);
    world.handle.trigger(Trigger::Sigterm);
    assert_eq!(world.controller.await.unwrap(), Exit::Drained);
    let report = world.handle.state().report.unwrap();
    assert_eq!((report.outcome, report.seconds.total), (Outcome::Clean, 8.0));
}

#[tokio::test(start_paused = true)]
async fn a_second_sigint_ends_at_once() {
    let world = World::default(GRACE * 10);
    world.handle.trigger(Trigger::Sigint);
    world.until(Phase::LameDuck).await;
    world.handle.trigger(Trigger::Sigint);
    assert_eq!(timeout(ms(10), world.controller).await.unwrap().unwrap(), Exit::AtOnce);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_goes_and_comes_back_rearms_from_every_phase() {
    for when in [Phase::LameDuck, Phase::Draining, Phase::Drained] {
        let world = World::default(ms(1000));
        let caller = tokio::spawn({
            let handle = world.handle.clone();
            async move { handle.drain().await }
        });
        world.until(when).await;
        world.set_app(App::Gone);
        advance(ms(300)).await;
        world.until(if when == Phase::LameDuck { Phase::Draining } else { when }).await;
        sleep(ms(300)).await;
        world.set_app(App::Up);
        world.until(Phase::Serving).await;
        assert!(caller.await.unwrap().is_some(), "the caller is answered: {when:?}");
        // And it drains once more.
        let report = world.handle.drain().await.unwrap();
        assert_eq!(report.outcome, Outcome::Clean);
        assert_eq!(report.seconds.total, 6.0, "{when:?}: {:?}", world.story());
    }
}

#[tokio::test(start_paused = true)]
async fn undrain_goes_back_from_every_phase_but_not_after_sigterm() {
    for when in [Phase::Serving, Phase::LameDuck, Phase::Draining, Phase::Drained] {
        let world = World::default(ms(1000));
        if when != Phase::Serving {
            world.handle.trigger(Trigger::Drain);
        }
        world.until(when).await;
        world.handle.undrain().await.unwrap();
        world.until(Phase::Serving).await;
        assert_eq!(world.handle.drain().await.unwrap().seconds.total, 6.0);
    }
    let world = World::default(GRACE * 10);
    world.handle.trigger(Trigger::Sigterm);
    world.until(Phase::LameDuck).await;
    assert!(matches!(world.handle.undrain().await, Err(UndrainError::Terminating)));
}

/// Something that befalls a sidecar.
#[derive(Debug, Clone)]
enum Blow {
    Wait(u64),
    Drain,
    Sigterm,
    Undrain,
    App(App),
    Arrival,
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        3 => (0u64..6000).prop_map(Blow::Wait),
        2 => Just(Blow::Drain),
        1 => Just(Blow::Sigterm),
        1 => Just(Blow::Undrain),
        1 => prop_oneof![Just(App::Up), Just(App::Leaving), Just(App::Gone)].prop_map(Blow::App),
        2 => Just(Blow::Arrival),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens in whatever order: phases only go forward, but for the way back to serving; after
    /// SIGTERM there is none; every caller is answered in time; the process ends when it was told to.
    #[test]
    fn the_machine_holds_its_promises(
        blows in proptest::collection::vec(blow(), 1..20),
        work in 0u64..60_000,
        min in 0u64..5000,
        more in 0u64..5000,
        quiet in 0u64..4000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let budget = Budget::new(GRACE, ms(5000), ms(min), ms(min + more), ms(quiet)).unwrap();
            let mut world = World::new(budget, ms(work));
            let (mut callers, mut terminated) = (Vec::new(), None);
            for blow in blows {
                match blow {
                    Blow::Wait(time) => sleep(ms(time)).await,
                    Blow::Drain => {
                        let (handle, at) = (world.handle.clone(), Instant::now());
                        callers.push(tokio::spawn(async move { (handle.drain().await, at.elapsed()) }));
                    }
                    Blow::Sigterm => {
                        world.handle.trigger(Trigger::Sigterm);
                        terminated.get_or_insert(world.story().len());
                    }
                    Blow::Undrain => {
                        let handle = world.handle.clone();
                        tokio::spawn(async move { handle.undrain().await });
                    }
                    Blow::App(app) => world.set_app(app),
                    Blow::Arrival => world.arrivals.note(Instant::now()),
                }
                tokio::task::yield_now().await;
            }
            let bound = budget.until_deadline() + LAST_WORDS + SLACK + ms(200);
            for caller in callers {
                let (report, waited) = timeout(GRACE * 2, caller).await.expect("every caller is answered").unwrap();
                prop_assert!(waited <= bound, "{waited:?} {report:?} {:?}", world.story());
                prop_assert!(report.is_some() || terminated.is_some());
            }
            if terminated.is_some() {
                let exit = timeout(GRACE * 2, &mut world.controller).await.expect("it ends").unwrap();
                prop_assert_eq!(exit, Exit::Drained);
            }
            let words = world.words();
            let phases: Vec<_> = words.iter().filter_map(|word| Phase::ALL.iter().position(|phase| phase.name() == word)).collect();
            for pair in phases.windows(2) {
                prop_assert!(pair[1] > pair[0] || pair[1] == 0, "{words:?}");
            }
            Ok(())
        })?;
    }
}
