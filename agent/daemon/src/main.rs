//! `callgate-agent`: the agent of a host, as a daemon.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use callgate_daemon::{
    AGENT_CONFIG, Agent, CONFIG_DIR, Config, Policies, Setup, check, control, forbid_core_dumps, handover,
    keep_memory_private, logging, make_room,
};
use callgate_identity::Authority;
use callgate_model::causes;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Names pins, enrolments and the first stream of a host's agent.
const INSTANCE: &str = "agent";

/// Exit code for a wrong command line, configuration or policy.
const CONFIGURATION: u8 = 2;

/// The enforcement agent of this host.
///
/// Redirects the connections of enrolled cgroups, decides and records each call.
/// Ending it leaves enforcement on: enrolled workloads are refused until it runs again.
#[derive(Debug, Parser)]
#[command(
    name = "callgate-agent",
    version,
    after_help = "Examples:\n  callgate-agent --config /etc/callgate/agent.toml\n  callgate-agent --take-over    # upgrade: the agent that runs ends its open calls and exits\n\nExit codes: 0 stopped in order (--check: fit), 1 failed, 2 usage or configuration"
)]
struct Args {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", default_value_os_t = PathBuf::from(CONFIG_DIR).join("agent.toml"))]
    config: PathBuf,
    /// Check the configuration and the policies, then exit
    #[arg(long)]
    check: bool,
    /// Print the default configuration, with every key and what it means, then exit
    #[arg(long, exclusive = true)]
    print_config: bool,
    /// Take over from the agent that runs, without refusing a connection; start afresh where none does
    #[arg(long, conflicts_with = "check")]
    take_over: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_config {
        print!("{AGENT_CONFIG}");
        return ExitCode::SUCCESS;
    }
    let (config, policies) = match prepare(&args) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("callgate-agent: {}", causes(error.as_ref()));
            return ExitCode::from(CONFIGURATION);
        }
    };
    if args.check {
        println!("`{}` and the policies in `{}` are fit", args.config.display(), config.policies().display());
        return ExitCode::SUCCESS;
    }
    match run(config, policies, args.take_over) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callgate-agent: {}", causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// What the operator wrote, read and checked.
fn prepare(args: &Args) -> Result<(Config, Policies)> {
    let config = Config::read(&args.config)?;
    let notes = check(&config).with_context(|| format!("in the config `{}`", args.config.display()))?;
    for note in notes.iter().filter(|_| args.check) {
        eprintln!("callgate-agent: {note}");
    }
    let policies = Policies::load(&config.policies(), &config.detectors()?)?;
    Ok((config, policies))
}

fn run(config: Config, policies: Policies, take_over: bool) -> Result<()> {
    keep_memory_private().and_then(|()| forbid_core_dumps()).context("cannot keep this process's memory private")?;
    logging::start(config.log_level);
    make_room(config.connections_max);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(serve(config, policies, take_over))
}

async fn serve(config: Config, policies: Policies, take_over: bool) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    std::fs::create_dir_all(&config.runtime_dir)
        .with_context(|| format!("cannot make `{}`", config.runtime_dir.display()))?;
    let state = &config.state_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .with_context(|| format!("cannot make `{}`", state.display()))?;
    // Kept, so that a restart of the agent restarts no workload.
    let authority = Authority::kept(&format!("Callgate {}", config.node_name()), &state.join("ca.key"))?;
    let authority = Arc::new(authority);
    let trust = config.runtime_dir.join("ca.pem");
    publish(&trust, &authority.ca_pem()).with_context(|| format!("cannot write `{}`", trust.display()))?;
    let socket = control::socket_path(&config.runtime_dir);
    let enrol = config.enroll.clone();
    let successors = handover::socket_path(&config.runtime_dir);
    let inheritance = if take_over { handover::ask(&successors, INSTANCE)? } else { None };
    let instance = INSTANCE.to_owned();
    let setup = Setup {
        instance,
        config,
        policies,
        authority,
        own_ports: Vec::new(),
        inheritance,
        run: None,
        has_seccomp: false,
    };
    let agent = Agent::start(setup).await?;
    agent.enrol_configured(&enrol)?;
    handover::serve(Arc::clone(&agent), &successors)?;
    let stopping = tokio_util::sync::CancellationToken::new();
    let listener = control::listen(&socket)?;
    let control = tokio::spawn(control::serve(Arc::clone(&agent), listener, socket.clone(), stopping.clone()));
    let metrics = agent.metrics_address().map_or_else(|| "none".to_owned(), |address| address.to_string());
    info!(control = %socket.display(), %metrics, "ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = agent.handed_over().cancelled() => {}
    }
    info!("stopping; enforcement stays on");
    stopping.cancel();
    agent.stop().await;
    control.await.context("the control socket's task failed")?
}

/// Writes the trust bundle so that a reader finds a whole one at any time, and the same file where nothing changed.
fn publish(path: &Path, pem: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|there| there == pem) {
        return Ok(());
    }
    let new = path.with_extension("pem.new");
    std::fs::write(&new, pem)?;
    std::fs::rename(&new, path)
}
