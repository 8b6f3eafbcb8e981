//! Our client and our server.

use futures_util::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::duplex;
use tokio::runtime::Builder;

use super::support::{Pieces, connect, exchange, local, one_trailer, pattern, request, response, serve};
use crate::http2::{Error, Reason};

/// Bodies of these lengths, in pieces of these sizes, with trailers or without, go there and back at the same time.
async fn echo(room: usize, streams: u32, window: u32, bodies: &[(usize, usize, bool)]) {
    let (near, far) = duplex(room);
    let serving = serve(far, streams);
    let (sender, ended) = connect(near, window);
    // Not before it has said how many streams there may be.
    exchange(&sender, "/echo", Pieces::new(&pattern(0), 1, None)).await.unwrap();
    let exchanges = bodies.iter().map(|&(len, piece, trailers)| {
        let trailers = trailers.then(|| one_trailer("x-mine", "there"));
        let body = Pieces::new(&pattern(len), piece, trailers.clone());
        let sender = &sender;
        async move { assert_eq!(exchange(sender, "/echo", body).await, Ok((pattern(len), trailers))) }
    });
    join_all(exchanges).await;
    sender.core.borrow().check();
    assert!(sender.core.borrow().slots.is_empty());
    drop(sender);
    assert_eq!(ended.await.unwrap(), Ok(()));
    assert_eq!(serving.ended.await.unwrap(), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bodies_there_and_back(
        room in 1_000..100_000_usize,
        streams in 1..5_u32,
        window in 65_535..1_000_000_u32,
        bodies in vec((0..150_000_usize, 1_000..70_000_usize, any::<bool>()), 1..6),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(local(echo(room, streams, window, &bodies)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipe_of_few_bytes() {
    local(echo(7, 10, 65_535, &[(5_000, 999, true), (3_000, 1, false)])).await;
}

#[tokio::test(start_paused = true)]
async fn told_to_go_with_requests_that_wait() {
    local(async {
        let (near, far) = duplex(10_000);
        let serving = serve(far, 1);
        let (sender, ended) = connect(near, 1 << 20);
        exchange(&sender, "/echo", Pieces::new(&pattern(1), 1, None)).await.unwrap();
        let (mut first, outgoing) = sender.send_request(&request("/echo"), false).unwrap();
        response(&mut first).await.unwrap();
        let (mut second, _) = sender.send_request(&request("/echo"), true).unwrap();
        serving.order(|connection| connection.graceful_shutdown());
        assert_eq!(response(&mut second).await.unwrap_err(), Error::Unprocessed(Reason::NO_ERROR));
        let body = super::support::send(Pieces::new(&pattern(50_000), 999, None), outgoing);
        let (sent, received) = tokio::join!(body, super::support::read(first));
        assert_eq!((sent, received), (true, Ok((pattern(50_000), None))));
        drop(second);
        assert_eq!(ended.await.unwrap(), Ok(()));
        assert_eq!(serving.ended.await.unwrap(), Ok(()));
    })
    .await;
}
