//! Tools built from source with cargo, pinned, in the tool cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{exec, paths};

/// A program that `cargo install` builds.
pub struct Tool {
    /// Its package and its program.
    name: &'static str,
    version: &'static str,
    /// How it is optimised: what runs for seconds is not worth minutes of building.
    profile: &'static [(&'static str, &'static str)],
}

/// Links the kernel programs. It loads rustc's own LLVM; 0.11 and later want one of the system.
pub const BPF_LINKER: Tool = Tool { name: "bpf-linker", version: "0.10.4", profile: QUICK };

/// Checks licences, bans, sources and advisories of the dependencies.
pub const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", profile: QUICK };

const QUICK: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
];

/// Installs `tool` unless that version is there; says what it did.
pub fn install(tool: &Tool, cache: &Path) -> Result<String> {
    let Tool { name, version, profile } = tool;
    let program = path_of(tool, cache);
    if is_version(&program, version) {
        return Ok(format!("{version}, present"));
    }
    println!("    building {name} {version} (once; kept in {})", cache.display());
    let mut command = exec::cargo();
    command
        .args(["install", name, "--version", &format!("={version}"), "--locked", "--force", "--root"])
        .arg(paths::tools(cache))
        // Its own temporary target folder: ours may be locked by the cargo that started us.
        .env_remove("CARGO_TARGET_DIR")
        .envs(profile.iter().copied());
    exec::run(&mut command)?;
    ensure!(is_version(&program, version), "{} is not version {version} after its installation", program.display());
    Ok(format!("{version}, built"))
}

/// Where `tool` is.
pub fn path_of(tool: &Tool, cache: &Path) -> PathBuf {
    paths::tools(cache).join("bin").join(tool.name)
}

fn is_version(program: &Path, version: &str) -> bool {
    exec::output(Command::new(program).arg("--version"))
        .is_ok_and(|said| said.split_whitespace().any(|word| word == version))
}
