//! Markdown tables, and the few numbers in them.

use std::fmt;

/// A table in Markdown, its columns padded for those who read the source.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head.
    #[must_use]
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(ToString::to_string).collect()] }
    }

    /// Whether it has no row but its head.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &'_ Vec<String>, i: usize| row.get(i).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|i| self.rows.iter().map(|row| cell(row, i).chars().count()).max().unwrap_or(0).max(3))
            .collect();
        for (n, row) in self.rows.iter().enumerate() {
            for (i, width) in widths.iter().enumerate() {
                // Names to the left, numbers to the right.
                if i == 0 {
                    write!(f, "| {:<width$} |", cell(row, i))?;
                } else {
                    write!(f, " {:>width$} |", cell(row, i))?;
                }
            }
            writeln!(f)?;
            if n == 0 {
                for (i, width) in widths.iter().enumerate() {
                    let line = "-".repeat(width + 1);
                    write!(f, "{}", if i == 0 { format!("|{line}-|") } else { format!("{line}:|") })?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// The value in the middle; between the two in the middle when their number is even. NaN when there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The smallest and the largest value, like `28-73`, or one number when they are the same.
#[must_use]
pub fn range(values: impl IntoIterator<Item = u64>) -> String {
    let values: Vec<u64> = values.into_iter().collect();
    match (values.iter().min(), values.iter().max()) {
        (Some(min), Some(max)) if min == max => min.to_string(),
        (Some(min), Some(max)) => format!("{min}-{max}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_markdown() {
        let mut table = Table::new(&["proxy", "lost"]);
        table.row(vec!["nginx".to_owned(), "12345".to_owned()]);
        table.row(vec!["ebb".to_owned(), "0".to_owned()]);
        assert_eq!(
            table.to_string(),
            "| proxy |  lost |\n|-------|------:|\n| nginx | 12345 |\n| ebb   |     0 |\n"
        );
    }

    #[test]
    fn medians_and_ranges() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
        assert_eq!((range([3, 1, 2]), range([0, 0]), range([])), ("1-3".into(), "0".into(), "-".into()));
    }
}
