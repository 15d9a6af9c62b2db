//! `callgate-bench`: what Callgate costs, held against no gate and against the least that any gate costs.
//!
//! Three ways to the same upstream, interleaved in one run: directly; through a bare relay of bytes behind the same
//! redirect ([`relay`]); through the gate with decision, masking and audit on. Load generator, upstream, gate and
//! collector share the machine's cores, so the ratio is the figure to keep, not the calls per second.
//! Start with [`rows`], the table of what is measured; [`marks`] has what it is held against.

mod connect;
mod ground;
mod hooks;
mod machine;
mod marks;
mod measure;
mod process;
mod relay;
mod rows;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use ground::Ground;
use measure::Extent;

/// Measures Callgate: calls directly, through a bare relay and through the gate, and connect() with and without hooks.
#[derive(Parser)]
#[command(name = "callgate-bench")]
struct Options {
    /// Measure only rows with this in their name.
    filter: Option<String>,
    /// Fewer and shorter rounds: to see that it works, not to quote.
    #[arg(long)]
    quick: bool,
    /// Write every figure to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the bench starts as processes of their own; named so that no FILTER is taken for one.
#[derive(Subcommand)]
enum Part {
    /// Redirects a cgroup and relays its bytes, until stdin closes.
    #[command(hide = true)]
    RunRelay(relay::Options),
    /// Connects in a loop and prints how long it took.
    #[command(hide = true)]
    TimeConnects(connect::Options),
}

fn main() -> Result<()> {
    let options = Options::parse();
    match options.part {
        Some(Part::RunRelay(options)) => relay::main(&options),
        Some(Part::TimeConnects(options)) => connect::main(&options),
        None => measure(&options),
    }
}

fn measure(options: &Options) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the bench changes cgroups and loads kernel programs: run as root");
    for left in callgate_harness::sweep()? {
        eprintln!("removed what a run that was stopped had left: {left}");
    }
    let extent = if options.quick {
        Extent { rounds: 3, time: Duration::from_millis(700), share: 4 }
    } else {
        Extent { rounds: 5, time: Duration::from_secs(3), share: 1 }
    };
    let wanted = |name: &str| options.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let machine = machine::Machine::look()?;
    let connects = if wanted(connect::NAME) { connect::measure(&extent)? } else { Vec::new() };
    let mut measured = Vec::new();
    // A spool that is drained, and one that only grows: an installation each.
    for draining in [false, true] {
        let rows = rows::ROWS.iter().filter(|row| row.draining == draining && wanted(row.name)).collect::<Vec<_>>();
        if rows.is_empty() {
            continue;
        }
        let mut ground = Ground::new(draining)?;
        for row in rows {
            eprintln!("measuring: {}", row.name);
            measured.push(measure::row(&mut ground, row, &extent)?);
        }
    }
    let machine = machine.after()?;
    print!("{}", table::text(&machine, &extent, &measured, &connects));
    if let Some(path) = &options.json {
        let all = serde_json::json!({ "machine": machine, "rows": measured, "connect": connects });
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}
