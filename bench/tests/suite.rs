//! A short run of everything, with ebb and the relay alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use roxmltree::Document;

/// ebb's own binary. It is another package's, so cargo does not build it for these tests by itself; whichever is there will do.
fn ebb(next_to: &Path) -> PathBuf {
    let ebb = next_to.with_file_name("ebb");
    if !ebb.is_file() {
        let target = next_to.ancestors().nth(2).expect("target/debug/suite");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "ebb", "--bin", "ebb", "--target-dir"]);
        let built = cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(built.success());
    }
    ebb
}

/// Guards: every measurement runs to its end with the real binaries, and its figures are in the page and in the chart.
#[test]
fn a_short_run_fills_the_page_and_the_chart() {
    let suite = Path::new(env!("CARGO_BIN_EXE_suite"));
    let ebb = ebb(suite);
    let out = tempfile::tempdir().unwrap();
    let mut run = Command::new(suite);
    run.args(["quick", "--rounds", "1", "--seconds", "0.1", "--connections", "4", "--h2-connections", "1"]);
    run.args(["--streams", "2", "--held", "8", "--settled", "0", "--peers", "ebb,relay"]);
    run.args(["--only", "http1,http1-1m,one-shot,upload,tls,h2,h2-h1,grpc,grpc-stream,websocket,ping-pong"]);
    run.args(["--only", "bulk-up,bulk-down,latency,memory,start,drain", "--rate", "200"]);
    run.arg("--ebb").arg(&ebb).arg("--out").arg(out.path());
    let output = run.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");

    let page = std::fs::read_to_string(out.path().join("RESULTS.md")).unwrap();
    assert!(!page.contains("Note:"), "{log}");
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    // The targets, 13 workloads, two of them with latency, memory, start, drain.
    assert_eq!(sections.len(), 1 + 13 + 2 + 3, "{page}");
    for section in &sections[1..] {
        let title = section.lines().next().unwrap();
        let has = |name: &str| section.contains(&format!("\n| {name} "));
        assert!(has("ebb"), "{section}");
        let others = ["TLS", "HTTP/2 to HTTP/1.1", "one connection per request"];
        let through = !others.iter().any(|other| title.contains(other));
        let proxies_only = ["Memory", "Start", "Drain"].iter().any(|only| title.starts_with(only));
        assert_eq!(has("relay"), through && !proxies_only, "{section}");
    }
    let drain = sections.last().unwrap();
    assert!(drain.contains("| ebb   |      1 |              0 |    0 |"), "{drain}");
    assert!(!page.contains(env!("CARGO_MANIFEST_DIR")) && !page.contains("/tmp"), "{page}");

    let chart = std::fs::read_to_string(out.path().join("RESULTS.svg")).unwrap();
    let chart = Document::parse(&chart).unwrap();
    let bars = chart.descendants().filter(|node| node.has_tag_name("rect")).count() - 1;
    // Eight connections may need nothing that the ones before them had not needed: nothing is no multiple of nothing.
    let memory = sections.iter().find(|section| section.starts_with("Memory")).unwrap();
    let row = memory.lines().find(|line| line.starts_with("| ebb ")).unwrap();
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let memory = [2, 4, 8, 10].iter().filter(|cell| cells[**cell] != "0.00").count();
    // Two for each workload but three, and for both latencies; one for each kind of memory, and for the start.
    assert_eq!(bars, 13 * 2 - 3 + 2 * 2 + memory + 1, "{page}");
}
