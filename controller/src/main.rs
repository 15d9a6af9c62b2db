//! The binary `callgate-controller`: its command line around the library, and nothing else.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use callgate_controller::{Options, run};
use callgate_model::causes;
use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let log = tracing_subscriber::fmt().with_max_level(options.log_level).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callgate-controller: {}", causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
