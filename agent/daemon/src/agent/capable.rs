//! Workloads that hold CAP_NET_RAW: with it a process makes packets that no hook would see if the warden were not there.
//!
//! The permitted set of each thread counts, in which its effective one always is. The bounding set does not: outside of
//! containers everybody has it whole, and what it lets a setuid binary gain is seen as soon as it runs.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use callgate_enroll::cgroup;
use callgate_model::Workload;

use super::Agent;
use crate::config::Answer;

/// The capability's bit. Source: uapi/linux/capability.h.
const CAP_NET_RAW: u64 = 1 << 13;

/// What to do about it.
const DROP_IT: &str = "drop it (Kubernetes: `capabilities: { drop: [NET_RAW] }`; Docker: `--cap-drop NET_RAW`; systemd: \
                       `CapabilityBoundingSet=~CAP_NET_RAW`)";

impl Agent {
    /// Refuses a cgroup whose processes hold the capability, where the configuration says so.
    ///
    /// # Errors
    /// Names the first of them, and what to do.
    pub(super) fn refuse_net_raw(&self, path: &Path) -> Result<()> {
        if self.config.net_raw == Answer::Report {
            return Ok(());
        }
        let holders = holders(path);
        if let Some(first) = holders.first() {
            let processes = processes(holders.len());
            bail!(
                "`net_raw` is \"refuse\": {processes} of `{}` hold CAP_NET_RAW (pid {first}): {DROP_IT}",
                path.display()
            );
        }
        Ok(())
    }

    /// Alarms about workloads that hold it, and no more about those that do not.
    pub(super) fn look_for_net_raw(&self) {
        let Ok(mount) = cgroup::cgroup2_mount() else { return };
        for workload in self.gate.roster.list().iter() {
            let holders = holders(&mount.join(&workload.cgroup_path));
            match holders.first() {
                Some(_) => {
                    let text = format!("processes of `{}` hold CAP_NET_RAW: {DROP_IT}", workload.id);
                    self.alarm(&cause(workload), &text);
                }
                None => self.calm(&cause(workload)),
            }
        }
    }

    pub(super) fn calm_about_net_raw(&self, workload: &Workload) {
        self.calm(&cause(workload));
    }
}

fn cause(workload: &Workload) -> String {
    format!("CAP_NET_RAW of {}", workload.id)
}

fn processes(count: usize) -> String {
    if count == 1 { "a process".into() } else { format!("{count} processes") }
}

/// Processes below `path` of which a thread holds it; those that are gone meanwhile are none.
fn holders(path: &Path) -> Vec<u32> {
    let holds = |pid: &u32| {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
            .any(|status| permits(&status))
    };
    cgroup::processes(path).unwrap_or_default().into_iter().filter(holds).collect()
}

fn permits(status: &str) -> bool {
    let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    permitted.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & CAP_NET_RAW != 0)
}

#[cfg(test)]
mod tests {
    use super::permits;

    #[test]
    fn reads_the_permitted_set() {
        let status =
            |set: &str| format!("Name:\tx\nCapInh:\tffffffffffffffff\nCapPrm:\t{set}\nCapBnd:\tffffffffffffffff\n");
        assert!(permits(&status("000001ffffffffff")) && permits(&status("0000000000002000")));
        assert!(!permits(&status("0000000000000000")) && !permits(&status("00000000a80405fb")) && !permits(""));
        assert!(permits(&status("00000000a80425fb")), "Docker's default");
    }
}
