//! The tables, and the page that they are on.

use std::fmt::Write as _;

use ebb_bench::Tally;
use ebb_bench::peer::Kind;
use ebb_bench::table::{Table, range};

use crate::context::Context;
use crate::cpu::Measured;
use crate::latency::Paced;
use crate::machine::{machine, today};
use crate::results::Results;
use crate::series::{Series, Summary, digits};
use crate::targets::{self, MIB, targets};
use crate::{drain, memory, start};

/// The whole page. It links to the chart, which is beside it.
pub(crate) fn page(cx: &Context, results: &Results) -> String {
    let mut page = "# Results\n\nMade by `just bench`; [README.md](README.md) says how each is measured, and what is \
                    unfair about it.\nMedians, with the smallest and the largest. Ratios are between turns of one round.\n"
        .to_owned();
    let _ = writeln!(page, "\n{}. {}.", machine(), today());
    let (rounds, turn, workers) = (cx.args.rounds(), cx.args.turn().as_secs_f64(), cx.args.workers);
    let _ = writeln!(page, "{rounds} rounds with turns of {turn} s; {workers} workers each.\n");
    for (kind, version) in &results.versions {
        let _ = writeln!(page, "- {} {version}", kind.name());
    }
    for note in &cx.notes {
        let _ = writeln!(page, "- Note: {note}");
    }
    let _ = writeln!(page, "\n![Times ebb](RESULTS.svg)");
    section(&mut page, "Targets", &targets::table(&targets(results)));
    for measured in &results.cpu {
        section(&mut page, measured.workload.title(), &cpu(measured));
    }
    for paced in &results.latency {
        let title = format!("Latency: {}, {:.0} requests/s", paced.workload.title(), paced.rate);
        section(&mut page, &title, &latency(paced));
    }
    section(&mut page, "Memory", &memory(&results.memory));
    section(&mut page, "Start and size", &start(results));
    section(&mut page, "Drain", &drain(&results.drain));
    page
}

/// Only with something in it.
fn section(page: &mut String, title: &str, table: &Table) {
    if !table.is_empty() {
        let _ = write!(page, "\n## {title}\n\n{table}");
    }
}

/// A median and its spread, as two cells.
fn cells(summary: Option<Summary>) -> [String; 2] {
    summary.map_or_else(|| ["-".to_owned(), "-".to_owned()], |s| [digits(s.median), s.spread()])
}

fn row(kind: Kind, summaries: impl IntoIterator<Item = Option<Summary>>) -> Vec<String> {
    std::iter::once(kind.name().to_owned()).chain(summaries.into_iter().flat_map(cells)).collect()
}

fn cpu(measured: &Measured) -> Table {
    let (turns, unit) = (&measured.turns, measured.workload.unit());
    let mut table =
        Table::new(&["proxy", unit.cost(), "min-max", "times ebb", "min-max", unit.rate(), "min-max"]);
    for kind in turns.kinds() {
        let cost = turns.summary(kind, |turn| turn.cost);
        let ratio = turns.ratio(kind, Kind::Ebb, |turn| turn.cost);
        table.row(row(kind, [cost, ratio, turns.summary(kind, |turn| turn.rate)]));
    }
    table
}

fn latency(paced: &Paced) -> Table {
    let turns = &paced.turns;
    let mut table = Table::new(&[
        "proxy",
        "p50 us",
        "min-max",
        "p99 us",
        "min-max",
        "p99, times ebb",
        "min-max",
        "p99.9 us",
        "min-max",
        "load late, p99 us",
        "min-max",
    ]);
    for kind in turns.kinds() {
        let ratio = turns.ratio(kind, Kind::Ebb, |turn| turn.p99);
        let of = |figure: fn(&crate::latency::Turn) -> f64| turns.summary(kind, figure);
        let [p50, p99, p999] = [of(|turn| turn.p50), of(|turn| turn.p99), of(|turn| turn.p999)];
        table.row(row(kind, [p50, p99, ratio, p999, of(|turn| turn.late)]));
    }
    for kind in &paced.too_slow {
        table.row(vec![kind.name().to_owned(), "too slow".to_owned()]);
    }
    table
}

fn memory(turns: &Series<memory::Turn>) -> Table {
    let mut table = Table::new(&[
        "proxy",
        "at rest, MiB",
        "min-max",
        "kB per idle connection",
        "min-max",
        "all idle, MiB",
        "min-max",
        "kB per active",
        "min-max",
        "kB per idle HTTP/2",
        "min-max",
    ]);
    for kind in turns.kinds() {
        let of = |figure: fn(&memory::Turn) -> f64| turns.summary(kind, figure);
        table.row(row(
            kind,
            [
                of(|turn| turn.rest / MIB),
                of(|turn| turn.idle / 1e3),
                of(|turn| turn.total / MIB),
                of(|turn| turn.active / 1e3),
                of(|turn| turn.http2.unwrap_or(f64::NAN) / 1e3),
            ],
        ));
    }
    table
}

fn start(results: &Results) -> Table {
    let turns: &Series<start::Turn> = &results.start;
    let mut table =
        Table::new(&["proxy", "listens, ms", "min-max", "first answer, ms", "min-max", "binary, MiB"]);
    for kind in turns.kinds() {
        let summaries = [turns.summary(kind, |turn| turn.listens), turns.summary(kind, |turn| turn.answers)];
        let mut row = row(kind, summaries);
        let size = results.sizes.iter().find(|(own, _)| *own == kind);
        row.push(size.map_or_else(|| "-".to_owned(), |(_, size)| format!("{:.2}", *size as f64 / MIB)));
        table.row(row);
    }
    if let (Some(size), false) = (results.static_size, table.is_empty()) {
        let nothing = std::iter::repeat_n("-".to_owned(), 4);
        let size = format!("{:.2}", size as f64 / MIB);
        table.row(std::iter::once("ebb, static".to_owned()).chain(nothing).chain([size]).collect());
    }
    table
}

fn drain(turns: &Series<drain::Turn>) -> Table {
    let mut table = Table::new(&[
        "proxy",
        "drains",
        "lost per drain",
        "lost",
        "new",
        "reused",
        "cut",
        "wrong or stuck",
        "requests",
        "accepted later",
        "drain s",
        "min-max",
        "ms after the last connection",
        "min-max",
    ]);
    for kind in turns.kinds() {
        let tallies: Vec<&Tally> = turns.turns(kind).map(|turn| &turn.tally).collect();
        let mut all = Tally::default();
        tallies.iter().for_each(|tally| all.merge(tally));
        let counts = [
            all.lost(),
            all.lost_fresh,
            all.lost_reused,
            all.cut,
            all.bad + all.stuck,
            all.requests(),
            all.accepted_after_refusal + all.not_connected,
        ];
        let mut row = vec![kind.name().to_owned(), tallies.len().to_string()];
        row.push(range(tallies.iter().map(|tally| tally.lost())));
        row.extend(counts.iter().map(u64::to_string));
        row.extend(cells(turns.summary(kind, |turn| turn.seconds)));
        row.extend(cells(turns.summary(kind, |turn| turn.after_last.unwrap_or(f64::NAN))));
        table.row(row);
    }
    table
}
