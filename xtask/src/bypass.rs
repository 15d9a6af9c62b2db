//! `bypass`: builds the exam and what it starts, and runs it: everything that could lead past the gate, tried.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::steps::Steps;
use crate::{exec, paths, setup};

/// What the exam starts, and itself.
const PACKAGES: [&str; 5] =
    ["callgate", "callgate-daemon", "callgate-collector", "callgate-harness", "callgate-bypass"];

/// Options of `cargo xtask bypass`.
#[derive(Args)]
pub struct Options {
    /// Try only vectors with this in their name.
    filter: Option<String>,
    /// Also under 1,000 connects a second, and while the agent is killed, stopped and restarted.
    #[arg(long)]
    full: bool,
    /// Write every line to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// `cargo xtask bypass`.
pub fn main(options: &Options) -> Result<()> {
    ensure!(exec::is_root(), "the exam changes cgroups and loads kernel programs: run as root");
    let mut steps = Steps::new("bypass");
    setup::run(&mut steps)?;
    let repository = paths::repository()?;
    steps.run("build", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["build", "--locked", "--bins"]);
        exec::run(cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package])))
    })?;
    let json = options.json.as_ref().map(std::path::absolute).transpose().context("the path of the JSON file")?;
    // The document is written where all of it was tried; CALLGATE_WRITE asks for that, as for others.
    let write = std::env::var_os("CALLGATE_WRITE").is_some() && options.filter.is_none();
    steps.run("every vector, outside and inside", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["run", "--quiet", "--locked", "--package", "callgate-bypass"]);
        cargo.args(["--bin", "callgate-bypass", "--"]).args(&options.filter).args(options.full.then_some("--full"));
        if let Some(json) = &json {
            cargo.arg("--json").arg(json);
        }
        if write {
            cargo.arg("--document").arg(repository.join("docs/bypass.md"));
        }
        exec::run(&mut cargo)
    })
}
