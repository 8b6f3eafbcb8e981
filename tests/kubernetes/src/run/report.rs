//! The tables, and the verdict.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::rollout::Rollout;
use super::scenario::Scenario;
use super::shop::Strategy;
use crate::load::{Count, Counts};

/// One thing, done to the pods of one strategy, several times.
#[derive(Debug)]
pub(super) struct Cell {
    scenario: Scenario,
    strategy: Strategy,
    pub(super) rollouts: Vec<Rollout>,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) cells: Vec<Cell>,
}

impl Cell {
    pub(super) fn new(scenario: Scenario, strategy: Strategy) -> Self {
        Self { scenario, strategy, rollouts: Vec::new() }
    }

    fn count(&self) -> Count {
        let mut sum = Count::default();
        self.rollouts.iter().for_each(|rollout| sum.add(&rollout.count));
        sum
    }

    fn name(&self) -> String {
        format!("{}, {}", self.strategy.title(), self.scenario.title())
    }

    /// What ebb must not do, and what shows that the test would have noticed.
    fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (n, rollout) in self.rollouts.iter().enumerate() {
            let name = format!("{}, {}", self.name(), n + 1);
            for (kind, counts) in &rollout.count.0 {
                if self.strategy == Strategy::Ebb && counts.failed() > 0 {
                    failures.push(format!("{name}: {kind}: {counts}"));
                }
                if counts.ok == 0 {
                    failures.push(format!("{name}: {kind}: no request at all succeeded"));
                }
            }
            failures.extend(rollout.complaints.iter().map(|complaint| format!("{name}: {complaint}")));
        }
        let should_fail = self.strategy == Strategy::None && self.scenario == Scenario::Restart;
        if should_fail && self.count().total().failed() == 0 {
            failures
                .push(format!("{}: nothing failed, so these clients would not notice anything", self.name()));
        }
        failures
    }
}

impl Report {
    /// Why the test has failed; nothing when it has not.
    pub(super) fn failures(&self) -> Vec<String> {
        self.cells.iter().flat_map(Cell::failures).collect()
    }

    /// All of it for people.
    pub(super) fn markdown(&self, about: &str, took: Duration, failures: &[String]) -> String {
        let strategies: Vec<_> =
            Strategy::ALL.into_iter().filter(|one| self.of(*one).next().is_some()).collect();
        let mut text = String::new();
        let all = Tables { report: self, strategies: &strategies };
        // Writing to a String does not fail.
        let _ = write!(text, "{about} {:.0} minutes in all.\n\n{all}", took.as_secs_f64() / 60.0);
        let _ = match failures {
            [] => writeln!(text, "\nPassed."),
            some => writeln!(text, "\nFAILED:\n\n- {}", some.join("\n- ")),
        };
        text
    }

    fn of(&self, strategy: Strategy) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.strategy == strategy)
    }

    fn sum(&self, strategy: Strategy) -> Count {
        let mut sum = Count::default();
        self.of(strategy).for_each(|cell| sum.add(&cell.count()));
        sum
    }
}

struct Tables<'a> {
    report: &'a Report,
    strategies: &'a [Strategy],
}

impl Tables<'_> {
    fn head(&self, f: &mut fmt::Formatter<'_>, first: &str) -> fmt::Result {
        let titles: Vec<_> = self.strategies.iter().map(|one| one.title()).collect();
        writeln!(f, "| {first} | {} |", titles.join(" | "))?;
        writeln!(f, "|---|{}", "---:|".repeat(titles.len()))
    }

    fn row<C: fmt::Display>(
        &self,
        f: &mut fmt::Formatter<'_>,
        first: &str,
        cell: impl Fn(Strategy) -> Option<C>,
    ) -> fmt::Result {
        write!(f, "| {first} |")?;
        for strategy in self.strategies {
            match cell(*strategy) {
                Some(cell) => write!(f, " {cell} |")?,
                None => write!(f, " |")?,
            }
        }
        writeln!(f)
    }

    fn scenarios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f, "requests failed, of all (how often it was done)")?;
        let mut seen = Vec::new();
        for Cell { scenario, .. } in &self.report.cells {
            if seen.contains(scenario) {
                continue;
            }
            seen.push(*scenario);
            self.row(f, scenario.title(), |strategy| {
                let cell = self.report.of(strategy).find(|cell| cell.scenario == *scenario)?;
                Some(format!("{} ({}×)", Failed(cell.count().total()), cell.rollouts.len()))
            })?;
        }
        Ok(())
    }

    fn clients(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f, "by client")?;
        let all = self.report.sum(self.strategies[0]);
        for (kind, _) in &all.0 {
            self.row(f, kind, |strategy| {
                let sum = self.report.sum(strategy);
                sum.0.iter().find(|(known, _)| known == kind).map(|(_, counts)| Failed(*counts))
            })?;
        }
        Ok(())
    }

    fn ends(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f, "how they failed")?;
        for n in 0..Counts::default().failures().len() {
            let (name, _) = Counts::default().failures()[n];
            self.row(f, name, |strategy| Some(self.report.sum(strategy).total().failures()[n].1))?;
        }
        Ok(())
    }

    fn drains(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| ebb's own reports | drains | clean | seconds | last new connection after | told to go | closed idle | finished | cut | rescued |"
        )?;
        writeln!(f, "|---|{}", "---:|".repeat(9))?;
        for cell in self.report.of(Strategy::Ebb) {
            let drains: Vec<_> = cell.rollouts.iter().flat_map(|rollout| &rollout.drains).collect();
            let seconds = |path: &str| {
                let mut all: Vec<_> =
                    drains.iter().filter_map(|drain| drain.pointer(path)?.as_f64()).collect();
                all.sort_by(f64::total_cmp);
                match all[..] {
                    [] => "none".to_owned(),
                    [one] => format!("{one:.1}"),
                    [first, .., last] => format!("{first:.1}-{last:.1}"),
                }
            };
            let clean = drains.iter().filter(|drain| drain["outcome"] == "clean").count();
            let (title, total, last) =
                (cell.scenario.title(), seconds("/seconds/total"), seconds("/last_arrival_seconds"));
            write!(f, "| {title} | {} | {clean} | {total} | {last} |", drains.len())?;
            for end in ["told", "closed_idle", "finished", "cut", "rescued"] {
                write!(f, " {} |", thousands(drains.iter().map(|drain| connections(drain, end)).sum()))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scenarios(f)?;
        writeln!(f)?;
        self.ends(f)?;
        writeln!(f)?;
        self.clients(f)?;
        if self.strategies.contains(&Strategy::Ebb) {
            writeln!(f)?;
            self.drains(f)?;
        }
        Ok(())
    }
}

/// How many connections of all protocols a drain ended in one way.
fn connections(drain: &Value, end: &str) -> u64 {
    let protocols = drain["connections"].as_object().into_iter().flatten();
    protocols.filter_map(|(_, ends)| ends[end].as_u64()).sum()
}

struct Failed(Counts);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, all) = (self.0.failed(), thousands(self.0.all()));
        if failed == 0 { write!(f, "**0** of {all}") } else { write!(f, "{} of {all}", thousands(failed)) }
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn cell(strategy: Strategy, counts: Counts, complaints: Vec<String>) -> Cell {
        let drains =
            vec![json!({"outcome": "clean", "seconds": {"total": 6.5}, "last_arrival_seconds": null,
            "connections": {"http1": {"told": 3}, "http2": {"told": 4}}})];
        let count = Count(vec![("one-shot".to_owned(), counts)]);
        let rollout = Rollout { count, drains, complaints, took: Duration::from_secs(20) };
        Cell { scenario: Scenario::Restart, strategy, rollouts: vec![rollout; 2] }
    }

    /// Guards: one failed request of ebb's, one complaint, or clients that do nothing fail the test; what others lose does not.
    #[test]
    fn only_a_faultless_ebb_passes() {
        let well = Counts { ok: 1234, ..Counts::default() };
        let lost = Counts { ok: 1234, cut: 1, ..Counts::default() };
        let failures = |cells| Report { cells }.failures().len();
        assert_eq!(failures(vec![cell(Strategy::Ebb, well, vec![]), cell(Strategy::None, lost, vec![])]), 0);
        assert_eq!(failures(vec![cell(Strategy::Ebb, lost, vec![])]), 2);
        assert_eq!(failures(vec![cell(Strategy::Ebb, well, vec!["not clean".to_owned()])]), 2);
        assert_eq!(failures(vec![cell(Strategy::Ebb, Counts::default(), vec![])]), 2);
        assert_eq!(failures(vec![cell(Strategy::None, well, vec![])]), 1);
    }

    /// Guards: the sums over rollouts, and how often something was done.
    #[test]
    fn the_tables_have_sums() {
        let lost = Counts { ok: 600, refused: 2, cut: 1, ..Counts::default() };
        let report = Report {
            cells: vec![
                cell(Strategy::Ebb, Counts { ok: 1234, ..Counts::default() }, vec![]),
                cell(Strategy::None, lost, vec![]),
            ],
        };
        let text = report.markdown("Here.", Duration::from_secs(600), &report.failures());
        for line in [
            "Here. 10 minutes in all.",
            "| rolling restart of 3 pods | **0** of 2,468 (2×) | 6 of 1,206 (2×) |",
            "| refused | 0 | 4 |",
            "| one-shot | **0** of 2,468 | 6 of 1,206 |",
            "| rolling restart of 3 pods | 2 | 2 | 6.5-6.5 | none | 14 | 0 | 0 | 0 | 0 |",
            "Passed.",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
