//! The literals of the table: one search for all of them, and a quick answer whether the bytes at hand end in one.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::bits;
use crate::detectors::{DETECTORS, Detector};

/// How many bytes of a literal are looked at before it is compared. Source: ours; three tell all but a few apart.
const BEGINNING: usize = 3;

/// Every literal of the table, and which rows each may open. Compiled once per process: a constant in all but the
/// language's eyes.
pub(super) static LITERALS: LazyLock<Option<Literals>> = LazyLock::new(|| {
    let texts: Vec<&str> = DETECTORS.iter().flat_map(|detector| detector.gate.literals).copied().collect();
    let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(&texts).ok()?;
    // Where one literal begins another the search tells of one only: the rows of both are asked.
    let related = |one: &str, other: &str| one.starts_with(other) || other.starts_with(one);
    let rows = texts.iter().map(|text| {
        let wants = |detector: &&Detector| detector.gate.literals.iter().any(|literal| related(literal, text));
        DETECTORS.iter().filter(wants).fold(0, |rows, detector| rows | detector.kind().0)
    });
    let mut beginning = Box::new([[0; 256]; BEGINNING]);
    for (at, text) in texts.iter().enumerate() {
        for (place, byte) in beginning.iter_mut().zip(text.bytes()) {
            *place.get_mut(usize::from(byte))? |= 1_u64.checked_shl(u32::try_from(at).ok()?)?;
        }
    }
    Some(Literals { rows: rows.collect(), search, beginning, texts })
});

pub(super) struct Literals {
    search: AhoCorasick,
    /// Per literal: the rows, as bits.
    rows: Vec<u64>,
    /// Per place and byte: the literals that have it there, as bits.
    beginning: Box<[[u64; 256]; BEGINNING]>,
    texts: Vec<&'static str>,
}

impl Literals {
    /// Where the first literal at `from` or later stands, and the rows that it may open.
    pub(super) fn next(&self, bytes: &[u8], from: usize) -> Option<(usize, u64)> {
        let found = self.search.find(bytes.get(from..)?)?;
        Some((from + found.start(), *self.rows.get(found.pattern().as_usize())?))
    }

    /// Whether `end` begins a literal of one of the rows `kinds`, and does not hold all of it.
    pub(super) fn is_unfinished(&self, kinds: u64, end: &[u8]) -> bool {
        let begun =
            self.beginning.iter().zip(end).fold(u64::MAX, |begun, (place, byte)| {
                begun & place.get(usize::from(*byte)).copied().unwrap_or_default()
            });
        begun != 0
            && bits(begun).any(|at| {
                let wanted = self.rows.get(at).is_some_and(|rows| rows & kinds != 0);
                let text = self.texts.get(at).copied().unwrap_or_default();
                wanted && text.len() > end.len() && text.as_bytes().starts_with(end)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beyond 64 literals the search is a much slower one.
    #[test]
    fn literals_are_few_enough_for_the_fast_search() {
        let literals = DETECTORS.iter().flat_map(|detector| detector.gate.literals);
        assert!(literals.clone().count() <= 64, "{}", literals.count());
    }
}
