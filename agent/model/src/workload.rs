//! Who calls: the enrolled cgroup, and the process in it that the kernel saw connect.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{CgroupId, SessionId};

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

/// What a workload sees while no agent is alive to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailMode {
    /// New connections are refused.
    #[default]
    Closed,
}

/// One enrolled cgroup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// The policy entity id: `run/NAME` or `cgroup/PATH`.
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
