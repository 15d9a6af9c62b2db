//! What the figures are held against, and whether they reach it.
//!
//! Source of the marks: on a machine of 2 cores with kernel 6.18, h1 keep-alive through a bare relay of bytes makes 0.43
//! of the direct requests/s, through hyper and rustls with nothing on top 0.34.

use callgate_harness::load::Latencies;

use crate::measure::{Figures, Spread};

/// A mark of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// Requests each second over those of the direct way: at least this; and what to aim for.
    Ratio { mark: f64, aim: f64 },
    /// CPU time of the gate for each GiB: at most this. Unit: seconds.
    CpuPerGib(f64),
}

pub const KEEP_ALIVE: Mark = Mark::Ratio { mark: 0.24, aim: 0.30 };
pub const GRPC: Mark = Mark::Ratio { mark: 0.38, aim: 0.45 };
pub const DOWNLOAD: Mark = Mark::CpuPerGib(1.4);

/// Where calls pile up when one side waits for an acknowledgement that the other delays. Unit: microseconds.
/// Source: Linux delays it by 40 ms (TCP_DELACK_MIN), and by up to a tick of 4 ms more.
const DELAYED: (u64, u64) = (39_000, 45_000);

/// As wide as [`DELAYED`], before and behind it.
const BESIDE: [(u64, u64); 2] = [(31_000, 37_000), (47_000, 53_000)];

/// Calls in which one that waits 40 ms would be seen in p99.9.
const SEEN_IN: u64 = 1000;

/// Median above which 40 ms are nothing special. Unit: microseconds.
const SLOW: u64 = 20_000;

/// The fastest round of the direct way over its slowest, above which a ratio to it says nothing.
/// Source: on a quiet machine rounds of 3 s differ by less than a tenth.
const NOISY: f64 = 1.5;

/// What is to be said of the gate's figures, in the last column.
pub fn verdict(mark: Option<Mark>, direct: &Figures, gate: &Figures) -> String {
    let mut said = Vec::new();
    match mark {
        Some(Mark::Ratio { .. }) if is_noisy(direct.per_second) => {
            said.push("not judged: the machine was not quiet".to_owned());
        }
        Some(Mark::Ratio { mark, aim }) => said.push(at_least(gate.ratio.median, mark, aim)),
        Some(Mark::CpuPerGib(most)) => {
            said.push(gate.cpu_s_per_gib.map_or_else(String::new, |spent| at_most(spent.median, most)));
        }
        None => {}
    }
    if let Some(share) = step(&gate.latencies) {
        said.push(format!("40 ms step: {:.2} % of the calls", share * 100.0));
    }
    said.join("; ")
}

fn is_noisy(direct: Spread) -> bool {
    direct.max > direct.min * NOISY
}

fn at_least(seen: f64, mark: f64, aim: f64) -> String {
    if seen >= aim {
        return format!("aim {aim:.2} reached");
    }
    if seen >= mark {
        return format!("{mark:.2} met; {:.2} short of the aim {aim:.2}", aim - seen);
    }
    format!("{:.2} short of {mark:.2}", mark - seen)
}

fn at_most(seen: f64, most: f64) -> String {
    if seen <= most { format!("{most} s/GiB met") } else { format!("{:.2} s/GiB over {most}", seen - most) }
}

/// The share of calls that pile up at 40 ms, if they do.
pub fn step(latencies: &Latencies) -> Option<f64> {
    let all = latencies.count();
    if all == 0 || latencies.within(0.5) > SLOW {
        return None;
    }
    let delayed = latencies.between(DELAYED.0, DELAYED.1);
    let beside = BESIDE.map(|(from, to)| latencies.between(from, to)).into_iter().max().unwrap_or(0);
    (delayed * SEEN_IN >= all && delayed > 3 * beside).then_some(delayed as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_reached_met_or_missed() {
        assert_eq!(at_least(0.31, 0.24, 0.30), "aim 0.30 reached");
        assert_eq!(at_least(0.25, 0.24, 0.30), "0.24 met; 0.05 short of the aim 0.30");
        assert_eq!(at_least(0.20, 0.24, 0.30), "0.04 short of 0.24");
        assert_eq!((at_most(1.4, 1.4), at_most(1.9, 1.4)), ("1.4 s/GiB met".into(), "0.50 s/GiB over 1.4".into()));
    }

    #[test]
    fn nothing_is_judged_on_a_machine_that_is_not_quiet() {
        assert!(is_noisy(Spread { median: 30_000.0, min: 16.0, max: 31_000.0 }));
        assert!(!is_noisy(Spread { median: 30_000.0, min: 29_000.0, max: 31_000.0 }));
    }

    #[test]
    fn a_pile_at_40_ms_is_a_step_and_a_slope_is_none() {
        let mut calls = Latencies::default();
        (0..10_000).for_each(|n| calls.record(200 + n % 300));
        assert_eq!(step(&calls), None);
        let mut slope = calls.clone();
        (0..3000).for_each(|n| slope.record(30_000 + n * 10));
        assert_eq!(step(&slope), None);
        (0..20).for_each(|n| calls.record(40_000 + n * 100));
        assert!(step(&calls).is_some_and(|share| (0.001..0.003).contains(&share)));
    }
}
