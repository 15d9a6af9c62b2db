//! `callgate-bypass`: the exam. The exit code is 1 if anything gets through.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use callgate_bypass::exam::scene::Ground;
use callgate_bypass::exam::{Wanted, document, examine, table};
use clap::Parser;

/// Tries to get past the gate, in every known way, and tells what came of it.
#[derive(Parser)]
#[command(name = "callgate-bypass")]
struct Options {
    /// Try only vectors with this in their name.
    filter: Option<String>,
    /// Also under load, and while the agent is killed, stopped and restarted.
    #[arg(long)]
    full: bool,
    /// Write every line to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the document for this kernel to this file.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let _ground = Ground::enter()?;
    let wanted = Wanted { filter: options.filter.clone(), full: options.full };
    let rows = examine(&wanted, &mut |row| println!("{}", table::line(row)))?;
    println!("{}", table::summary(&rows));
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &options.document {
        std::fs::write(path, document::text(&rows)?).with_context(|| path.display().to_string())?;
    }
    Ok(!rows.iter().any(|row| row.fails()))
}
