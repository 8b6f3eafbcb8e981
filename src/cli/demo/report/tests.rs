//! The table as people see it, the document as machines do.

use fastrand::Rng;
use serde_json::Value;

use super::super::delays::Delays;
use super::super::pod::DrainReport;
use super::super::rollout::Replaced;
use super::super::tally::{ByProtocol, Counts};
use super::*;

fn outcomes() -> [Outcome; 2] {
    let replaced = |drain| Replaced { seconds: 5.04, propagation_seconds: 3.411, killed: false, drain };
    let http1 = Counts { requests: 12345, refused: 1234, reset: 5, cut: 6, errors: 7, failed: 1252 };
    let websocket = Counts { requests: 70, cut: 20, failed: 20, ..Counts::default() };
    let lost = ByProtocol { http1, websocket, ..ByProtocol::default() };
    let grpc = Counts { requests: 999, ..Counts::default() };
    let fine = ByProtocol { grpc, ..ByProtocol::default() };
    let drain = DrainReport { outcome: "clean".to_owned(), last_arrival_seconds: Some(3.404) };
    [
        Outcome {
            strategy: Strategy::Exit,
            total: lost.total(),
            protocols: lost,
            seconds_per_pod: 0.004,
            pods: vec![Replaced { killed: true, ..replaced(None) }],
        },
        Outcome {
            strategy: Strategy::Ebb,
            total: fine.total(),
            protocols: fine,
            seconds_per_pod: 5.04,
            pods: vec![replaced(Some(drain))],
        },
    ]
}

#[test]
fn the_table_lines_up_and_fits_into_100_columns() {
    let table = Table { outcomes: &outcomes(), color: false }.to_string();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "when a pod is deleted                   HTTP/1.1           gRPC      WebSocket         events  s/pod",
            &"─".repeat(100),
            "the app just exits               1,252 of 12,345         0 of 0       20 of 70         0 of 0    0.0",
            "preStop ebb drain, then graceful          0 of 0       0 of 999         0 of 0         0 of 0    5.0",
        ]
    );
    let kinds = [
        "how they failed                          refused          reset            cut         errors",
        "the app just exits                         1,234              5             26              7",
        "preStop ebb drain, then graceful               0              0              0              0",
    ];
    assert_eq!(lines[8..11], kinds);
    assert!(lines.iter().all(|line| line.chars().count() <= 100));
    assert!(table.contains("the app just exits: 1 of 3 pods had to be killed after the grace period"));
    let tail = "
ebb measures the propagation:            pod 1
  the last node knew after              3.41 s
  the last new connection came after    3.40 s
  drain                                  clean
";
    assert!(table.ends_with(tail));
}

#[test]
fn failures_are_painted_on_request() {
    let table = Table { outcomes: &outcomes(), color: true }.to_string();
    assert!(table.contains("\x1b[1;31m       20 of 70\x1b[0m"));
    assert!(table.contains("\x1b[1;32m       0 of 999\x1b[0m"));
}

#[test]
fn the_intro_fits_as_well() {
    let intro = Intro(&plan()).to_string();
    assert!(intro.contains("(--seed 5 draws"));
    assert!(intro.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn the_document_has_the_draw_and_the_numbers() {
    let document: Value = serde_json::to_value(Report::new(&plan(), &outcomes())).unwrap();
    assert_eq!(document["seed"], 5);
    assert_eq!(document["delays_seconds"][PODS - 1].as_array().unwrap().len(), NODES);
    assert_eq!(document["delay_distribution"]["exponential_mean_seconds"], 0.8);
    assert_eq!(document["strategies"][0]["strategy"], "exit");
    assert_eq!(document["strategies"][0]["cut"], 26);
    assert_eq!(document["strategies"][0]["protocols"]["websocket"]["cut"], 20);
    assert_eq!(document["strategies"][1]["pods"][0]["drain"]["last_arrival_seconds"], 3.404);
}

#[test]
fn thousands_are_apart() {
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
}

fn plan() -> Plan {
    Plan { seed: 5, delays: Delays::draw(&mut Rng::with_seed(5)) }
}
