//! When a process started, and when a connect happened, on one scale: clock ticks since boot.
//!
//! The kernel stamps a connect with `CLOCK_MONOTONIC`, which stands still while the machine is suspended, and counts
//! a process's start in `CLOCK_BOOTTIME`, which does not. The difference of both clocks joins them.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

use callgate_model::Monotonic;
use rustix::fs::{Mode, OFlags, openat};
use rustix::time::{ClockId, clock_gettime};

/// Clock ticks in a second, as `/proc` counts them. Source: USER_HZ, 100 on every architecture that we build for.
const TICKS: u128 = 100;

/// Longest `stat` file. Unit: bytes. Source: 52 numbers of at most 20 digits, and a name of 64.
const STAT_MAX: u64 = 4096;

/// Start of the process whose `/proc` directory is `dir`, in ticks since boot.
pub(super) fn start_time(dir: &OwnedFd) -> Option<u64> {
    let file = openat(dir, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(file).take(STAT_MAX).read_to_end(&mut text).ok()?;
    parse(&text)
}

/// Field 22. The second field is the command's name in parentheses and may itself hold spaces and parentheses.
fn parse(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|b| *b == b')')? + 1;
    let rest = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// The tick in which `at` fell.
///
/// Exact unless the machine was suspended between `at` and now: then it is late by that time.
pub(super) fn ticks_since_boot(at: Monotonic) -> u64 {
    // Read in this order, the difference is never too small, and too large by well under a microsecond.
    let monotonic = read(ClockId::Monotonic);
    let boot = read(ClockId::Boottime);
    ticks(at.0 + boot.saturating_sub(monotonic))
}

/// A time since boot as `/proc` counts it.
pub(super) fn ticks(since_boot: Duration) -> u64 {
    u64::try_from(since_boot.as_nanos() * TICKS / 1_000_000_000).unwrap_or(u64::MAX)
}

pub(super) fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_field_22_behind_a_hostile_name() {
        let stat = b"7 (x) S 1 (y) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21\n";
        assert_eq!(parse(stat), Some(4242));
        assert_eq!(parse(b"7 (x"), None);
        assert_eq!(parse(b"7 (x) S 1 2 3"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn counts_on_the_scale_of_boot_time() {
        let boot_ticks = |d: Duration| d.as_millis() / 10;
        let before = boot_ticks(read(ClockId::Boottime));
        let now = u128::from(ticks_since_boot(Monotonic(read(ClockId::Monotonic))));
        let after = boot_ticks(read(ClockId::Boottime));
        assert!((before..=after + 1).contains(&now), "{before} {now} {after}");
    }
}
