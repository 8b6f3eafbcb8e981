//! `ebb`: parse, dispatch; nothing else.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// Keeps objects of one size together, so that what a burst of connections leaves behind can be given back to the
/// system, which it can't where small and large lie side by side. (Its pages are small ones: `no_thp`.)
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ebb::cli::Cli::parse().run()
}
