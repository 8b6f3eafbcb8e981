//! Against the app itself, which loses nothing; and against one that does.

use super::*;
use crate::origin::{App, Origin};
use crate::tls::Identity;

fn mix(origin: &Origin) -> Mix {
    let trust = Identity::new().unwrap().trust().unwrap();
    // The app has no TLS: that is the proxies' part.
    Mix {
        http: origin.addr(),
        tls: origin.addr(),
        tcp: origin.tcp_addr(),
        trust,
        body: 700,
        protocols: Vec::new(),
    }
}

#[tokio::test]
async fn a_healthy_app_loses_nothing_of_any_protocol() {
    let origin = Origin::start(App { body: 700, ..App::default() }).unwrap();
    let mix = mix(&origin);
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::WebSocket, Protocol::Tcp] {
        let running = mix.start_one(protocol);
        running.reached(100).await;
        let tally = running.stop().await;
        assert!(tally.ok >= 100, "{protocol:?}: {tally}");
        assert_eq!(
            tally,
            Tally { ok: tally.ok, connections: tally.connections, ..Tally::default() },
            "{protocol:?}"
        );
    }
    assert_eq!(origin.broken(), 0);
}

#[tokio::test]
async fn connections_that_break_are_lost() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Whoever connects is cut off at once.
    let (count, mut broken) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.send_modify(|count| *count += 1);
        }
    });
    let trust = Identity::new().unwrap().trust().unwrap();
    let mix = Mix { http: addr, tls: addr, tcp: addr, trust, body: 700, protocols: Vec::new() };
    for protocol in Protocol::ALL {
        let running = mix.start_one(protocol);
        let before = *broken.borrow();
        broken.wait_for(|count| *count >= before + 100).await.unwrap();
        let tally = running.stop().await;
        assert!(
            tally.lost_fresh > 0 && tally.lost() == tally.lost_fresh && tally.ok == 0,
            "{protocol:?}: {tally}"
        );
    }
}
