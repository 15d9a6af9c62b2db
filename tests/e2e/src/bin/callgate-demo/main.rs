//! `callgate-demo POLICIES`: the whole product at work on real input, as a table of what happened.
//!
//! Started by `cargo xtask demo`, which builds it and the programs it starts. Everything runs in a temporary
//! directory, cgroups and a network namespace of its own; all are gone at the end. The exit code is 1 if anything
//! that is shown did not happen.

mod calls;
mod clients;
mod kill;
mod one_command;
mod records;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::Site;
use callgate_harness::{Canary, CanaryConfig};
use table::Table;

fn main() -> ExitCode {
    let start = Instant::now();
    let mut table = Table::default();
    let told = tell(&mut table);
    table.print();
    println!("\ntotal: {:.1} s", start.elapsed().as_secs_f64());
    if let Err(error) = told {
        eprintln!("error: {error:?}");
        return ExitCode::FAILURE;
    }
    match table.failed() {
        0 => {
            println!("everything happened as expected");
            ExitCode::SUCCESS
        }
        failed => {
            eprintln!("error: {failed} of the above did not happen as expected");
            ExitCode::FAILURE
        }
    }
}

fn tell(table: &mut Table) -> Result<()> {
    let policies = std::env::args_os().nth(1).map(PathBuf::from).context("usage: callgate-demo POLICIES")?;
    ensure!(rustix::process::geteuid().is_root(), "the demo changes cgroups and loads kernel programs: run as root");
    for left in callgate_harness::sweep()? {
        println!("removed what a demo or test that was stopped had left: {left}");
    }
    println!("starting a collector, an agent, a TLS upstream and a canary; enrolling a cgroup");
    let mut site = Site::with_policies(&policies, "demo")?;
    let canary = Canary::start(CanaryConfig { netns: Some(site.netns.path()), ..CanaryConfig::at(site.address) })?;

    calls::show(table, &site, &canary);
    kill::show(table, &mut site, &canary);
    let outside = calls::OUTSIDE + one_command::show(table, &site);
    records::show(table, &site, outside);

    let left = [site.root.path().to_owned(), site.netns.path(), site.path("")];
    drop(canary);
    drop(site);
    table.row("clean-up", "cgroups, namespace, files gone", || {
        let still: Vec<_> = left.iter().filter(|path| path.exists()).collect();
        ensure!(still.is_empty(), "still there: {still:?}");
        Ok("all gone".to_owned())
    });
    Ok(())
}
