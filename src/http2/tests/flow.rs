//! Whatever the order in which windows open and bytes move, bodies arrive as they were sent, and nobody waits for what
//! is there.

use std::cell::RefCell;
use std::rc::Rc;

use http::Response;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::script::{OK, POST, Script, Task, block, greeting, put, put_settings, run, turn};
use super::support::{HEAD_MAX, request};
use crate::http2::core::Role;
use crate::http2::frame::{flag, kind};
use crate::http2::server::{Accepted, Connection};
use crate::http2::{CONNECTION_WINDOW, RecvStream, SendStream, client};

mod receiving;
mod sending;

fn put_head(number: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    put(kind::HEADERS, flag::END_HEADERS, number, &block(fields))
}

/// The numbers of so many streams.
fn numbers(streams: usize) -> impl Iterator<Item = u32> {
    (1..).step_by(2).take(streams)
}

/// Sizes at which something could change, and others.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        select(vec![0, 1, 2, 9, 100, 16_383, 16_384, 16_385, 65_535, 65_536, 131_072]),
        0..200_000_usize
    ]
}

fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::Server, Role::Client])
}

/// How much is read at a time.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(select(vec![1, 2, 8, 9, 10, 100, 5_000, usize::MAX]), 1..6).prop_map(|mut cuts| {
        // Bytes one at a time are slow when there are many.
        cuts.push(40_000);
        cuts
    })
}

/// A connection, with a handle to each of its streams.
struct Opened {
    script: Script,
    tasks: Vec<Task>,
    streams: Vec<(RecvStream, SendStream)>,
    unannounced: Box<dyn Fn() -> u32>,
}

/// Opens so many streams on a connection to which somebody says `settings`.
fn opened(role: Role, streams: usize, settings: &[(u16, u32)], cuts: Vec<usize>) -> Opened {
    let script = Script::new(cuts, 0);
    match role {
        Role::Server => open_server(script, streams, settings),
        Role::Client => open_client(script, streams, settings),
    }
}

fn open_server(script: Script, streams: usize, settings: &[(u16, u32)]) -> Opened {
    let mut connection = Connection::new(script.clone(), 100, HEAD_MAX);
    let core = Rc::clone(&connection.driver.core);
    let accepted: Rc<RefCell<Vec<Accepted>>> = Rc::default();
    let accepting = Rc::clone(&accepted);
    let mut tasks = vec![Task::new(async move {
        let ended = std::future::poll_fn(|cx| {
            turn(&mut connection, cx, |accepted| accepting.borrow_mut().push(accepted))
        });
        panic!("the connection has ended: {:?}", ended.await);
    })];
    script.feed(&greeting(settings));
    for number in numbers(streams) {
        script.feed(&put_head(number, POST));
    }
    run(&mut tasks);
    let streams = accepted.take().into_iter().map(|accepted| {
        let Accepted { body, mut respond, .. } = accepted;
        respond.send_response(&Response::new(()), false).unwrap();
        (body, respond)
    });
    let streams = streams.collect();
    Opened { script, tasks, streams, unannounced: Box::new(move || core.borrow().unannounced()) }
}

fn open_client(script: Script, streams: usize, settings: &[(u16, u32)]) -> Opened {
    let (sender, connection) = client::connect(script.clone(), CONNECTION_WINDOW, HEAD_MAX);
    let core = Rc::clone(&sender.core);
    let mut tasks = vec![Task::new(async move {
        let ended = connection.await;
        panic!("the connection has ended: {ended:?}");
    })];
    script.feed(&put_settings(settings));
    run(&mut tasks);
    let opened = (0..streams).map(|_| sender.send_request(&request("/"), false).unwrap()).collect();
    for number in numbers(streams) {
        script.feed(&put_head(number, OK));
    }
    run(&mut tasks);
    let unannounced = move || {
        let _open = &sender;
        core.borrow().unannounced()
    };
    Opened { script, tasks, streams: opened, unannounced: Box::new(unannounced) }
}
