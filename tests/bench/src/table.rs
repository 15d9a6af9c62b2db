//! The figures as text that can stand in a page: Markdown tables with aligned columns.

use std::fmt::Write as _;

use crate::connect::Connects;
use crate::machine::Machine;
use crate::marks;
use crate::measure::{Extent, Figures, Measured, Spread};
use crate::rows::Way;

const CALLS: [&str; 11] = [
    "load",
    "way",
    "requests/s (min..max)",
    "ratio to direct",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "p99.9 ms",
    "CPU s per 10,000 calls",
    "peak MiB",
    "mark",
];

const CONNECTS: [&str; 6] =
    ["connect()", "least µs (min..max)", "p50 µs (min..max)", "p99 µs (min..max)", "p50 over none", "least to none"];

/// Everything, with what it was measured on.
pub fn text(machine: &Machine, extent: &Extent, rows: &[Measured], connects: &[Connects]) -> String {
    let mut text = String::new();
    let built = if machine.debug { "dev profile" } else { "release" };
    let _ = writeln!(
        text,
        "{}; {} cores, kernel {}; {built}; load average {} before and {} at the end, {:.0} s stolen.\n\
         Median of {} interleaved rounds; percentiles of all rounds together; CPU and memory of the process in between.\n",
        machine.date, machine.cores, machine.kernel, machine.load.0, machine.load.1, machine.stolen_s, extent.rounds,
    );
    if !rows.is_empty() {
        let lines = rows.iter().flat_map(|row| row.ways.iter().map(|figures| calls(row, figures)));
        text.push_str(&aligned(&CALLS, &lines.collect::<Vec<_>>()));
        text.push('\n');
    }
    if let Some(none) = connects.first() {
        let lines = connects.iter().map(|row| {
            let over = format!("{:+.1} µs", (row.p50_ns.median - none.p50_ns.median) / 1000.0);
            let least = format!("{:.2}", row.least_ns.min / none.least_ns.min);
            vec![row.hooks.name().to_owned(), micros(row.least_ns), micros(row.p50_ns), micros(row.p99_ns), over, least]
        });
        text.push_str(&aligned(&CONNECTS, &lines.collect::<Vec<_>>()));
    }
    text
}

fn calls(row: &Measured, figures: &Figures) -> Vec<String> {
    let [p50, p90, p99, p99_9, _longest] = figures.percentiles_us.map(|us| format!("{:.2}", us as f64 / 1000.0));
    let per_second = figures.per_second;
    let digits = if per_second.median < 100.0 { 1 } else { 0 };
    let cpu = match (figures.cpu_s_per_gib, figures.cpu_s) {
        (Some(per_gib), _) => format!("{} per GiB", spread(per_gib, 2)),
        (None, Some(cpu)) => spread(cpu, 2),
        (None, None) => String::new(),
    };
    let verdict = match row.ways.first() {
        Some(direct) if figures.way == Way::Gate => marks::verdict(row.row.mark, direct, figures),
        _ => String::new(),
    };
    vec![
        row.name.to_owned(),
        figures.way.name().to_owned(),
        spread(per_second, digits),
        if figures.way == Way::Direct { "1".to_owned() } else { spread(figures.ratio, 2) },
        p50,
        p90,
        p99,
        p99_9,
        cpu,
        figures.peak_mib.map_or_else(String::new, |mib| format!("{mib:.0}")),
        verdict,
    ]
}

fn spread(value: Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}..{:.digits$})", value.median, value.min, value.max)
}

fn micros(ns: Spread) -> String {
    spread(Spread { median: ns.median / 1000.0, min: ns.min / 1000.0, max: ns.max / 1000.0 }, 1)
}

fn aligned(head: &[&str], lines: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count());
            cells.chain([head[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let row = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = row(&mut head.iter().copied());
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    text.push_str(&row(&mut rules.iter().map(String::as_str)));
    for line in lines {
        text.push_str(&row(&mut line.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [vec!["a".to_owned(), "µ".to_owned()], vec!["long".to_owned(), String::new()]];
        let text = aligned(&["x", "yy"], &lines);
        assert_eq!(text, "| x    | yy |\n| ---- | -- |\n| a    | µ  |\n| long |    |\n");
    }
}
