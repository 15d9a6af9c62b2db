//! What another process uses: CPU time and memory, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result, ensure};

/// User and system time so far. Unit: seconds, in steps of a hundredth (USER_HZ).
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(ticks(&stat)? as f64 / 100.0)
}

/// Forgets the highest memory use so far.
pub fn forget_peak(pid: u32) -> Result<()> {
    // 5: resets the peak of the resident set (proc_pid_clear_refs(5)).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("reset the peak of the memory use")
}

/// Highest resident memory since [`forget_peak`]. Unit: MiB.
pub fn peak_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/PID/status")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn ticks(stat: &str) -> Result<u64> {
    // The name in parentheses may hold anything.
    let fields = stat.rsplit_once(')').context("unexpected /proc/PID/stat")?.1;
    let times: Vec<u64> = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(times.len() == 2, "unexpected /proc/PID/stat");
    Ok(times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_times_behind_a_name_with_a_parenthesis() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 100 1 1";
        assert_eq!(ticks(stat).unwrap(), 168);
        assert!(ticks("7 (a) S 1").is_err());
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        assert!(peak_mib(pid).unwrap() > 0.1);
        let before = cpu_seconds(pid).unwrap();
        while cpu_seconds(pid).unwrap() <= before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
    }
}
