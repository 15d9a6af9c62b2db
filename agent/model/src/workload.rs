//! Who calls: the enrolled cgroup, and the process in it that the kernel saw connect.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{CgroupId, Lineage, Origin, Placement, SessionId};

/// Whether verdicts are enforced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A denied call is refused.
    #[default]
    Enforce,
    /// Nothing is refused; every would-be verdict is recorded.
    Observe,
}

/// What a workload sees while no agent is alive to ask: from when its heartbeat is stale until it is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailMode {
    /// New connections are refused.
    #[default]
    Closed,
    /// TCP and DNS go where they were going, past the gate; counted by the kernel, and told when an agent is back.
    Open,
    /// As `Open`, and each connection is recorded with its destination.
    Observe,
}

impl FailMode {
    /// The word used in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Observe => "observe",
        }
    }
}

/// Longest name of a workload. Unit: bytes. Source: as names of instances.
const NAME_MAX: usize = 64;

/// The name that an operator gives a workload: `run/NAME` or `cgroup/NAME` in policies and records.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadName(String);

/// A text that is no [`WorkloadName`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{}` is no name of a workload: 1 to 64 of `a-z A-Z 0-9 . _ - + : @`", .0.escape_default())]
pub struct WorkloadNameError(String);

impl WorkloadName {
    /// The name nearest to `text`: `_` for what a name cannot hold. For names that nobody chose, such as CMD's.
    #[must_use]
    pub fn near(text: &str) -> Self {
        let fit = |c: char| if c.is_ascii() && is_name_byte(c as u8) { c } else { '_' };
        let name: String = text.chars().take(NAME_MAX).map(fit).collect();
        Self(if name.is_empty() { "_".into() } else { name })
    }
}

impl FromStr for WorkloadName {
    type Err = WorkloadNameError;
    fn from_str(text: &str) -> Result<Self, WorkloadNameError> {
        if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_name_byte) {
            Ok(Self(text.into()))
        } else {
            Err(WorkloadNameError(text.chars().take(2 * NAME_MAX).collect()))
        }
    }
}

impl TryFrom<String> for WorkloadName {
    type Error = WorkloadNameError;
    fn try_from(text: String) -> Result<Self, WorkloadNameError> {
        text.parse()
    }
}

impl From<WorkloadName> for String {
    fn from(name: WorkloadName) -> Self {
        name.0
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-+:@".contains(&byte)
}

/// One enrolled cgroup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// The policy entity id: `run/NAME`, `cgroup/PATH`, `unit/NAME` or `container/NAME`.
    pub id: String,
    /// Inode of the cgroup's directory.
    pub cgroup: CgroupId,
    /// Path of the cgroup's directory below the cgroup v2 mount, without a leading slash.
    pub cgroup_path: PathBuf,
    /// Whether verdicts are enforced.
    pub mode: Mode,
    /// What holds while the agent is dead.
    pub fail: FailMode,
    /// The session of everything in this workload (`run`); none: one session per process.
    pub session: Option<SessionId>,
    /// What weakens this enrolment, by name (`allow-setuid`, `expose /path`); recorded.
    pub weakened: Vec<String>,
}

impl Workload {
    /// Namespace and service account of a pod's; none for any other. By the name of the enrolment, which holds also while
    /// the cluster's API is away.
    #[must_use]
    pub fn account(&self) -> Option<(&str, &str)> {
        self.id.strip_prefix("k8s/")?.split_once('/')
    }
}

/// The process that opened a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Start of the process, in clock ticks since boot (field 22 of `/proc/PID/stat`); 0 when it was gone already.
    pub start_time: u64,
    /// Effective uid at `connect()`.
    pub uid: u32,
    /// Effective gid at `connect()`.
    pub gid: u32,
    /// What it executes; none when that could not be told for certain. A rule that names one then does not match.
    pub executable: Option<Executable>,
    /// The programs that started it.
    #[serde(default)]
    pub lineage: Lineage,
    /// What its cgroup's path tells: unit, pod, container.
    #[serde(default)]
    pub placement: Placement,
}

impl Process {
    /// The process that the kernel saw connect, as far as its record tells: nothing of what it executes.
    #[must_use]
    pub fn of(origin: &Origin, placement: Placement) -> Self {
        Self {
            pid: origin.pid,
            start_time: 0,
            uid: origin.uid,
            gid: origin.gid,
            executable: None,
            lineage: Lineage::default(),
            placement,
        }
    }
}

/// An executable file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Executable {
    /// Path as `/proc/PID/exe` shows it, in the process's mount namespace: a label, never identity.
    pub path: String,
    /// Device number of its file system.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// SHA-256 of its content, 64 lower-case hex digits.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_no_slash_blank_or_sign_of_another_language() {
        for good in ["shop", "python3.12", "g++", "user@1000", "a:b", "_", &"x".repeat(64)] {
            assert_eq!(good.parse::<WorkloadName>().unwrap().to_string(), good);
        }
        for bad in ["", "x/y", "a b", "a\n", "\"x\"", "é", &"x".repeat(65)] {
            let error = bad.parse::<WorkloadName>().unwrap_err().to_string();
            assert!(error.contains("1 to 64 of") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_name_that_nobody_chose_is_made_fit() {
        for (text, name) in [("curl", "curl"), ("my tool", "my_tool"), ("", "_"), ("é", "_"), ("[", "_")] {
            assert_eq!(WorkloadName::near(text).to_string(), name);
        }
        assert!(WorkloadName::near(&"x".repeat(99)).to_string().parse::<WorkloadName>().is_ok());
    }
}
