//! What a process costs: its processor time and its memory, as the kernel counts them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks of `/proc/PID/stat` in a second. Source: `USER_HZ`, 100 on every architecture that we run on.
const TICKS: u64 = 100;

/// What a process used so far.
pub struct Used {
    /// Processor time, of user and system.
    pub cpu: Duration,
    /// Memory that it has now. Unit: bytes.
    pub resident: u64,
    /// Most memory that it had. Unit: bytes.
    pub peak: u64,
}

impl Used {
    /// Reads it.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(process.join("stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("a name")?.1.split_whitespace().collect();
        // The fields after the name begin with the third (proc_pid_stat(5)): utime is the 14th, stime the 15th.
        let ticks =
            fields.get(11..13).context("times")?.iter().map(|ticks| ticks.parse::<u64>()).sum::<Result<u64, _>>()?;
        let status = std::fs::read_to_string(process.join("status"))?;
        let bytes = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
        };
        let cpu = Duration::from_millis(ticks * 1000 / TICKS);
        Ok(Self { cpu, resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }

    /// The same, with the peak begun anew.
    ///
    /// # Errors
    /// As [`Used::of`].
    pub fn afresh(pid: u32) -> Result<Self> {
        // 5 resets the peak (proc_pid_clear_refs(5)).
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        Self::of(pid)
    }
}
