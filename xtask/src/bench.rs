//! `bench`: measures with optimisation on, A and B in one run.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::steps::Steps;
use crate::{exec, paths, setup};

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// Run only benches of the parts, and rows of the gate, with this in their name.
    filter: Option<String>,
    /// Fewer and shorter rounds of the gate: to see that it works, not to quote.
    #[arg(long)]
    quick: bool,
    /// Write every figure of the gate to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave out the benches of the parts.
    #[arg(long)]
    gate_only: bool,
}

/// `cargo xtask bench`.
pub fn main(options: &Options) -> Result<()> {
    let mut steps = Steps::new("bench");
    setup::run(&mut steps)?;
    let repository = paths::repository()?;
    // The whole gate between a load generator and an upstream; its own programs must be beside it.
    let packages = ["callgate", "callgate-daemon", "callgate-collector", "callgate-harness", "callgate-bench"];
    steps.run("build the gate", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["build", "--locked", "--release", "--bins"]);
        exec::run(cargo.args(packages.iter().flat_map(|package| ["--package", package])))
    })?;
    let json = options.json.as_ref().map(std::path::absolute).transpose().context("the path of the JSON file")?;
    steps.run("directly, through a bare relay, and through the gate", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["run", "--locked", "--release", "--package", "callgate-bench", "--"]);
        cargo.args(&options.filter).args(options.quick.then_some("--quick"));
        if let Some(json) = &json {
            cargo.arg("--json").arg(json);
        }
        exec::run(&mut cargo)
    })?;
    if options.gate_only {
        return Ok(());
    }
    // Criterion's: one part each, no kernel.
    steps.run("benches of the parts", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["bench", "--locked", "--benches", "--"]).args(&options.filter);
        exec::run(&mut cargo)
    })
}
