//! What the tests of all clients need: a server of their own, and a client that knows nothing but it.

use tokio::net::TcpListener;

use super::*;

pub(super) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

pub(super) fn caller(endpoint: SocketAddr) -> Caller {
    let (_, node) = watch::channel(vec![endpoint]);
    Caller { node, rng: Rng::with_seed(1) }
}

/// Reads up to the empty line at the end of a request's head.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    use tokio::io::AsyncReadExt;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// An address where nobody listens is refused, whatever is asked for.
#[tokio::test]
async fn nobody_listens_is_refused() {
    let (listener, addr) = listen().await;
    drop(listener);
    let (_, node) = watch::channel(vec![addr]);
    let (_stop, mut stop) = watch::channel(false);
    for kind in [Kind::OneShot, Kind::KeepAlive, Kind::Grpc, Kind::WebSocket, Kind::Events] {
        for mut client in Client::of_kind(kind, &node, &mut Rng::with_seed(1)) {
            assert_eq!(client.run(&mut stop).await.unwrap(), Err(Failure::Refused), "{kind:?}");
        }
    }
}
