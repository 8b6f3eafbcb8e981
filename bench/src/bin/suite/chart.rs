//! The chart: for each figure a group of bars, as multiples of ebb's.

use std::fmt::Write as _;

use ebb_bench::peer::Kind;

use crate::results::Results;
use crate::series::{Series, digits};

const WIDTH: usize = 960;
const COLUMNS: usize = 2;
const BAR: usize = 16;
const TITLE: usize = 22;
const GAP: usize = 14;
/// Where bars begin, behind the names.
const LEFT: usize = 64;
/// How long one is that stands for ebb's own figure, and how many times that fits.
const UNIT: usize = 70;
const MOST: f64 = 4.5;

/// Bars that belong together.
pub(crate) struct Group {
    title: String,
    bars: Vec<(Kind, f64)>,
}

/// All groups of a run.
pub(crate) fn groups(results: &Results) -> Vec<Group> {
    let mut groups = Vec::new();
    for measured in &results.cpu {
        groups.push(group(format!("{}: CPU", measured.workload.title()), &measured.turns, |turn| turn.cost));
    }
    for paced in &results.latency {
        groups.push(group(format!("{}: p99 latency", paced.workload.title()), &paced.turns, |turn| turn.p99));
    }
    let memory = &results.memory;
    groups.push(group("memory at rest".to_owned(), memory, |turn| turn.rest));
    groups.push(group("memory per idle keep-alive connection".to_owned(), memory, |turn| turn.idle));
    groups.push(group("memory per active connection".to_owned(), memory, |turn| turn.active));
    let http2 = |turn: &crate::memory::Turn| turn.http2.unwrap_or(f64::NAN);
    groups.push(group("memory per idle HTTP/2 connection".to_owned(), memory, http2));
    groups.push(group("start to first answer".to_owned(), &results.start, |turn| turn.answers));
    groups.retain(|group| !group.bars.is_empty());
    groups
}

fn group<T>(title: String, turns: &Series<T>, figure: impl Fn(&T) -> f64) -> Group {
    let bar = |kind| Some((kind, turns.ratio(kind, Kind::Ebb, &figure)?.median));
    Group { title, bars: turns.kinds().into_iter().filter_map(bar).collect() }
}

/// The chart as SVG.
pub(crate) fn svg(groups: &[Group]) -> String {
    let (mut body, mut y) = (String::new(), 40);
    for row in groups.chunks(COLUMNS) {
        for (column, group) in row.iter().enumerate() {
            draw(&mut body, group, 10 + column * (WIDTH / COLUMNS), y);
        }
        let bars = row.iter().map(|group| group.bars.len()).max().unwrap_or(0);
        y += TITLE + bars * BAR + GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\" fill=\"#222\">Times ebb, less is better (medians)</text>\n\
         {body}</svg>\n"
    )
}

fn draw(body: &mut String, group: &Group, x: usize, y: usize) {
    let title = escaped(&group.title);
    let _ =
        writeln!(body, "<text x=\"{x}\" y=\"{}\" font-weight=\"bold\" fill=\"#222\">{title}</text>", y + 14);
    for (n, (kind, value)) in group.bars.iter().enumerate() {
        let (top, bar) = (y + TITLE + n * BAR, x + LEFT);
        let length = (value.clamp(0.0, MOST) * UNIT as f64) as usize;
        // A bar that would be longer is open at its end.
        let more = if *value > MOST { " \u{2192}" } else { "" };
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#222\">{}</text>\
             <rect x=\"{bar}\" y=\"{top}\" width=\"{length}\" height=\"{}\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"#222\">{}{more}</text>",
            bar - 6,
            top + 11,
            escaped(kind.name()),
            BAR - 3,
            colour(*kind),
            bar + length + 5,
            top + 11,
            digits(*value)
        );
    }
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Ebb => "#1f6f8b",
        Kind::Ebb2 => "#5fb0c9",
        Kind::Relay => "#c9c9c9",
        _ => "#8d99ae",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_is_well_formed_and_has_every_bar() {
        let bars = |values: &[f64]| Kind::ALL.into_iter().zip(values.iter().copied()).collect();
        let groups = [
            Group { title: "CPU & <memory>".to_owned(), bars: bars(&[1.0, 0.5, 0.0, 99.0, 4.49]) },
            Group { title: "second".to_owned(), bars: bars(&[1.0]) },
            Group { title: "third".to_owned(), bars: bars(&[1.0, 2.0]) },
        ];
        let text = svg(&groups);
        let chart = roxmltree::Document::parse(&text).unwrap();
        let rects = chart.descendants().filter(|node| node.has_tag_name("rect")).skip(1);
        let attribute =
            |node: roxmltree::Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<usize>();
        let right: Vec<usize> =
            rects.map(|node| attribute(node, "x").unwrap() + attribute(node, "width").unwrap()).collect();
        assert_eq!(right.len(), 8);
        assert!(right.iter().all(|right| *right < WIDTH), "{right:?}");
        let texts: Vec<&str> = chart.descendants().filter_map(|node| node.text()).collect();
        assert!(texts.contains(&"CPU & <memory>") && texts.contains(&"99.0 \u{2192}"), "{texts:?}");
        roxmltree::Document::parse(&svg(&[])).unwrap();
    }
}
