//! What gets through and is outside of the threat model: who is root of the host, and sees it as the host does.
//!
//! A workload is root in its container at most. Anything else that gets through fails the exam.

use crate::vector::Way;

/// One such thing; a row that no longer gets through is told, so that it is taken out.
#[derive(Debug)]
pub struct Outside {
    /// Names of vectors.
    pub vectors: &'static [&'static str],
    /// As whom.
    pub way: Way,
    /// What it takes.
    pub takes: &'static str,
    /// What becomes of it.
    pub then: &'static str,
}

/// All of them.
pub const OUTSIDE: &[Outside] = &[
    Outside {
        vectors: &["migrate_host_root", "migrate_child_host_root", "clone_into_cgroup_host_root"],
        way: Way::Bare,
        takes: "a cgroup tree that shows other cgroups than its own; for all but `clone3()`, a writable one",
        then: "it is out of the workload: nothing brings it back, and strict mode refuses what is neither enrolled nor exempt",
    },
    Outside {
        vectors: &["bpf_open_link", "unlink_pins", "rename_pins"],
        way: Way::Bare,
        takes: "bpffs in view",
        then: "the link is attached and pinned again within a second, with an alarm on record",
    },
    Outside {
        vectors: &["bpf_write_map"],
        way: Way::Bare,
        takes: "bpffs in view",
        then: "the entry is written again within a second, with an alarm on record",
    },
    Outside {
        vectors: &["bpf_write_heartbeat"],
        way: Way::Bare,
        takes: "bpffs in view",
        then: "the agent's next beat, ten times in the time after which it counts as stale, writes it anew",
    },
    Outside {
        vectors: &["core_pattern"],
        way: Way::Bare,
        takes: "a writable /proc/sys",
        then: "the kernel starts a program outside of every workload: nothing here sees that",
    },
];

/// Whether `vector`, tried this way, is among them.
pub fn is_outside(vector: &str, way: Way) -> bool {
    OUTSIDE.iter().any(|row| row.vectors.contains(&vector) && row.way == way)
}
