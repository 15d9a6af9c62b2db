//! The binary `callgate-collector`: a config file around the library, and nothing else.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use callgate_collector::{COLLECTOR_CONFIG, CertsArgs, Config, Daemon, LogFormat, make_certs};
use callgate_model::causes;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Receives the sealed records of Callgate agents, stores them, and answers searches.
///
/// Stops in order at SIGTERM or SIGINT: begun batches are stored and acknowledged first.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes:
  0  stopped in order (--check: fit)
  1  failed
  2  usage or configuration

Example:
  callgate-collector --config /etc/callgate/collector.toml
  callgate-collector certs init /etc/callgate/tls --name collector.example --node node-1 --reader ops
  callgate audit tail --collector unix:/run/callgate/collector.sock"
)]
struct Options {
    /// Config file (TOML); without it every key has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the config and exit
    #[arg(long)]
    check: bool,
    /// Print the default config, with every key and what it means, and exit
    #[arg(long, exclusive = true)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make certificates for TLS between collector and agents
    #[command(subcommand)]
    Certs(Certs),
}

#[derive(Subcommand)]
enum Certs {
    /// Make a CA in DIR if there is none, and the certificates that are named; those of the same name are replaced
    Init(CertsArgs),
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.print_config {
        print!("{COLLECTOR_CONFIG}");
        return ExitCode::SUCCESS;
    }
    if let Some(Command::Certs(Certs::Init(args))) = &options.command {
        return match make_certs(args) {
            Ok(made) => {
                made.iter().for_each(|line| println!("{line}"));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("callgate-collector: {}", causes(&error));
                ExitCode::FAILURE
            }
        };
    }
    let config = match options.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("callgate-collector: {}", causes(&error));
            return ExitCode::from(2);
        }
    };
    if options.check {
        return ExitCode::SUCCESS;
    }
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callgate-collector: {}", causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: &Config) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().with_env_filter(config.log_filter()?).with_writer(std::io::stderr);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    // Before anything is served: a signal from now on is a stop in order.
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    let mut daemon = Daemon::start(config).await?;
    let mut failure = Ok(());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        failed = daemon.failed() => failure = failed.context("serving"),
    }
    tracing::info!("stopping");
    daemon.stop().await?;
    failure
}
