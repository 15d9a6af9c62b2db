//! `callgate-agent`: the agent of a host, as a daemon.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use callgate_daemon::{
    AGENT_CONFIG, Agent, CONFIG_DIR, Config, Policies, Setup, check, control, forbid_core_dumps, handover, idle,
    keep_memory_private, logging, make_room, see_the_nodes_cgroups,
};
use callgate_identity::Authority;
use callgate_model::causes;
use callgate_trust::NodeFiles;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Names pins, enrolments and the first stream of a host's agent.
const INSTANCE: &str = "agent";

/// Directory below the runtime directory that pods mount. Admission names it too.
const TRUST_DIR: &str = "trust";

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
    /// Once another agent has taken over, stay idle until stopped: for a supervisor that would start this one again
    #[arg(long, conflicts_with = "check")]
    stay: bool,
    /// Enforce nothing and hold nothing, only answer /healthz until stopped: what --stay ends in
    #[arg(long, conflicts_with_all = ["check", "take_over", "stay"])]
    idle: bool,
}

/// How an agent ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It was told to stop.
    Stopped,
    /// Another one has taken over, and nobody has told this one to stop.
    Relieved,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_config {
        print!("{AGENT_CONFIG}");
        return ExitCode::SUCCESS;
    }
    if args.idle {
        return told(Config::read(&args.config).and_then(rest));
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
    told(run(config, policies, &args))
}

fn told(ended: Result<()>) -> ExitCode {
    match ended {
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

fn run(config: Config, policies: Policies, args: &Args) -> Result<()> {
    keep_memory_private().and_then(|()| forbid_core_dumps()).context("cannot keep this process's memory private")?;
    logging::start(config.log_level);
    make_room(config.connections_max);
    see_the_nodes_cgroups()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    match runtime.block_on(serve(config, policies, args.take_over))? {
        // What the runtime still holds ends with this.
        End::Relieved if args.stay => idle::become_idle(&args.config),
        End::Relieved | End::Stopped => Ok(()),
    }
}

/// Nothing, until it is stopped.
fn rest(config: Config) -> Result<()> {
    logging::start(config.log_level);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        info!("idle until stopped: this agent enforces nothing");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = idle::serve(config.metrics_listen, CancellationToken::new()) => {}
        }
        Ok(())
    })
}

async fn serve(config: Config, policies: Policies, take_over: bool) -> Result<End> {
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
    publish(&config.runtime_dir, &authority)?;
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
    let stopping = CancellationToken::new();
    let listener = control::listen(&socket)?;
    let control = tokio::spawn(control::serve(Arc::clone(&agent), listener, socket.clone(), stopping.clone()));
    let metrics = agent.metrics_address().map_or_else(|| "none".to_owned(), |address| address.to_string());
    info!(control = %socket.display(), %metrics, "ready");
    let mut end = tokio::select! {
        _ = terminate.recv() => End::Stopped,
        _ = interrupt.recv() => End::Stopped,
        () = agent.handed_over().cancelled() => End::Relieved,
    };
    info!("stopping; enforcement stays on");
    stopping.cancel();
    {
        let mut stopped = pin!(agent.stop());
        loop {
            tokio::select! {
                () = &mut stopped => break,
                // A relieved agent may be told to stop while its open calls end.
                _ = terminate.recv() => end = End::Stopped,
                _ = interrupt.recv() => end = End::Stopped,
            }
        }
    }
    control.await.context("the control socket's task failed")??;
    Ok(end)
}

/// Shows the CA: to the host as `ca.pem`, to pods as the directory that they mount.
fn publish(runtime_dir: &Path, authority: &Authority) -> Result<()> {
    let store = authority.truststore_p12(callgate_trust::variables::PASSWORD)?;
    let files = NodeFiles::write(&runtime_dir.join(TRUST_DIR), &authority.ca_pem(), &authority.bundle_pem(), &store)?;
    let (from, to) = (files.directory().join(NodeFiles::CA), runtime_dir.join(NodeFiles::CA));
    if std::fs::read(&to).ok() != std::fs::read(&from).ok() {
        let new = to.with_extension("pem.new");
        std::fs::copy(from, &new)
            .and_then(|_| std::fs::rename(&new, &to))
            .with_context(|| format!("cannot write `{}`", to.display()))?;
    }
    Ok(())
}
