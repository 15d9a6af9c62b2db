//! `bench`: measures with optimisation on, A and B in one run.

use anyhow::Result;
use clap::Args;

use crate::steps::Steps;
use crate::{exec, paths, setup};

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// Run only benches with this in their name.
    filter: Option<String>,
}

/// `cargo xtask bench`.
pub fn main(options: &Options) -> Result<()> {
    let mut steps = Steps::new("bench");
    setup::run(&mut steps)?;
    let repository = paths::repository()?;
    // Criterion's: one part each, no kernel.
    steps.run("benches of the parts", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["bench", "--locked", "--benches", "--"]).args(&options.filter);
        exec::run(&mut cargo)
    })?;
    // The whole gate against a direct call; its own programs must be beside it.
    let packages = ["callgate", "callgate-daemon", "callgate-collector", "callgate-harness", "callgate-bench"];
    steps.run("build the gate", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["build", "--locked", "--release", "--bins"]);
        exec::run(cargo.args(packages.iter().flat_map(|package| ["--package", package])))
    })?;
    steps.run("calls directly and through the gate", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["run", "--locked", "--release", "--package", "callgate-bench"]);
        exec::run(&mut cargo)
    })
}
