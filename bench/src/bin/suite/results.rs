//! Everything that was measured in a run.

use std::fs;
use std::path::Path;

use ebb_bench::peer::{Kind, version};

use crate::args::{Args, Part};
use crate::context::Context;
use crate::cpu::{self, Measured};
use crate::latency::{self, Paced};
use crate::series::Series;
use crate::workload::Workload;
use crate::{drain, memory, start};

/// Everything that was measured in a run; what was not is empty.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) cpu: Vec<Measured>,
    pub(crate) latency: Vec<Paced>,
    pub(crate) memory: Series<memory::Turn>,
    pub(crate) start: Series<start::Turn>,
    pub(crate) drain: Series<drain::Turn>,
    /// Bytes of each proxy's binary.
    pub(crate) sizes: Vec<(Kind, u64)>,
    /// Bytes of ebb's static binary, if it was built.
    pub(crate) static_size: Option<u64>,
    pub(crate) versions: Vec<(Kind, String)>,
}

impl Results {
    /// Measures all that is asked for.
    pub(crate) async fn measure(cx: &mut Context) -> std::io::Result<Self> {
        let mut results = Self::default();
        for (kind, binary) in &cx.peers {
            results.versions.push((*kind, version(*kind, binary).await));
            results.sizes.extend(fs::metadata(binary).map(|file| (*kind, file.len())));
        }
        results.static_size = static_size(&cx.args);
        let parts = cx.args.parts();
        for workload in cx.workloads() {
            results.cpu.push(cpu::measure(cx, workload).await);
        }
        if parts.contains(&Part::Latency) {
            results.latency(cx).await;
        }
        if parts.contains(&Part::Memory) {
            results.memory = memory::measure(cx).await;
        }
        if parts.contains(&Part::Start) {
            results.start = start::measure(cx).await?;
        }
        if parts.contains(&Part::Drain) {
            results.drain = drain::measure(cx).await;
        }
        Ok(results)
    }

    async fn latency(&mut self, cx: &mut Context) {
        let quick = cx.args.quick();
        let saturated: Vec<&Measured> =
            self.cpu.iter().filter(|measured| measured.workload.has_latency(quick)).collect();
        if saturated.is_empty() {
            cx.note("latency needs a workload, whose rate it takes: --only http1,latency.".to_owned());
        }
        for measured in saturated {
            self.latency.extend(latency::measure(cx, measured).await);
        }
    }

    /// What was measured of this workload.
    pub(crate) fn of(&self, workload: Workload) -> Option<&Measured> {
        self.cpu.iter().find(|measured| measured.workload == workload)
    }
}

/// The size of the static binary: of the one that is named, or of the one where `just static` puts it.
fn static_size(args: &Args) -> Option<u64> {
    let size = |file: &Path| fs::metadata(file).ok().map(|file| file.len());
    if let Some(file) = &args.static_binary {
        return size(file);
    }
    let this = std::env::current_exe().ok()?;
    let targets = fs::read_dir(this.ancestors().nth(2)?).ok()?;
    let mut dirs = targets.flatten().map(|entry| entry.path());
    // A target's directory is named after it.
    let named =
        |dir: &Path| dir.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-linux-musl"));
    dirs.find_map(|dir| if named(&dir) { size(&dir.join("release").join("ebb")) } else { None })
}
