//! `chart`: the Helm chart of `deploy/kubernetes`, rendered into its folder `rendered` for those without helm, and checked.
//!
//! Rendered by a program of `tests/chart/render`; where there is helm, it must say the same. Whether what is rendered is
//! what Kubernetes takes is tested by the crate in `tests/chart`, and by `k8s` in a real cluster.

mod cases;
mod renderer;
mod values;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::steps::Steps;
use crate::{paths, setup};

pub use renderer::{Renderer, Rendering};

/// The chart's folder.
const CHART: &str = "deploy/kubernetes";

/// What is kept in `rendered`, each with the version of Kubernetes that it is made for: it and newer ones take it.
const KEPT: &[(&str, &str)] = &[("default.yaml", "v1.30.0"), ("1.20.yaml", "v1.20.0"), ("1.36.yaml", "v1.36.0")];

/// Options of `cargo xtask chart`.
#[derive(Args)]
pub struct Options {
    /// Write nothing, and fail where something is not as it would be written.
    #[arg(long)]
    check: bool,
}

/// `cargo xtask chart`.
pub fn main(options: &Options) -> Result<()> {
    let mut steps = Steps::new("chart");
    run(&mut steps, !options.check)
}

/// As part of another task; nothing is written.
pub fn check(steps: &mut Steps) -> Result<()> {
    run(steps, false)
}

fn run(steps: &mut Steps, write: bool) -> Result<()> {
    let repository = paths::repository()?;
    setup::chart(steps)?;
    let renderer = steps.run("build the renderer", || Renderer::build(&repository))?;
    let counted = steps.run("values", || values::check(&repository, &renderer))?;
    steps.note(format!("{counted} documented"));
    steps
        .run("rendered", || KEPT.iter().try_for_each(|(name, kube)| keep(&repository, &renderer, name, kube, write)))?;
    let said = steps.run("cases", || cases::check(&renderer))?;
    steps.note(said);
    Ok(())
}

/// Writes, or compares, the file called `name` in `rendered`.
fn keep(repository: &Path, renderer: &Renderer, name: &str, kube: &str, write: bool) -> Result<()> {
    let rendering = Rendering { kube, crds: true, ..Rendering::default() };
    let head = format!(
        "# The chart with its default values, for Kubernetes {} and newer. Made by `cargo xtask chart`: change the chart.\n\
         # Before it: kubectl create namespace {}\n",
        kube.trim_start_matches('v').trim_end_matches(".0"),
        rendering.namespace,
    );
    let made = head + &renderer.text(&rendering)?;
    let path = repository.join(CHART).join("rendered").join(name);
    if write {
        return fs::write(&path, made).with_context(|| format!("write {}", path.display()));
    }
    let there = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let line = there.lines().zip(made.lines()).take_while(|(there, made)| there == made).count() + 1;
    ensure!(there == made, "{CHART}/rendered/{name}:{line}: is not what the chart says: run `cargo xtask chart`");
    Ok(())
}
