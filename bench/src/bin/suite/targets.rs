//! What ebb is to reach beside the others, and whether it does.

use ebb_bench::peer::Kind;
use ebb_bench::table::Table;

use crate::cpu::Measured;
use crate::results::Results;
use crate::series::{Series, Summary, digits};
use crate::workload::Workload;

/// A figure of ebb's, and what it may be at most.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    what: String,
    most: f64,
    /// Behind the number: what it is a multiple of, or its unit.
    of: String,
    measured: Option<Summary>,
}

const BETTER: [Kind; 2] = [Kind::Nginx, Kind::Haproxy];

impl Target {
    /// None where it was not measured.
    fn met(&self) -> Option<bool> {
        self.measured.map(|measured| measured.median <= self.most)
    }
}

/// All of them, in the order in which they are shown.
pub(crate) fn targets(results: &Results) -> Vec<Target> {
    let cpu = |workload, most, among: &[Kind]| {
        let what = format!("{}, CPU", Workload::title(workload));
        relative(what, most, among, results.of(workload))
    };
    let mut all = vec![
        cpu(Workload::Http1, 0.80, &BETTER),
        cpu(Workload::Http1, 1.15, &[Kind::Relay]),
        cpu(Workload::OneShot, 0.90, &BETTER),
        cpu(Workload::Http1Of1M, 1.0, &BETTER),
        cpu(Workload::Http2, 0.90, &[Kind::Haproxy]),
        cpu(Workload::Http2, 0.30, &[Kind::Envoy]),
    ];
    for paced in &results.latency {
        let what = format!("{}, p99 at half load", paced.workload.title());
        let peers: Vec<Kind> = paced.turns.kinds().into_iter().filter(|kind| is_peer(*kind)).collect();
        all.push(against(what, 1.0, &peers, &paced.turns, |turn| turn.p99));
    }
    let memory = |figure: fn(&crate::memory::Turn) -> f64| results.memory.figures(Kind::Ebb, figure);
    let start = results.start.figures(Kind::Ebb, |turn| turn.listens);
    let size = results.static_size.map(|size| size as f64 / MIB);
    all.extend([
        cpu(Workload::BulkUp, 1.0, &[Kind::Haproxy]),
        cpu(Workload::BulkDown, 1.0, &[Kind::Haproxy]),
        absolute("memory per idle keep-alive connection", 1.1, "kB", &memory(|turn| turn.idle / 1000.0)),
        absolute("memory at rest", 5.0, "MiB", &memory(|turn| turn.rest / MIB)),
        absolute("start to listening", 10.0, "ms", &start),
        absolute("static binary", 6.0, "MiB", &[size]),
    ]);
    all
}

pub(crate) const MIB: f64 = (1 << 20) as f64;

fn is_peer(kind: Kind) -> bool {
    !matches!(kind, Kind::Ebb | Kind::Ebb2 | Kind::Relay)
}

fn relative(what: String, most: f64, among: &[Kind], measured: Option<&Measured>) -> Target {
    match measured {
        Some(measured) => against(what, most, among, &measured.turns, |turn| turn.cost),
        None => against(what, most, among, &Series::<f64>::default(), |turn| *turn),
    }
}

/// ebb's figure as a multiple of that of the best of these.
fn against<T>(
    what: String,
    most: f64,
    among: &[Kind],
    turns: &Series<T>,
    figure: impl Fn(&T) -> f64,
) -> Target {
    let best = turns.best(among, &figure);
    let measured = best.and_then(|best| turns.ratio(Kind::Ebb, best, &figure));
    let of = match (best, among) {
        (Some(best), _) => format!("x {}", best.name()),
        (None, [one]) => format!("x {}", one.name()),
        (None, _) => "x the best".to_owned(),
    };
    Target { what, most, of, measured }
}

fn absolute(what: &str, most: f64, unit: &str, figures: &[Option<f64>]) -> Target {
    let measured = Summary::of(figures);
    Target { what: what.to_owned(), most, of: unit.to_owned(), measured }
}

pub(crate) fn table(targets: &[Target]) -> Table {
    let mut table = Table::new(&["target for ebb", "at most", "measured", "min-max", "met"]);
    for target in targets {
        let (measured, spread) = match target.measured {
            Some(summary) => (digits(summary.median), summary.spread()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let met = target.met().map_or("not measured", |met| if met { "yes" } else { "no" });
        let most = format!("{} {}", digits(target.most), target.of);
        table.row(vec![target.what.clone(), most, measured, spread, met.to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Turn;
    use Kind::{Ebb, Haproxy, Nginx, Relay};

    fn measured(workload: Workload, costs: &[(Kind, &[f64])]) -> Measured {
        let mut turns = Series::new(&costs.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
        for (kind, costs) in costs {
            costs.iter().for_each(|cost| turns.push(*kind, Some(Turn { cost: *cost, rate: 1.0 })));
        }
        Measured { workload, turns }
    }

    fn find<'a>(targets: &'a [Target], what: &str, of: &str) -> &'a Target {
        targets.iter().find(|target| target.what.starts_with(what) && target.of == of).unwrap()
    }

    #[test]
    fn ratios_are_to_the_better_one_and_decide() {
        let http1 = measured(
            Workload::Http1,
            &[
                (Ebb, &[8.0, 9.0, 8.4]),
                (Nginx, &[11.0, 11.0, 11.0]),
                (Haproxy, &[10.0, 10.0, 10.5]),
                (Relay, &[7.0; 3]),
            ],
        );
        let results = Results { cpu: vec![http1], ..Results::default() };
        let targets = targets(&results);
        let better = find(&targets, "HTTP/1.1 keep-alive", "x haproxy");
        assert_eq!((better.met(), better.measured.unwrap().median), (Some(true), 0.8));
        let relay = find(&targets, "HTTP/1.1 keep-alive", "x relay");
        assert_eq!((relay.met(), relay.measured.unwrap().median), (Some(false), 8.4 / 7.0));
        assert_eq!(find(&targets, "HTTP/2 to HTTP/2", "x envoy").met(), None);
        let text = table(&targets).to_string();
        assert!(text.contains("not measured") && text.contains("0.80 x haproxy"), "{text}");
    }

    #[test]
    fn absolute_targets_are_met_at_the_limit_and_not_above() {
        let of = |figures: &[Option<f64>]| absolute("memory", 5.0, "MiB", figures).met();
        assert_eq!(of(&[Some(5.0), Some(4.0), Some(9.0)]), Some(true));
        assert_eq!(of(&[Some(5.1)]), Some(false));
        assert_eq!(of(&[None]), None);
    }
}
