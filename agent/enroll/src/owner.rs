//! The process that an enrolment belongs to, told apart from any later one with the same id.

use std::fs;

use serde::{Deserialize, Serialize};

/// A process, by id, start and boot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Start of the process, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
    /// The boot that `start_time` counts from (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
}

impl Owner {
    /// This process.
    #[must_use]
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { pid, start_time: start_time(pid).unwrap_or(0), boot: boot_id() }
    }

    /// Whether that very process still lives. A zombie counts as alive until it is reaped.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.boot == boot_id() && start_time(self.pid) == Some(self.start_time)
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too: count from its end.
    let after_name = stat.iter().rposition(|b| *b == b')')? + 1;
    std::str::from_utf8(stat.get(after_name..)?).ok()?.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_process_from_its_successor() {
        let this = Owner::this_process();
        assert!(this.start_time > 0 && this.is_alive());
        assert!(!Owner { start_time: this.start_time + 1, ..this.clone() }.is_alive());
        assert!(!Owner { boot: "another".into(), ..this.clone() }.is_alive());
        assert!(!Owner { pid: u32::MAX, ..this }.is_alive());
    }
}
