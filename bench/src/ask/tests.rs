use super::*;
use crate::origin::{App, Origin};

const BODY: usize = 100_000;

fn http1(origin: &Origin) -> Http1Options {
    Http1Options { addr: origin.addr(), body: BODY, upload: None, one_shot: false, tls: None }
}

/// Asks twice with each client, so that what is kept for the second time is right as well.
async fn twice<A: Ask>(clients: Vec<A>) -> Answered {
    let count = Count::default();
    for mut client in clients {
        count.add(client.ask().await.unwrap());
        count.add(client.ask().await.unwrap());
    }
    count.get()
}

#[tokio::test]
async fn every_kind_of_client_is_answered_and_counts_it() {
    let origin = Origin::start(App { body: BODY, ..App::default() }).unwrap();
    let addr = origin.addr();
    let answered = |answers, bytes: usize| Answered { answers, bytes: bytes as u64 };
    let options = http1(&origin);
    assert_eq!(twice(options.clients(2)).await, answered(4, 4 * BODY));
    assert_eq!(
        twice(Http1Options { one_shot: true, ..options.clone() }.clients(2)).await,
        answered(4, 4 * BODY)
    );
    assert_eq!(
        twice(Http1Options { upload: Some(300_000), ..options }.clients(1)).await,
        answered(2, 600_000)
    );
    let pages = Http2::clients(addr, What::Page(BODY), 1, 2).await.unwrap();
    assert_eq!(twice(pages).await, answered(4, 4 * BODY));
    let calls = Http2::clients(addr, What::Unary(128), 1, 1).await.unwrap();
    assert_eq!(twice(calls).await, answered(2, 2 * 133));
    let streams = Http2::clients(addr, What::Stream(128, 50), 1, 1).await.unwrap();
    assert_eq!(twice(streams).await, answered(100, 100 * 133));
    assert_eq!(twice(WebSocket::clients(addr, 128, 2).await.unwrap()).await, answered(4, 4 * 128));
    assert_eq!(twice(Tcp::clients(origin.tcp_addr(), 64, 2).await.unwrap()).await, answered(4, 4 * 64));
}

#[tokio::test]
async fn another_length_than_was_asked_for_is_a_failure() {
    let origin = Origin::start(App { body: BODY + 1, ..App::default() }).unwrap();
    let mut client = http1(&origin).clients(1).remove(0);
    assert_eq!(client.ask().await, Err(Failure::Bad));
    let mut page = Http2::clients(origin.addr(), What::Page(BODY), 1, 1).await.unwrap().remove(0);
    assert_eq!(page.ask().await, Err(Failure::Bad));
}

#[tokio::test]
async fn a_load_that_meets_a_failure_says_so() {
    let origin = Origin::start(App { body: BODY - 1, ..App::default() }).unwrap();
    let asking = Asking::start(http1(&origin).clients(2));
    while origin.served() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(asking.stop().await, Err(Failure::Bad));
}

#[tokio::test]
async fn a_load_counts_until_it_is_stopped() {
    let origin = Origin::start(App { body: BODY, ..App::default() }).unwrap();
    let asking = Asking::start(http1(&origin).clients(3));
    let count = asking.count();
    while count.get().answers < 20 {
        tokio::task::yield_now().await;
    }
    asking.stop().await.unwrap();
    let Answered { answers, bytes } = count.get();
    assert_eq!(bytes, answers * BODY as u64);
    assert_eq!(answers, origin.served());
}
