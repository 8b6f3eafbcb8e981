//! The tables.

use ebb_bench::peer::Kind;
use ebb_bench::table::Table;

use crate::cpu::Measured;
use crate::series::{Summary, digits};

/// A median and its spread, as two cells.
fn cells(summary: Option<Summary>) -> [String; 2] {
    summary.map_or_else(|| ["-".to_owned(), "-".to_owned()], |s| [digits(s.median), s.spread()])
}

pub(crate) fn cpu(measured: &Measured) -> Table {
    let (turns, unit) = (&measured.turns, measured.workload.unit());
    let mut table =
        Table::new(&["proxy", unit.cost(), "min-max", "times ebb", "min-max", unit.rate(), "min-max"]);
    for kind in turns.kinds() {
        let mut row = vec![kind.name().to_owned()];
        row.extend(cells(turns.summary(kind, |turn| turn.cost)));
        row.extend(cells(turns.ratio(kind, Kind::Ebb, |turn| turn.cost)));
        row.extend(cells(turns.summary(kind, |turn| turn.rate)));
        table.row(row);
    }
    table
}
