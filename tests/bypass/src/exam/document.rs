//! `docs/bypass.md`: the table for one kernel, with nothing in it that changes from run to run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::Row;
use super::outcome::Verdict;
use crate::known::{KNOWN, known};
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
- `REACHED (known)`: it gets through; why, and what will close it, stands below.

Ways: `user` has no capability; `root` has a container's default capabilities and a container's mounts (its own part of the cgroup tree, read-only, and no bpffs); `root-no-raw` the same without CAP_NET_RAW; `host-root` the same as `root` with the mounts of the host; `run` is a user's command under `callgate run`, `run-root` root's.
Where IPv4 and IPv6 differ, both are told.
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
    write!(text, "{}", holes(rows)?)?;
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

/// What gets through, and what is to be done about it.
fn holes(rows: &[Row]) -> Result<String> {
    let mut text = String::from("\n## What gets through\n\n");
    let open = |verdict: Verdict| rows.iter().filter(move |row| row.verdict == verdict && row.phase.is_empty());
    if open(Verdict::Reached).next().is_none() {
        text.push_str("Nothing.\n");
    } else {
        text.push_str("| vectors | why | closed by |\n| --- | --- | --- |\n");
        for hole in KNOWN {
            let mut names: Vec<&str> = Vec::new();
            for row in open(Verdict::Reached) {
                let is_of = known(&row.vector, row.way).is_some_and(|found| std::ptr::eq(found, hole));
                if is_of && !names.contains(&row.vector.as_str()) {
                    names.push(&row.vector);
                }
            }
            if !names.is_empty() {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                writeln!(text, "| {} | {} | {} |", names.join(", "), hole.why, hole.closed_by)?;
            }
        }
    }
    Ok(text)
}
