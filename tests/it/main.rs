//! ebb as a pod meets it: the real binary on real sockets, told to go by real signals and hooks.
//!
//! Each test names, in a line that begins with "Guards", the code without which it fails.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod blank_lines;
mod bodies;
mod broken_log;
mod commands;
mod deadline;
mod drain_app;
mod drain_idle;
mod drain_listener;
mod drain_requests;
mod drain_triggers;
mod event_streams;
mod expect;
mod fast_path;
mod framing;
mod grpc_drain;
mod headers;
mod http2_deadline;
mod http2_drain;
mod http2_errors;
mod http2_floods;
mod http2_flow;
mod http2_messages;
mod http2_pressure;
mod http2_resets;
mod http2_sniff;
mod http2_upstream;
mod http2_websocket;
mod kubelet;
mod lame_duck;
mod limits;
mod proxy;
mod proxy_protocol;
mod slow_readers;
mod tcp;
mod tcp_drain;
mod tcp_ends;
mod tls;
mod tls_drain;
mod tls_files;
mod tunnel_ends;
mod tunnels;
mod uploads;
mod upstream;
mod websocket;
