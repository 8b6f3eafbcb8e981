//! Turns of several proxies over several rounds, and what they come to: medians, and ratios between turns of one round, in
//! which the machine was in one mood.

use ebb_bench::peer::Kind;
use ebb_bench::table::median;

/// One figure of one proxy, round by round; a turn that went wrong has none.
pub(crate) type Figures = Vec<Option<f64>>;

/// Turns of type `T`.
#[derive(Debug, Clone)]
pub(crate) struct Series<T> {
    turns: Vec<(Kind, Vec<Option<T>>)>,
}

/// The value in the middle, the smallest and the largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self { turns: Vec::new() }
    }
}

impl<T> Series<T> {
    pub(crate) fn new(kinds: &[Kind]) -> Self {
        Self { turns: kinds.iter().map(|kind| (*kind, Vec::new())).collect() }
    }

    /// Who has its turn when, in this round: each begins one in turn, so that none always follows the same other one.
    pub(crate) fn order(kinds: &[Kind], round: usize) -> Vec<Kind> {
        let begin = round % kinds.len().max(1);
        kinds[begin..].iter().chain(&kinds[..begin]).copied().collect()
    }

    pub(crate) fn push(&mut self, kind: Kind, turn: Option<T>) {
        if let Some((_, turns)) = self.turns.iter_mut().find(|(own, _)| *own == kind) {
            turns.push(turn);
        }
    }

    /// Those with a turn that went well.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let some = self.turns.iter().filter(|(_, turns)| turns.iter().any(Option::is_some));
        some.map(|(kind, _)| *kind).collect()
    }

    /// This proxy's turns that went well.
    pub(crate) fn turns(&self, kind: Kind) -> impl Iterator<Item = &T> {
        self.all(kind).iter().flatten()
    }

    fn all(&self, kind: Kind) -> &[Option<T>] {
        let turns = self.turns.iter().find(|(own, _)| *own == kind);
        turns.map(|(_, turns)| turns.as_slice()).unwrap_or_default()
    }

    /// A figure of this proxy's turns.
    pub(crate) fn figures(&self, kind: Kind, figure: impl Fn(&T) -> f64) -> Figures {
        self.all(kind).iter().map(|turn| turn.as_ref().map(&figure)).collect()
    }

    /// This proxy's figure; none when it never had one.
    pub(crate) fn summary(&self, kind: Kind, figure: impl Fn(&T) -> f64) -> Option<Summary> {
        Summary::of(&self.figures(kind, figure))
    }

    /// The first proxy's figure as a multiple of the second's, from the rounds in which both have one.
    pub(crate) fn ratio(&self, of: Kind, to: Kind, figure: impl Fn(&T) -> f64) -> Option<Summary> {
        let (of, to) = (self.figures(of, &figure), self.figures(to, &figure));
        let ratios = of.iter().zip(&to).map(|(of, to)| Some((*of)? / (*to)?));
        Summary::of(&ratios.collect::<Figures>())
    }

    /// The one of these with the smallest median.
    pub(crate) fn best(&self, among: &[Kind], figure: impl Fn(&T) -> f64) -> Option<Kind> {
        let medians = among.iter().filter_map(|kind| Some((*kind, self.summary(*kind, &figure)?.median)));
        medians.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(kind, _)| kind)
    }
}

impl Summary {
    pub(crate) fn of(figures: &[Option<f64>]) -> Option<Self> {
        let values: Vec<f64> = figures.iter().flatten().copied().filter(|value| value.is_finite()).collect();
        let min = values.iter().copied().reduce(f64::min)?;
        let max = values.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(&values), min, max })
    }

    /// Smallest and largest, with three digits that count.
    pub(crate) fn spread(&self) -> String {
        format!("{}-{}", digits(self.min), digits(self.max))
    }
}

/// A number with as many decimals as it deserves.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Ebb, Haproxy, Nginx};

    fn series(turns: &[(Kind, &[Option<f64>])]) -> Series<f64> {
        let mut series = Series::new(&turns.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
        for (kind, turns) in turns {
            turns.iter().for_each(|turn| series.push(*kind, *turn));
        }
        series
    }

    #[test]
    fn everybody_begins_a_round_and_has_one_turn_in_each() {
        let kinds = [Ebb, Nginx, Haproxy];
        let rounds: Vec<_> = (0..4).map(|round| Series::<f64>::order(&kinds, round)).collect();
        assert_eq!(rounds[0], [Ebb, Nginx, Haproxy]);
        assert_eq!(rounds[1], [Nginx, Haproxy, Ebb]);
        assert_eq!(rounds[2], [Haproxy, Ebb, Nginx]);
        assert_eq!(rounds[3], rounds[0]);
        assert!(Series::<f64>::order(&[], 3).is_empty());
    }

    #[test]
    fn ratios_are_between_turns_of_one_round() {
        // The machine was three times as slow in the second round, which no ratio shows.
        let series = series(&[
            (Ebb, &[Some(1.0), Some(3.0), None, Some(1.5)]),
            (Nginx, &[Some(2.0), Some(6.0), Some(1.0), Some(2.0)]),
        ]);
        let ratio = series.ratio(Ebb, Nginx, |turn| *turn).unwrap();
        assert_eq!(ratio, Summary { median: 0.5, min: 0.5, max: 0.75 });
        assert_eq!(series.ratio(Ebb, Haproxy, |turn| *turn), None);
        assert_eq!(ratio.spread(), "0.50-0.75");
    }

    #[test]
    fn the_best_has_the_smallest_median_of_those_that_have_one() {
        let series =
            series(&[(Nginx, &[Some(2.0), Some(2.0), Some(9.0)]), (Haproxy, &[Some(3.0)]), (Ebb, &[None])]);
        assert_eq!(series.best(&[Haproxy, Nginx, Ebb], |turn| *turn), Some(Nginx));
        assert_eq!(series.best(&[Ebb], |turn| *turn), None);
        assert_eq!(series.kinds(), [Nginx, Haproxy]);
    }

    #[test]
    fn numbers_have_three_digits_or_so() {
        assert_eq!([0.1234, 9.876, 12.34, 1234.5].map(digits), ["0.12", "9.88", "12.3", "1234"]);
    }
}
