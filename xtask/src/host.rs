//! `host`: `callgate install --systemd` under a real systemd, which `tests/host` boots in namespaces of its own.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::image::{Profile, build_programs};
use crate::steps::Steps;
use crate::{exec, paths, setup};

/// `cargo xtask host`.
pub fn main() -> Result<()> {
    ensure!(exec::is_root(), "this boots systemd and loads kernel programs: run as root");
    let mut steps = Steps::new("host");
    setup::run(&mut steps)?;
    run(&mut steps)
}

/// As part of another task.
pub fn run(steps: &mut Steps) -> Result<()> {
    let repository = paths::repository()?;
    let programs = steps.run("build programs", || build_programs(&repository, Profile::Dev))?;
    steps.run("a host with systemd", || {
        let mut check = Command::new(repository.join("tests/host/check.sh"));
        // cargo run points it at our own build, which is no place for the programs under test to load from.
        exec::run(check.arg(&programs.folder).env_remove("LD_LIBRARY_PATH"))
    })
}
