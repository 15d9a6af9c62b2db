//! `docs/bypass.md`: the table for one kernel, with nothing in it that changes from run to run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::Row;
use super::outcome::Verdict;
use crate::outside::OUTSIDE;
use crate::vector::{Family, Way};
use crate::vectors;

const WAYS: [Way; 6] = [Way::User, Way::Root, Way::RootNoRaw, Way::Bare, Way::Run, Way::RunRoot];

const HEAD: &str = "
Made by `cargo xtask bypass`: a hostile program is born in an enrolled cgroup and tries every row.
Canaries live in another network namespace; a single frame that arrives there for an attempt is `REACHED`.
Each row is first tried outside of the enrolled cgroup, where it must reach the canary: what reaches nothing there either is `not in this kernel`, never `stopped`.

- `proxied`: the gate had it, and refused by policy.
- `stopped`: refused with that error, or nothing arrived; `(as outside)` where this user may do it nowhere on this host, and only root with all capabilities reached the canary.
- `delegated`: it takes a process outside of the same user that helps, or that can be forced to.
- `outside the model`: it gets through for root of the host that sees the host's own mounts, which no workload does; see below.
- `REACHED`: it gets through. No row may say so.

Ways: `user` has no capability; `root` has a container's default capabilities and a container's mounts (its own part of the cgroup tree, read-only, and no bpffs); `root-no-raw` the same without CAP_NET_RAW; `host-root` the same as `root` with the mounts of the host; `run` is a user's command under `callgate run`, `run-root` root's.
Where IPv4 and IPv6 differ, both are told.
";

const OUTSIDE_THE_MODEL: &str = "
## Outside of the model

`host-root` is root with the host's own mounts: bpffs, a cgroup tree that is whole and writable, a writable /proc/sys.
Their files are root's, so that a container's capabilities are enough to change them: what it takes is the mounts.
Who is given these rules the host, and is trusted as the kernel is; no workload is.
A container has a cgroup namespace, its own part of the tree read-only, and no bpffs.
`callgate run` gives CMD a mount namespace with the cgroup tree read-only and bpffs hidden, drops CAP_SYS_ADMIN, so that neither is undone, and has seccomp refuse bpf() and `clone3()`.
A service of the host that runs as root is to be enrolled without them too: `InaccessiblePaths=/sys/fs/bpf`, `ProtectControlGroups=yes`, `ProtectKernelTunables=yes`, and `CapabilityBoundingSet=` without CAP_SYS_ADMIN.

";

/// The first line says which kernel.
pub fn title(release: &str) -> String {
    format!("# The bypass exam on Linux {release}\n")
}

/// `6.18` of the running kernel.
///
/// # Errors
/// When `/proc` is not there.
pub fn kernel() -> Result<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
    Ok(release.trim().split('.').take(2).collect::<Vec<_>>().join("."))
}

/// The whole document.
///
/// # Errors
/// When the kernel does not say what it is.
pub fn text(rows: &[Row]) -> Result<String> {
    let mut text = title(&kernel()?);
    text.push_str(HEAD);
    let ways: Vec<Way> = WAYS.into_iter().filter(|way| rows.iter().any(|row| row.way == *way)).collect();
    let names: Vec<&str> = ways.iter().map(|way| way.name()).collect();
    writeln!(text, "\n| vector | what it does | {} |", names.join(" | "))?;
    writeln!(text, "| --- | --- |{}", " --- |".repeat(ways.len()))?;
    for vector in vectors::all() {
        let cells: Vec<String> = ways.iter().map(|way| cell(rows, vector.name, *way)).collect();
        writeln!(text, "| `{}` | {} | {} |", vector.name, vector.what, cells.join(" | "))?;
    }
    write!(text, "{}", outside(rows)?)?;
    Ok(text)
}

fn cell(rows: &[Row], vector: &str, way: Way) -> String {
    let mut told: BTreeMap<String, Vec<Family>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.vector == vector && row.way == way && row.phase.is_empty()) {
        told.entry(row.shown()).or_default().push(row.family);
    }
    match told.len() {
        0 => String::new(),
        1 => told.into_keys().next().unwrap_or_default(),
        _ => {
            let with = |(shown, families): (String, Vec<Family>)| {
                let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
                format!("{}: {shown}", names.join(" "))
            };
            told.into_iter().map(with).collect::<Vec<_>>().join("; ")
        }
    }
}

/// What gets through with what no workload has.
fn outside(rows: &[Row]) -> Result<String> {
    let mut text = String::from(OUTSIDE_THE_MODEL);
    text.push_str("| vectors | what it takes | what becomes of it |\n| --- | --- | --- |\n");
    let is_told = |name: &&&str| rows.iter().any(|row| row.vector == ***name && row.verdict == Verdict::Outside);
    for one in OUTSIDE {
        let names: Vec<String> = one.vectors.iter().filter(is_told).map(|name| format!("`{name}`")).collect();
        if !names.is_empty() {
            writeln!(text, "| {} | {} | {} |", names.join(", "), one.takes, one.then)?;
        }
    }
    Ok(text)
}
