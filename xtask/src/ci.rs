//! `ci`: everything that a change must pass, the cheap failures first.
//!
//! Advisories need a database from the network: where it cannot be fetched, the table says so.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::steps::Steps;
use crate::{chart, exec, host, k8s, paths, setup, test, tidy};

/// The advisory database is a git repository of a few MB.
const FETCH_WITHIN: Duration = Duration::from_secs(60);

/// `cargo xtask ci`.
pub fn main() -> Result<()> {
    let mut steps = Steps::new("ci");
    let repository = paths::repository()?;
    test::must_be_root()?;
    steps.run("fmt", || exec::run(exec::cargo().current_dir(&repository).args(["fmt", "--all", "--check"])))?;
    setup::run(&mut steps)?;
    steps.run("tidy", || tidy::check(&repository))?;
    chart::check(&mut steps)?;
    setup::cargo_deny(&mut steps)?;
    deny(&mut steps, &repository)?;
    steps.run("clippy", || {
        let words = ["clippy", "--locked", "--all-targets", "--", "--deny", "warnings"];
        exec::run(exec::cargo().current_dir(&repository).args(words))
    })?;
    let counts = test::run(&test::Options::default(), &mut steps)?;
    if counts.all_passed() {
        host::run(&mut steps)?;
        k8s::run(&mut steps)?;
    }
    drop(steps);
    counts.close()
}

fn deny(steps: &mut Steps, repository: &Path) -> Result<()> {
    let program = setup::path_of(&setup::CARGO_DENY, &paths::cache()?);
    let deny = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(repository).args(words);
        command
    };
    steps.run("deny: bans, licenses, sources", || {
        exec::run(&mut deny(&[
            "--offline",
            "--locked",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ]))
    })?;
    let fetched = steps.run("deny: advisories", || {
        if let Err(error) = exec::run_within(&mut deny(&["fetch", "db"]), FETCH_WITHIN) {
            return Ok(Err(error));
        }
        exec::run(&mut deny(&["--offline", "--locked", "check", "advisories"])).map(Ok)
    })?;
    if let Err(error) = fetched {
        steps.note(format!("NOT CHECKED: the advisory database could not be fetched ({error:#})"));
    }
    Ok(())
}
