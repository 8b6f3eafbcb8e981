//! What is due when, for each stage of a connection's life.

use super::*;
use crate::drain::watch::{LAST_WORDS, Plan};

const LIMITS: Limits = Limits {
    idle_timeout: Duration::from_secs(600),
    header_timeout: Duration::from_secs(30),
    max_connections: 10,
    http2_keepalive: Duration::from_secs(60),
    max_header_bytes: 8192,
    max_pipes: 4,
};

fn seat(stage: Stage, since: Instant) -> Seat {
    Seat {
        accepted: since,
        stage: Cell::new(stage),
        since: Cell::new(since),
        heard: Cell::new(since),
        held: Cell::new(false),
        watched: Cell::new(false),
        peer: Peer::default(),
        order: Cell::new(None),
        notice: Cell::new(None),
        waker: RefCell::new(None),
    }
}

fn view(phase: Phase, start: Instant) -> View {
    let view = View::default();
    let deadline = start + Duration::from_secs(24);
    let plan = Plan { trigger: start, deadline, lame_duck_min: Duration::from_secs(5), steered: true };
    view.set(Orders { phase, plan: (phase != Phase::Serving).then_some(plan) });
    view
}

/// What is due for a connection that has been in `stage` for `age` milliseconds.
fn due(phase: Phase, stage: Stage, age: u64) -> Option<Order> {
    let start = Instant::now();
    let now = start + Duration::from_millis(age);
    seat(stage, start).due(&view(phase, start), &LIMITS, true, now)
}

#[test]
fn while_serving_only_its_own_time_outs_end_a_connection() {
    use Phase::Serving;
    assert_eq!(due(Serving, Stage::Waiting, 999), None);
    assert_eq!(due(Serving, Stage::Waiting, 1000), Some(Order::Park));
    assert_eq!(due(Serving, Stage::Parked, 599_999), None);
    assert_eq!(due(Serving, Stage::Parked, 600_000), Some(Order::Close));
    assert_eq!(due(Serving, Stage::Head, 29_999), None);
    assert_eq!(due(Serving, Stage::Head, 30_000), Some(Order::HeadTimeout));
    assert_eq!(due(Serving, Stage::ProxyHeader, 29_999), None);
    assert_eq!(due(Serving, Stage::ProxyHeader, 30_000), Some(Order::HeadTimeout));
    assert_eq!(due(Serving, Stage::Upload, 599_999), None);
    assert_eq!(due(Serving, Stage::Upload, 600_000), Some(Order::Close));
    assert_eq!(due(Serving, Stage::HalfTunnel, 3_600_000), None);
    assert_eq!(due(Serving, Stage::Exchange, 3_600_000), Some(Order::Probe));
}

#[test]
fn while_draining_idle_ones_go_after_a_second_and_work_is_waited_for() {
    use Phase::Draining;
    assert_eq!(due(Draining, Stage::Parked, 999), None);
    assert_eq!(due(Draining, Stage::Parked, 1000), Some(Order::Close));
    assert_eq!(due(Draining, Stage::ProxyHeader, 4999), None);
    assert_eq!(due(Draining, Stage::ProxyHeader, 5000), Some(Order::HeadCutShort));
    assert_eq!(due(Draining, Stage::Head, 4999), None);
    assert_eq!(due(Draining, Stage::Head, 5000), Some(Order::HeadCutShort));
    assert_eq!(due(Draining, Stage::HalfTunnel, 999), None);
    assert_eq!(due(Draining, Stage::HalfTunnel, 1000), Some(Order::Close));
    assert_eq!(due(Draining, Stage::Tunnel, 20_000), None);
    assert_eq!(due(Draining, Stage::Exchange, 20_000), Some(Order::Probe));
}

#[test]
fn in_lame_duck_each_waits_for_its_notice() {
    let start = Instant::now();
    let view = view(Phase::LameDuck, start);
    let seat = seat(Stage::Parked, start);
    let at = |millis| start + Duration::from_millis(millis);
    seat.notice.set(Some(at(2500)));
    assert_eq!(seat.due(&view, &LIMITS, true, at(2499)), None);
    assert_eq!(seat.due(&view, &LIMITS, true, at(2500)), Some(Order::Close));
}

#[test]
fn the_deadline_ends_and_then_cuts() {
    let start = Instant::now();
    let view = view(Phase::Draining, start);
    let deadline = start + Duration::from_secs(24);
    assert!(view.advance(deadline));
    for (stage, expected) in [
        (Stage::Parked, Some(Order::Close)),
        (Stage::Waiting, Some(Order::Close)),
        (Stage::Head, Some(Order::Close)),
        (Stage::Tunnel, Some(Order::Close)),
        (Stage::Exchange, Some(Order::Probe)), // sees the deadline by itself
    ] {
        assert_eq!(seat(stage, deadline).due(&view, &LIMITS, true, deadline), expected, "{stage:?}");
    }
    assert!(view.advance(deadline + LAST_WORDS));
    assert_eq!(seat(Stage::Exchange, start).due(&view, &LIMITS, true, deadline), Some(Order::Cut));
}
