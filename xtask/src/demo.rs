//! `demo`: sets up, builds, and shows the whole product at work on real input.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::steps::Steps;
use crate::{exec, paths, setup};

/// What the demo starts, and itself.
const PACKAGES: [&str; 5] = ["callgate", "callgate-daemon", "callgate-collector", "callgate-harness", "callgate-e2e"];
/// The program that shows it.
const PROGRAM: &str = "callgate-demo";
/// The policies it runs with.
const POLICIES: &str = "deploy/examples/demo";

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub struct Options {}

/// `cargo xtask demo`.
pub fn main(_options: &Options) -> Result<()> {
    ensure!(exec::is_root(), "the demo changes cgroups and loads kernel programs: run as root");
    let mut steps = Steps::new("demo");
    setup::run(&mut steps)?;
    let repository = paths::repository()?;
    let program = steps.run("build", || build(&repository))?;
    let mut demo = Command::new(program);
    // cargo run points it at our own build, which is no place for the programs under test to load from.
    demo.arg(repository.join(POLICIES)).env_remove("LD_LIBRARY_PATH");
    steps.run("calls, refusals, a killed agent, the records", || exec::run(&mut demo))
}

/// One line of cargo's JSON messages, as far as it concerns us.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// Builds everything; the path of the demo's program, beside which the others are.
fn build(repository: &Path) -> Result<PathBuf> {
    let mut cargo = exec::cargo();
    cargo.current_dir(repository).args(["build", "--locked", "--bins"]);
    cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    cargo.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = cargo.spawn().context("start cargo build")?;
    let messages = BufReader::new(child.stdout.take().context("cargo's output is piped")?);
    let mut found = None;
    for line in messages.lines() {
        let Ok(Message { executable: Some(path) }) = serde_json::from_str(&line?) else { continue };
        if path.file_name().is_some_and(|name| name == PROGRAM) {
            found = Some(path);
        }
    }
    ensure!(child.wait()?.success(), "the build failed");
    found.with_context(|| format!("cargo built no {PROGRAM}"))
}
