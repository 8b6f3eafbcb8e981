//! What a parked connection holds on to. mimalloc rounds sizes up to classes (four between two powers of two), and
//! tokio aligns its tasks and sockets at 128 bytes.

use super::*;

/// What tokio adds to a task's future.
const TASK: usize = 104;

/// What `Rc` adds.
const RC: usize = 16;

fn size_of_future<I, F: Future>(_: impl FnOnce(I) -> F) -> usize {
    size_of::<F>()
}

/// Guards: a state that is awaited in the task itself instead of in a box of its own makes every idle connection
/// pay for it.
#[test]
#[cfg(target_pointer_width = "64")]
fn a_parked_connection_is_small() {
    let task = TASK + size_of_future(|(client, stream): (Client, ClientStream)| client.live(stream));
    assert!(task <= 256, "the task: {task}");
    let seat = RC + size_of::<roster::Seat>();
    assert!(seat <= 128, "the seat: {seat}");
    let caller = RC + size_of::<Caller>();
    assert!(caller <= 64, "the caller: {caller}");
}

/// Guards: what lives only while a connection is served must not lie among what stays. With the size of a task, a seat
/// or a caller it would share pages of memory with them, and half of each page would be left behind by every burst.
#[test]
#[cfg(target_pointer_width = "64")]
fn what_goes_does_not_lie_among_what_stays() {
    let exchange = RC + size_of::<Exchange>();
    assert!(exchange > 64 && exchange <= 112, "the exchange: {exchange}");
    // hyper keeps a box for a response's body.
    let body = size_of::<Option<proxy::Body>>();
    assert!(body > 128 && body <= 224, "the body: {body}");
}
