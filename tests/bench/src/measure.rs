//! Measures one row: every way in turn, round by round, so that what else the machine does meets all alike.

use std::time::Duration;

use anyhow::Result;
use callgate_harness::load::Latencies;
use serde::Serialize;

use crate::ground::Ground;
use crate::process;
use crate::rows::{Row, Way};

/// How much is measured.
pub struct Extent {
    /// Rounds of each way.
    pub rounds: usize,
    /// Length of a round that is bound by time.
    pub time: Duration,
    /// A round that is bound by a count makes one in this many.
    pub share: u64,
}

/// The middle of several rounds, and the ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// What one way gave.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub way: Way,
    pub per_second: Spread,
    /// Requests each second over those of the direct way in the same round.
    pub ratio: Spread,
    /// Of all rounds together.
    #[serde(skip)]
    pub latencies: Latencies,
    /// p50, p90, p99, p99.9 and the longest. Unit: microseconds.
    pub percentiles_us: [u64; 5],
    /// CPU time of the process in between for 10,000 calls. Unit: seconds.
    pub cpu_s: Option<Spread>,
    /// The same for a GiB of bodies.
    pub cpu_s_per_gib: Option<Spread>,
    /// Highest resident memory of the process in between, in any round. Unit: MiB.
    pub peak_mib: Option<f64>,
}

/// What one row gave.
#[derive(Serialize)]
pub struct Measured {
    pub name: &'static str,
    #[serde(skip)]
    pub row: &'static Row,
    pub ways: Vec<Figures>,
}

/// What one round of one way gave.
struct Round {
    per_second: f64,
    cpu_s: f64,
    calls: f64,
    gib: f64,
    peak_mib: f64,
}

/// Measures `row` on every way.
pub fn row(ground: &mut Ground, row: &'static Row, extent: &Extent) -> Result<Measured> {
    let mut rounds: [Vec<Round>; 3] = Default::default();
    let mut latencies: [Latencies; 3] = Default::default();
    for _ in 0..extent.rounds {
        for ((way, rounds), latencies) in Way::ALL.into_iter().zip(&mut rounds).zip(&mut latencies) {
            rounds.push(round(ground, row, way, extent, latencies)?);
        }
    }
    let [direct, ..] = &rounds;
    let ways = Way::ALL.into_iter().zip(&rounds).zip(latencies).map(|((way, rounds), latencies)| {
        let between = ground.between(way).is_some();
        let per = |value: fn(&Round) -> f64| between.then(|| Spread::of(rounds.iter().map(value)));
        Figures {
            way,
            per_second: Spread::of(rounds.iter().map(|round| round.per_second)),
            ratio: Spread::of(rounds.iter().zip(direct).map(|(round, direct)| round.per_second / direct.per_second)),
            percentiles_us: [0.5, 0.9, 0.99, 0.999, 1.0].map(|share| latencies.within(share)),
            latencies,
            cpu_s: per(|round| round.cpu_s / round.calls * 10_000.0),
            cpu_s_per_gib: row.is_download().then(|| per(|round| round.cpu_s / round.gib)).flatten(),
            peak_mib: between.then(|| rounds.iter().map(|round| round.peak_mib).fold(0.0, f64::max)),
        }
    });
    Ok(Measured { name: row.name, row, ways: ways.collect() })
}

fn round(ground: &Ground, row: &Row, way: Way, extent: &Extent, latencies: &mut Latencies) -> Result<Round> {
    let between = ground.between(way);
    let mut before = 0.0;
    let report = ground.load(row, way, extent, || {
        if let Some(pid) = between {
            process::forget_peak(pid)?;
            before = process::cpu_seconds(pid)?;
        }
        Ok(())
    })?;
    let (cpu_s, peak_mib) = match between {
        Some(pid) => (process::cpu_seconds(pid)? - before, process::peak_mib(pid)?),
        None => (0.0, 0.0),
    };
    latencies.add(&report.latencies);
    let gib = report.body_bytes as f64 / f64::from(1 << 30);
    Ok(Round { per_second: report.per_second, cpu_s, calls: report.calls as f64, gib, peak_mib })
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Spread { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        let spread = Spread::of([3.0, 1.0, 10.0].into_iter());
        assert_eq!(spread, Spread { median: 3.0, min: 1.0, max: 10.0 });
    }
}
