//! The bare relay as a process of its own, so that it can be measured like a proxy: `relay ADDR UPSTREAM WORKERS`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().unwrap_or_default();
    let (addr, upstream, workers) = (next().parse(), next().parse(), next().parse());
    let (Ok(addr), Ok(upstream), Ok(workers)) = (addr, upstream, workers) else {
        eprintln!("usage: relay ADDR:PORT UPSTREAM:PORT WORKERS");
        return ExitCode::from(2);
    };
    match ebb_bench::relay::run(addr, upstream, workers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
