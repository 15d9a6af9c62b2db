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
    steps.run("benches", || {
        let mut cargo = exec::cargo();
        cargo.current_dir(&repository).args(["bench", "--locked", "--benches", "--"]).args(&options.filter);
        exec::run(&mut cargo)
    })
}
