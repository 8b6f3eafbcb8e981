//! gRPC calls at the drain's deadline.

use bytes::Bytes;

use crate::support::http2::{self, Http2App, Http2Client, answer, grpc};
use crate::support::{Ebb, within};

/// The deadline comes two seconds after the trigger.
const SOON: &[&str] = &["--grace-period", "4s", "--app-shutdown", "1s", "--workers", "1"];

const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

/// Guards: a call ends with a status that has the client go elsewhere: at once, or when the message that is under way is
/// whole, since clients do not look at a status behind half of one.
#[tokio::test]
async fn calls_end_between_two_messages() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), SOON).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let unanswered = client.send(grpc("/unanswered"), true).await.0;
    let between = client.send(grpc("/between"), false).await;
    let within_one = client.send(grpc("/within"), false).await;
    let (mut calls, mut sending) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut call = app.call().await;
        if call.path() != "/unanswered" {
            let mut stream = call.begin_grpc();
            stream.send_data(Bytes::from_static(MESSAGE), false).unwrap();
            if call.path() == "/within" {
                stream.send_data(Bytes::from_static(&MESSAGE[..7]), false).unwrap();
            }
            sending.push((call.path().to_owned(), stream));
        }
        calls.push(call);
    }
    let hook = ebb.drain().await;
    let unanswered = answer(unanswered).await.unwrap();
    assert_eq!((unanswered.field("grpc-status"), unanswered.field("ebb-error")), ("14", "drain-deadline"));
    // The deadline has come.
    let (_, rest) = sending.iter_mut().find(|(path, _)| path == "/within").unwrap();
    rest.send_data(Bytes::from([&MESSAGE[7..], MESSAGE, MESSAGE].concat()), false).unwrap();
    for ((response, _stream), messages) in [(between, 1), (within_one, 2)] {
        let mut body = within("a head", response).await.unwrap().into_body();
        let (bytes, trailers) = http2::read(&mut body).await.unwrap();
        assert_eq!(bytes, MESSAGE.repeat(messages));
        let trailers = trailers.expect("trailers");
        assert_eq!(
            (http2::text(&trailers, "grpc-status"), http2::text(&trailers, "ebb-error")),
            ("14", "drain-deadline")
        );
    }
    assert_eq!(hook.report().await["outcome"], "forced");
}
