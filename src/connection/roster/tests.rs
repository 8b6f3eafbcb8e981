//! What is due when, for each stage of a connection's life.

use super::seat::IDLE;
use super::*;
use crate::drain::watch::{LAST_WORDS, Plan};

const LIMITS: Limits = Limits {
    idle_timeout: Duration::from_secs(600),
    header_timeout: Duration::from_secs(30),
    handshake_timeout: Duration::from_secs(10),
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
        events: Cell::new(false),
        place: 0.5,
        order: Cell::new(None),
        notice: Cell::new(None),
        waker: Cell::new(None),
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
fn a_websocket_waits_for_its_instant_in_draining() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let seat = seat(Stage::WebSocket, start);
    seat.notice.set(Some(at(100)));
    assert_eq!(seat.due(&view(Phase::Serving, start), &LIMITS, true, at(3_600_000)), None);
    assert_eq!(seat.due(&view(Phase::LameDuck, start), &LIMITS, true, at(100)), None);
    let draining = view(Phase::Draining, start);
    assert_eq!(seat.due(&draining, &LIMITS, true, at(99)), None);
    assert_eq!(seat.due(&draining, &LIMITS, true, at(100)), Some(Order::Goodbye));
    assert_eq!(due(Phase::Draining, Stage::Goodbye, 20_000), Some(Order::Goodbye), "its answer is watched");
    assert_eq!(
        due(Phase::Serving, Stage::Goodbye, 20_000),
        Some(Order::Goodbye),
        "also when nobody drains any more"
    );
    seat.notice.set(None);
    assert_eq!(seat.due(&draining, &LIMITS, true, start), Some(Order::Goodbye), "one of the drain");
}

#[tokio::test]
async fn when_draining_begins_the_websockets_share_the_time() {
    let roster = Roster::new(LIMITS, Arc::default());
    let registry = prometheus::Registry::new();
    let shard = crate::metrics::Metrics::register(&registry, &["a".to_owned()], 1).unwrap().shard(0, 0, 1);
    let members: Vec<_> = (0..8).map(|_| roster.admit(&shard, false).unwrap()).collect();
    for member in &members[..4] {
        member.seat.enter(Stage::WebSocket, Instant::now());
    }
    let start = Instant::now();
    let plan = Plan { trigger: start, deadline: start + 8 * IDLE, lame_duck_min: IDLE, steered: true };
    roster.obey(Orders { phase: Phase::LameDuck, plan: Some(plan) });
    assert!(members.iter().all(|member| member.seat.notice.get().is_some()));
    roster.obey(Orders { phase: Phase::Draining, plan: Some(plan) });
    let notices: Vec<_> = members.iter().map(|member| member.seat.notice.get()).collect();
    assert_eq!(notices[4..], [None; 4]);
    let notices: Vec<_> = notices[..4].iter().map(|notice| notice.unwrap() - start).collect();
    assert!(notices.windows(2).all(|pair| pair[1] - pair[0] > IDLE * 9 / 10), "{notices:?}");
    assert!(notices[3] < 4 * IDLE, "{notices:?}");
}

#[test]
fn an_event_stream_is_looked_at_when_it_is_to_end() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let draining = view(Phase::Draining, start);
    let seat = seat(Stage::Exchange, start);
    // 24 s, of which the last 5 are for event streams; this one's place is in the middle.
    assert_eq!(seat.due(&draining, &LIMITS, false, at(21_600)), None);
    seat.events.set(true);
    assert_eq!(seat.due(&draining, &LIMITS, false, at(21_400)), None);
    assert_eq!(seat.due(&draining, &LIMITS, false, at(21_600)), Some(Order::Probe));
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
        (Stage::WebSocket, Some(Order::Close)),
        (Stage::Exchange, Some(Order::Probe)), // sees the deadline by itself
    ] {
        assert_eq!(seat(stage, deadline).due(&view, &LIMITS, true, deadline), expected, "{stage:?}");
    }
    assert!(view.advance(deadline + LAST_WORDS));
    assert_eq!(seat(Stage::Exchange, start).due(&view, &LIMITS, true, deadline), Some(Order::Cut));
}
