//! `setup`: makes a fresh Debian 12 or Ubuntu 24.04 with rustup and root able to build and test.
//!
//! Each step looks first and does nothing when nothing is missing; everything of ours goes to the tool cache.
//! Never changes the system's package sources.

mod backport;
mod library;
mod packages;
mod tools;

use std::fs::File;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::{exec, paths};

pub use tools::{CARGO_DENY, path_of};

/// `cargo xtask setup`.
pub fn main() -> Result<()> {
    run(&mut Steps::new("setup"))
}

/// The steps of setup, as part of another task.
pub fn run(steps: &mut Steps) -> Result<()> {
    let repository = paths::repository()?;
    let release = paths::release(&repository)?;
    let cache = paths::cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    // Two tasks at once on a fresh machine: the second waits and finds everything done.
    let lock = File::create(cache.join("lock"))?;
    lock.lock().context("lock the tool cache")?;

    let said = steps.run("Debian packages", packages::install)?;
    steps.note(said);
    let said = steps.run("library source", || library::provide(&release, &cache))?;
    steps.note(said);
    let said = steps.run("bpf-linker", || tools::install(&tools::BPF_LINKER, &cache))?;
    steps.note(said);
    steps.run("crates", || exec::run(exec::cargo().current_dir(&repository).args(["fetch", "--locked", "--quiet"])))
}

/// Installs cargo-deny, which only `ci` needs.
pub fn cargo_deny(steps: &mut Steps) -> Result<()> {
    let cache = paths::cache()?;
    let said = steps.run("cargo-deny", || tools::install(&CARGO_DENY, &cache))?;
    steps.note(said);
    Ok(())
}

/// Installs what renders the chart, which only `ci`, `chart` and `k8s` need.
pub fn chart(steps: &mut Steps) -> Result<()> {
    let said = steps.run("Debian packages for the chart", packages::install_for_chart)?;
    steps.note(said);
    Ok(())
}
