//! The table on the terminal: a line for each vector and way, as it comes, and a count at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Row;
use super::outcome::Verdict;

/// One line.
pub fn line(row: &Row) -> String {
    let mut text = format!("{:24} {:11} {:3} {}", row.vector, row.way.name(), row.family.name(), row.shown());
    if row.verdict == Verdict::Delegated {
        let _infallible = write!(text, " after {:.1} s", row.latency_us as f64 / 1e6);
    } else if row.verdict != Verdict::NotHere {
        let _infallible = write!(text, " ({} µs)", row.latency_us);
    }
    if !row.phase.is_empty() {
        let _infallible = write!(text, " [{}]", row.phase);
    }
    text
}

/// How many came to what, and what fails.
pub fn summary(rows: &[Row]) -> String {
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(row.verdict).or_default() += 1;
    }
    let vectors: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.vector.as_str()).collect();
    let counted: Vec<String> = counts.iter().map(|(verdict, count)| format!("{count} {}", verdict.name())).collect();
    let mut text = format!("\n{} vectors in {} lines: {}\n", vectors.len(), rows.len(), counted.join(", "));
    for row in rows.iter().filter(|row| row.fails()) {
        let _infallible = writeln!(text, "FAILS: {}", line(row));
    }
    text
}
