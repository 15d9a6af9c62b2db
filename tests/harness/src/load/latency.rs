//! How long calls took: counts in buckets whose width grows with the value, so that any number of calls fits.
//!
//! As in an HDR histogram: 128 buckets for each power of two, so a percentile is at most 1 in 128 too high.
//! Several runs are added up before percentiles are read: a median of percentiles would hide the worst run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets for each power of two, as a power of two.
const BITS: u32 = 7;

/// Latencies of any number of calls. Unit: microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// Calls by the number of their bucket.
    counts: BTreeMap<u32, u64>,
    /// The shortest, exactly.
    min_us: u64,
    /// The longest, exactly.
    max_us: u64,
}

impl Latencies {
    /// Counts one call.
    pub fn record(&mut self, us: u64) {
        self.min_us = if self.counts.is_empty() { us } else { self.min_us.min(us) };
        self.max_us = self.max_us.max(us);
        *self.counts.entry(bucket(us)).or_default() += 1;
    }

    /// Adds the calls of another run.
    pub fn add(&mut self, other: &Latencies) {
        if other.counts.is_empty() {
            return;
        }
        self.min_us = if self.counts.is_empty() { other.min_us } else { self.min_us.min(other.min_us) };
        self.max_us = self.max_us.max(other.max_us);
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_default() += count;
        }
    }

    /// How many calls were counted.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The shortest; 0 without calls.
    pub fn min_us(&self) -> u64 {
        self.min_us
    }

    /// The longest; 0 without calls.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// The time within which this share of the calls (0.99 for p99) was done; 0 without calls.
    pub fn within(&self, share: f64) -> u64 {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += count;
            if seen >= wanted {
                return highest(*bucket).clamp(self.min_us, self.max_us);
            }
        }
        self.max_us
    }

    /// Calls that took at least `from_us` and less than `to_us`, to the width of a bucket.
    pub fn between(&self, from_us: u64, to_us: u64) -> u64 {
        self.counts.range(bucket(from_us)..bucket(to_us)).map(|(_, count)| count).sum()
    }
}

fn bucket(us: u64) -> u32 {
    let shift = us.max(1).ilog2().saturating_sub(BITS);
    // Below 2^(BITS+1) each value has a bucket of its own.
    (shift << BITS) + (us >> shift) as u32
}

/// The largest value of a bucket.
fn highest(bucket: u32) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    (u64::from(bucket - (shift << BITS)) << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for us in (0..10_000).chain((0..40).map(|n| (1 << 20) + n * 77_777)) {
            let number = bucket(us);
            assert!(number >= last, "{us}");
            assert!(highest(number) >= us && highest(number) - us <= us / 128, "{us}: {}", highest(number));
            last = number;
        }
    }

    #[test]
    fn percentiles_of_known_values() {
        let mut all = Latencies::default();
        for us in 1..=1000 {
            all.record(us);
        }
        assert_eq!((all.count(), all.min_us(), all.max_us()), (1000, 1, 1000));
        for (share, exact) in [(0.5, 500), (0.9, 900), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            let seen = all.within(share);
            assert!((exact..=exact + exact / 128 + 1).contains(&seen), "{share}: {seen}");
        }
    }

    #[test]
    fn two_runs_added_are_one_run() {
        let (mut both, mut first, mut second) = (Latencies::default(), Latencies::default(), Latencies::default());
        for us in 0..5000 {
            both.record(us * 3);
            if us % 2 == 0 { first.record(us * 3) } else { second.record(us * 3) }
        }
        first.add(&second);
        assert_eq!(first, both);
        first.add(&Latencies::default());
        assert_eq!(first, both);
    }

    #[test]
    fn a_step_is_counted_where_it_is() {
        let mut calls = Latencies::default();
        for us in [300, 39_000, 40_500, 44_000, 90_000] {
            calls.record(us);
        }
        assert_eq!(calls.between(38_000, 46_000), 3);
        assert_eq!(calls.between(46_000, 90_000), 0);
    }
}
