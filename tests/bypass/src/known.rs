//! What is known to get through, why, and what will close it. Anything else that gets through fails the exam.

use crate::vector::Way;

/// One known hole; a row that no longer gets through is told, so that it is taken out.
#[derive(Debug)]
pub struct Known {
    /// Names of vectors; a `*` at the end stands for any end.
    pub vectors: &'static [&'static str],
    /// As whom; empty: anybody.
    pub ways: &'static [Way],
    /// Why it gets through.
    pub why: &'static str,
    /// What will close it, or why it stays.
    pub closed_by: &'static str,
}

/// All of them.
pub const KNOWN: &[Known] = &[];

/// The row for `vector`, tried this way.
pub fn known(vector: &str, way: Way) -> Option<&'static Known> {
    let names = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => vector.starts_with(start),
        None => vector == pattern,
    };
    KNOWN
        .iter()
        .find(|row| row.vectors.iter().any(|name| names(name)) && (row.ways.is_empty() || row.ways.contains(&way)))
}
