//! Builds the programs, and takes from them what only a debugger reads.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use super::IMAGES;
use crate::exec;

/// How programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    Release,
    Dev,
}

/// Where the programs are.
pub struct Programs {
    /// All of them.
    pub folder: PathBuf,
    /// cargo's target folder.
    pub target: PathBuf,
}

/// Builds them.
pub fn build(repository: &Path, profile: Profile) -> Result<Programs> {
    let mut cargo = exec::cargo();
    cargo.current_dir(repository).args(["build", "--locked", "--bins"]);
    match profile {
        // For use: what they need, and no feature that only tests ask for.
        Profile::Release => {
            cargo.arg("--release");
            let mut crates: Vec<_> = IMAGES.iter().flat_map(|image| image.programs).map(|(_, krate)| krate).collect();
            crates.sort_unstable();
            crates.dedup();
            cargo.args(crates.iter().flat_map(|krate| ["--package", krate]));
        }
        // For tests: as the tests build them. Apart, features of dependencies would differ and all be built twice.
        Profile::Dev => {
            cargo.arg("--workspace");
        }
    }
    exec::run(&mut cargo)?;
    let target = crate::tidy::metadata(repository)?["target_directory"].as_str().map(PathBuf::from);
    let target = target.context("cargo names no target folder")?;
    let folder = target.join(match profile {
        Profile::Release => "release",
        Profile::Dev => "debug",
    });
    Ok(Programs { folder, target })
}

/// The program at `path` without debugging information; names of functions stay, for backtraces.
pub fn stripped(path: &Path) -> Result<Vec<u8>> {
    ensure!(path.is_file(), "cargo built no {}", path.display());
    // Beside the program, and by process: two tasks at once are in each other's way nowhere else either.
    let out = path.with_extension(format!("stripped.{}", std::process::id()));
    let result = exec::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&out).arg(path));
    let bytes = result.and_then(|()| Ok(std::fs::read(&out)?));
    let _ = std::fs::remove_file(&out);
    bytes.with_context(|| format!("strip {}", path.display()))
}
