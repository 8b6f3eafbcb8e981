//! `tcp://`: any bytes, both ways, at once.

use socket2::SockRef;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::support::{App, Client, Ebb, Pattern, RawApp, RawUnixApp, within};

const HELLO: usize = 5;

/// Much more than fits into all the buffers on the way.
const BULK: usize = 48 << 20;

/// How much either end reads at a time: as fast as it can, or slowly.
const READERS: [(usize, usize); 3] = [(1 << 20, 1 << 20), (1 << 20, 3000), (2000, 1 << 20)];

fn counter(ebb: &Ebb, direction: &str) -> String {
    let forward = ebb.addr();
    format!("ebb_tunnel_bytes_total{{forward=\"{forward}\",protocol=\"tcp\",direction=\"{direction}\"}}")
}

/// A client with a receive buffer that does not grow.
async fn small_client(ebb: &Ebb) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    Client::over(within("connecting", socket.connect(ebb.addr())).await.unwrap())
}

/// Guards: splicing: every byte, in order, both ways at once, whoever is slow; and that it is done at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_both_ways_at_once() {
    for (client_reads, app_reads) in READERS {
        let app = RawApp::new().await;
        let ebb = app.start_ebb(&["--workers", "1"]).await;
        let pipes = ebb.pipes();
        let (client, wire) = app.meet(small_client(&ebb).await).await;
        exchange(client, wire.into_stream(), (client_reads, app_reads)).await;
        assert!(ebb.pipes() > pipes, "nothing was spliced");
        assert_eq!(ebb.metric(&[&counter(&ebb, "to_app")]).await, (BULK + HELLO) as f64);
        assert_eq!(ebb.metric(&[&counter(&ebb, "to_client")]).await, BULK as f64);
    }
}

/// Guards: the same to a Unix socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_to_a_unix_socket() {
    for readers in READERS {
        let app = RawUnixApp::new();
        let ebb = app.start_ebb().await;
        let (client, stream) = app.open(&ebb).await;
        exchange(client, stream, readers).await;
    }
}

/// Guards: copying, where there is nothing to splice through: pipes are only made where descriptors abound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_without_pipes() {
    for readers in READERS {
        let mut app = App::scripted();
        let ebb = Ebb::start_with_ulimit(&app, "-n 200", &[]).await;
        let pipes = ebb.pipes();
        let mut client = small_client(&ebb).await;
        client
            .send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n")
            .await;
        let mut at_app = app.request().await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";
        at_app.wire.send(head).await.unwrap();
        assert_eq!(client.head().await.status(), 101);
        exchange(client, at_app.wire.into_stream(), readers).await;
        assert_eq!(ebb.pipes(), pipes);
    }
}

/// Sends patterns both ways at once, each to its end.
async fn exchange(
    client: Client,
    app: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    (client_reads, app_reads): (usize, usize),
) {
    let (client_read, client_write) = client.wire.into_stream().into_split();
    let (app_read, app_write) = tokio::io::split(app);
    let mut tasks = JoinSet::new();
    tasks.spawn(Pattern::new(1).send(client_write, BULK));
    tasks.spawn(Pattern::new(2).send(app_write, BULK));
    tasks.spawn(async move { drop(Pattern::new(1).expect(app_read, BULK, app_reads).await) });
    tasks.spawn(async move { drop(Pattern::new(2).expect(client_read, BULK, client_reads).await) });
    within("both to end", tasks.join_all()).await;
}

/// Guards: going back and forth between the two ways of moving bytes: bursts, then single words.
#[tokio::test]
async fn bursts_and_words_take_turns() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    let (mut sent, mut expected) = (Pattern::new(3), Pattern::new(3));
    for round in 0..60 {
        let length = if round % 3 == 0 { 700_000 } else { 1 + round * 100 };
        let (mut bytes, mut wanted) = (vec![0; length], vec![0; length]);
        sent.fill(&mut bytes);
        expected.fill(&mut wanted);
        let (_, got) = tokio::join!(client.send(&bytes), within("a burst", wire.exactly(length)));
        assert!(got.unwrap() == wanted, "round {round} is damaged");
        wire.send("ok").await.unwrap();
        assert_eq!(within("an answer", client.wire.exactly(2)).await.unwrap(), b"ok");
    }
}

/// Guards: urgent data, which a splice never gets past, does not stop what comes after it.
#[tokio::test]
async fn urgent_data_does_not_stop_a_bulk_transfer() {
    const BEFORE: u64 = 16 << 20;
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let pipes = ebb.pipes();
    let (mut client, mut wire) = app.open(&ebb).await;
    let talk = async {
        client.send_filler(BEFORE).await;
        while SockRef::from(client.wire.stream()).send_out_of_band(b"!").is_err() {
            tokio::task::yield_now().await;
        }
        client.send("and on").await;
    };
    let listen = async {
        // Nobody reads until it is bulk.
        while ebb.pipes() == pipes {
            tokio::task::yield_now().await;
        }
        wire.discard(BEFORE).await?;
        wire.exactly(6).await
    };
    let (_, heard) = tokio::join!(talk, within("what comes after the urgent data", listen));
    assert_eq!(heard.unwrap(), b"and on");
}

/// Guards: the app is connected to at once: in many protocols the server speaks first.
#[tokio::test]
async fn the_server_may_speak_first() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let mut client = ebb.client().await;
    // Among the app's connections may be one of ebb's looks at it.
    let greet = async {
        let mut wires = Vec::new();
        loop {
            let mut wire = app.accept().await;
            let _ = wire.send("220 ready").await;
            wires.push(wire);
        }
    };
    tokio::select! {
        () = greet => {}
        greeting = within("a greeting", client.wire.exactly(9)) => assert_eq!(greeting.unwrap(), b"220 ready"),
    }
}

/// Guards: PROXY protocol headers on `tcp://`: taken from the client's bytes, and sent before them.
#[tokio::test]
async fn the_proxy_protocol_goes_before_the_bytes() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&["--accept-proxy", "--send-proxy"]).await;
    let mut client = ebb.client().await;
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 1234 5432\r\n";
    client.send(format!("{header}hello")).await;
    let wanted = format!("{header}hello");
    // ebb's own looks at the app begin with no header, and end.
    loop {
        let mut wire = app.accept().await;
        if let Ok(got) = within("the header", wire.exactly(wanted.len())).await {
            assert_eq!(String::from_utf8_lossy(&got), wanted);
            break;
        }
    }
}

/// Guards: the counters of bytes.
#[tokio::test]
async fn bytes_are_counted_by_direction() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    client.send("four").await;
    within("four", wire.exactly(4)).await.unwrap();
    wire.send("sixteen and more").await.unwrap();
    within("sixteen", client.wire.exactly(16)).await.unwrap();
    assert_eq!(ebb.metric(&[&counter(&ebb, "to_app")]).await, 9.0);
    assert_eq!(ebb.metric(&[&counter(&ebb, "to_client")]).await, 16.0);
}
