//! What all measurements share: who takes part, where the binaries are, and what has to be said about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ebb_bench::peer::{Binaries, Kind, Peer, Serve, Setup};
use ebb_bench::tls::Identity;

use crate::args::{Args, Part};
use crate::workload::Workload;

/// What all measurements share.
pub(crate) struct Context {
    pub(crate) args: Args,
    pub(crate) identity: Arc<Identity>,
    /// Those that take part, with their binaries.
    pub(crate) peers: Vec<(Kind, PathBuf)>,
    /// What the reader must know of this run.
    pub(crate) notes: Vec<String>,
}

impl Context {
    pub(crate) fn new(args: Args) -> io::Result<Self> {
        let mut binaries = Binaries::next_to_this_one()?;
        if let Some(ebb) = &args.ebb {
            binaries.ebb.clone_from(ebb);
        }
        binaries.ebb2.clone_from(&args.ebb2);
        if let Some(dir) = &args.peers_dir {
            binaries.peers.clone_from(dir);
        }
        let mut kinds = args.peers.clone();
        if kinds.is_empty() {
            kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Ebb2).collect();
        }
        if args.ebb2.is_some() && !kinds.contains(&Kind::Ebb2) {
            kinds.insert(1.min(kinds.len()), Kind::Ebb2);
        }
        let mut cx =
            Self { args, identity: Arc::new(Identity::new()?), peers: Vec::new(), notes: Vec::new() };
        for kind in kinds {
            match binaries.find(kind) {
                Some(binary) => cx.peers.push((kind, binary)),
                None => cx.note(format!("{} takes no part: its binary was not found.", kind.name())),
            }
        }
        if cx.peers.iter().any(|(kind, _)| *kind == Kind::Nginx && !kind.can(&Serve::Tcp)) {
            cx.note("nginx takes no part in TCP: its stream module was not found.".to_owned());
        }
        if cx.peers.is_empty() {
            return Err(io::Error::other("there is nothing to measure"));
        }
        Ok(cx)
    }

    /// Remembers something for the results, and says it at once.
    pub(crate) fn note(&mut self, note: String) {
        eprintln!("note: {note}");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Says what went wrong. The results only have that it did: a proxy's own words may name places on this machine.
    pub(crate) fn failed(&mut self, kind: Kind, what: &str, error: &io::Error) {
        eprintln!("{what}, {}: {error}", kind.name());
        self.note(format!("{what}: {} had turns that went wrong, which are left out.", kind.name()));
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let workload = |part| if let Part::Workload(workload) = part { Some(workload) } else { None };
        self.args.parts().into_iter().filter_map(workload).collect()
    }

    /// Those that can do this. The relay has a connection to the app for each of the clients', which is no floor for
    /// those that keep theirs.
    pub(crate) fn able(&self, workload: Workload) -> Vec<Kind> {
        let serve = workload.serve(&self.identity);
        let able = |kind: &Kind| kind.can(&serve) && !(*kind == Kind::Relay && workload == Workload::OneShot);
        self.peers.iter().map(|(kind, _)| *kind).filter(able).collect()
    }

    /// Those that are proxies indeed, and know what passes through them.
    pub(crate) fn proxies(&self) -> Vec<Kind> {
        self.peers.iter().map(|(kind, _)| *kind).filter(|kind| *kind != Kind::Relay).collect()
    }

    /// How this proxy is run in front of that app.
    pub(crate) fn setup(&self, kind: Kind, upstream: SocketAddr, serve: Serve) -> io::Result<Setup> {
        let found = self.peers.iter().find(|(own, _)| *own == kind);
        let (_, binary) = found.ok_or_else(|| io::Error::other("it takes no part"))?;
        let (workers, binary) = (self.args.workers, binary.clone());
        Ok(Setup { kind, upstream, workers, binary, unprivileged: false, serve })
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start(&self, kind: Kind, upstream: SocketAddr, serve: Serve) -> io::Result<Peer> {
        Peer::start(&self.setup(kind, upstream, serve)?).await
    }
}
