//! How often a long test repeats: `tests/counts.toml`, one line a test, short and full.
//!
//! Full counts are asked for by `CALLGATE_FULL=1`, which `cargo xtask test --full` sets.
//! Property tests need no entry: xtask sets `PROPTEST_CASES` from the same file.

use std::collections::BTreeMap;

/// The file, compiled in: a test binary may run anywhere.
const COUNTS: &str = include_str!("../../counts.toml");

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    short: u64,
    full: u64,
}

/// The count called `name`: its `full` value when `CALLGATE_FULL=1`, else its `short` one.
///
/// # Panics
/// If `tests/counts.toml` has no such name: a typo must not silently test nothing.
pub fn count(name: &str) -> u64 {
    let counts: BTreeMap<String, Count> = toml::from_str(COUNTS).expect("tests/counts.toml is valid");
    let count = counts.get(name).unwrap_or_else(|| panic!("tests/counts.toml has no `{name}`"));
    if is_full() { count.full } else { count.short }
}

/// Whether this run was asked for the full counts.
pub fn is_full() -> bool {
    std::env::var_os("CALLGATE_FULL").is_some_and(|value| value == "1")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_count_is_longer_in_full() {
        let counts: super::BTreeMap<String, super::Count> = toml::from_str(super::COUNTS).unwrap();
        assert!(counts.values().all(|count| 0 < count.short && count.short <= count.full));
    }
}
