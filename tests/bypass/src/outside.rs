//! What is known to get through, why, and what will close it. Anything else that gets through fails the exam.

use crate::vector::Way;

/// One known hole; a row that no longer gets through is told, so that it is taken out.
#[derive(Debug)]
pub struct Known {
    /// Names of vectors; a `*` at the end stands for any end.
    pub vectors: &'static [&'static str],
    /// As whom; empty: anybody.
    pub ways: &'static [Way],
    /// Why it gets through.
    pub why: &'static str,
    /// What will close it, or why it stays.
    pub closed_by: &'static str,
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        vectors: &["netlink_*", "sweep_netlink"],
        ways: &[],
        why: "no cgroup hook runs for netlink; it leads to the kernel and not off the host",
        closed_by: "a container runtime's seccomp profile; `callgate run` leaves routes alone",
    },
    Known {
        vectors: &["migrate_host_root", "migrate_child_host_root", "clone_into_cgroup_host_root"],
        ways: &[Way::Bare],
        why: "root of the host that sees the cgroup tree may leave its cgroup; a read-only mount does not keep `clone3()` from it",
        closed_by: "stays: enrol containers, or services with a cgroup namespace; who is root of the host is trusted",
    },
    Known {
        vectors: &[
            "bpf_open_link",
            "bpf_write_map",
            "bpf_write_heartbeat",
            "unlink_pins",
            "rename_pins",
            "core_pattern",
        ],
        ways: &[Way::Bare],
        why: "root of the host that sees bpffs or a writable /proc/sys may take the pins away, or have the kernel start programs",
        closed_by: "stays: hide them (a mount namespace, as containers have); the warden's attestation raises an alarm",
    },
    Known {
        vectors: &["collector_socket"],
        ways: &[],
        why: "a collector of its own does not know which cgroups are enrolled; its socket is root's alone",
        closed_by: "keep the socket out of what root's workloads see, as containers do; to be closed in the collector",
    },
];

/// The row for `vector`, tried this way.
pub fn known(vector: &str, way: Way) -> Option<&'static Known> {
    let names = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => vector.starts_with(start),
        None => vector == pattern,
    };
    KNOWN
        .iter()
        .find(|row| row.vectors.iter().any(|name| names(name)) && (row.ways.is_empty() || row.ways.contains(&way)))
}
