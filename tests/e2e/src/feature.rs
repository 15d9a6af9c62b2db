//! What a machine may lack: one table, each row probed by trying, never by reading a list.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use callgate_harness::{Netns, TempBpffs, Veth};

/// Something of the kernel or the machine that some case needs.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// As cases and the committed lists name it.
    pub name: &'static str,
    /// Tries it; the error says what is missing.
    pub probe: fn() -> Result<()>,
}

/// All of them. A new one is one line.
pub const FEATURES: &[Feature] = &[
    Feature { name: "bpffs", probe: || TempBpffs::mount().map(drop) },
    Feature { name: "netns", probe: || Netns::new("probe").map(drop) },
    Feature { name: "ipv6", probe: ipv6 },
    Feature { name: "fuse", probe: || fs::File::open("/dev/fuse").context("open /dev/fuse").map(drop) },
    Feature { name: "landlock_scopes", probe: landlock_scopes },
    Feature { name: "curl", probe: || command("curl") },
    Feature { name: "python3", probe: || command("python3") },
    Feature { name: "node", probe: || command("node") },
    Feature { name: "git", probe: || command("git") },
    Feature { name: "java", probe: || command("java") },
    Feature { name: "python_http", probe: || python("requests, httpx, h2") },
    Feature { name: "python_grpc", probe: || python("grpc") },
];

fn ipv6() -> Result<()> {
    let netns = Netns::new("probe")?;
    let veth = Veth::to_host(&netns)?;
    veth.a6.context("no IPv6 address can be given to a veth").map(drop)
}

/// Scopes came with Landlock ABI 6 (Linux 6.12); there is no other mark of them that needs no unsafe code.
fn landlock_scopes() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(crate::runner::version(&release) >= (6, 12), "Linux {} has no Landlock scopes", release.trim());
    let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_else(|_| "landlock".to_owned());
    ensure!(lsm.contains("landlock"), "Landlock is not among the active security modules ({})", lsm.trim());
    Ok(())
}

/// Modules of the system's Python, which is where packages of the distribution are.
fn python(modules: &str) -> Result<()> {
    let mut python = std::process::Command::new(crate::PYTHON);
    let tried = python.args(["-c", &format!("import {modules}")]).output().context("start Python")?;
    ensure!(tried.status.success(), "{} cannot import {modules}", crate::PYTHON);
    Ok(())
}

fn command(name: &str) -> Result<()> {
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    let found = std::env::split_paths(&path).any(|directory| Path::new(&directory).join(name).is_file());
    ensure!(found, "the command `{name}` is not installed");
    Ok(())
}
