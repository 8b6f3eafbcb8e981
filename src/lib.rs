//! ebb: a reverse-proxy sidecar that lets a pod go away without losing a connection.
//!
//! The modules in reading order are the map. A request's path: [`listener`] → [`connection`] → [`proxy`] →
//! [`upstream`]. A drain's path: [`drain`], top to bottom. The rest are side doors.
//! Dependencies point downwards only; [`drain::watch`], [`metrics`], [`sys`], [`date`], [`gather`], [`http1`], [`http2`], [`media`], [`origin`] and a module's own part of
//! [`config`] are leaves that anyone may use. [`inject`] stands by itself: it knows manifests, and
//! only its command and [`webhook`] know it.

pub mod cli;
pub mod config;
pub mod sidecar;

pub mod worker;

pub mod listener;

pub mod proxy_protocol;

pub mod connection;

pub mod proxy;

pub mod upstream;

pub mod websocket;

pub mod drain;

pub mod admin;
pub mod date;
pub mod gather;
pub mod http1;
pub mod http2;
pub mod inject;
pub mod media;
pub mod metrics;
pub mod origin;
pub mod sys;
pub mod telemetry;
pub mod tls;
pub mod webhook;
