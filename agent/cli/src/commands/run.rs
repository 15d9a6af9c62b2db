//! `callgate run -- CMD`: one command behind the gate, with an agent and a collector of its own in this process.
//!
//! Wiring only: what CMD is locked into is in [`crate::run`], what serves it in `callgate-daemon`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use callgate_collector::{Listen, Server, Store};
use callgate_daemon::{Agent, Config, Policies, Setup, logging};
use callgate_enroll::cgroup;
use callgate_identity::Authority;
use callgate_model::{EnrolmentChange, FailMode, Mode, SessionId, Workload};
use clap::Args;

use super::{RUN_FAILED, USAGE};
use crate::run::{Child, Invoker, RunCgroup, Sandbox, Trust, find_policies};
use crate::sweep;

/// `callgate run`
#[derive(Debug, Args)]
#[command(
    trailing_var_arg = true,
    after_help = "Examples:
  sudo callgate run --policy ./callgate -- curl https://api.example.com/v1/users/7
  sudo callgate run --observe -- python3 agent.py

CMD and all its children run as the invoking user, in a cgroup of their own, behind the gate from the first instruction.
Without --policy, policies are looked for in ./callgate and in the user's ~/.config/callgate/policies.

Exit codes: CMD's own (128+N if ended by signal N), 2 usage or no policy, 125 callgate failed, 126 CMD cannot be executed, 127 CMD not found"
)]
pub struct RunArgs {
    /// Directory of *.cedar policies
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Configuration file of the agent (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the workload in policies and records: it becomes `run/NAME` [default: CMD's file name]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Collector to ship records to: http://ADDRESS:PORT or unix:PATH [default: an embedded one]
    #[arg(long, value_name = "URL")]
    collector: Option<String>,
    /// Refuse nothing, record every would-be verdict
    #[arg(long)]
    observe: bool,
    /// Let CMD gain privileges by setuid programs (recorded)
    #[arg(long)]
    allow_setuid: bool,
    /// Leave this path visible to CMD, which is hidden otherwise (recorded)
    #[arg(long, value_name = "PATH")]
    expose: Vec<PathBuf>,
    /// Run where the kernel has no Landlock (recorded)
    #[arg(long)]
    without_landlock: bool,
    /// No summary at the end
    #[arg(short, long)]
    quiet: bool,
    /// Log level: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    log: String,
    /// The command, with its arguments
    #[arg(required = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

/// Runs CMD; the exit code is CMD's.
///
/// # Errors
/// Whatever keeps CMD from being started behind the gate. CMD is then not started at all.
pub fn run(args: &RunArgs) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        eprintln!("callgate: `run` loads kernel programs, so it needs root: `sudo callgate run …` runs CMD as you");
        return ExitCode::from(RUN_FAILED);
    }
    let invoker = match Invoker::current() {
        Ok(invoker) => invoker,
        Err(error) => return failed(&error),
    };
    let policy = match args.policy.clone().or_else(|| find_policies(&invoker)) {
        Some(directory) => Some(directory),
        None if args.observe => None,
        None => {
            eprintln!("no policy: 'callgate policy init DIR' writes one, '--observe' records without refusing");
            return ExitCode::from(USAGE);
        }
    };
    match start(args, &invoker, policy.as_deref()) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("callgate: {error:#}");
    ExitCode::from(RUN_FAILED)
}

fn start(args: &RunArgs, invoker: &Invoker, policy: Option<&Path>) -> Result<ExitCode> {
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    if let Some(collector) = &args.collector {
        config.collector = Some(collector.clone());
    }
    // Each run has its own agent; a fixed port could serve only one of them.
    config.metrics_listen = config.metrics_listen.filter(|address| address.port() == 0);
    let level = toml::Value::String(args.log.clone()).try_into().context("`--log` is not a level")?;
    logging::start(level);
    let policies = match policy {
        Some(directory) => Policies::load(directory)?,
        None => Policies::none(),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(conduct(args, invoker, config, policies))
}

async fn conduct(args: &RunArgs, invoker: &Invoker, mut config: Config, policies: Policies) -> Result<ExitCode> {
    for stale in sweep::sweep(&config).await? {
        eprintln!("callgate: removed what the crashed `{stale}` left");
    }
    let session = SessionId::new();
    let id = session.0.simple().to_string();
    let instance = format!("run-{id}");
    let embedded = embed(&mut config, &instance).await?;
    let authority = Arc::new(Authority::new(&format!("Callgate run {id}"))?);
    let trust = Trust::write(&config.runtime_dir, &instance, &authority)?;
    let cgroup = RunCgroup::create(config.cgroup_root.as_deref(), &instance)?;
    let setup = Setup {
        instance,
        config: config.clone(),
        policies,
        authority,
        own_ports: Vec::new(),
        run: Some(trust.directory().to_owned()),
    };
    let agent = Agent::start(setup).await?;
    agent.expect_uid(invoker.uid);
    let sandbox = Sandbox {
        invoker: invoker.clone(),
        cgroup: cgroup.path().to_owned(),
        allow_setuid: args.allow_setuid,
        expose: args.expose.clone(),
        landlock: !args.without_landlock,
        hide: vec![config.state_dir.clone(), config.bpffs.clone()],
        trust: trust.directory().to_owned(),
        runtime_dir: config.runtime_dir.clone(),
    };
    let workload = Workload {
        id: format!("run/{}", name(args)?),
        cgroup: cgroup.id(),
        cgroup_path: cgroup.path().strip_prefix(cgroup::cgroup2_mount()?)?.to_owned(),
        mode: if args.observe { Mode::Observe } else { Mode::Enforce },
        fail: FailMode::Closed,
        session: Some(session),
        weakened: sandbox.weakened(),
    };
    let ended = match agent.enrol(workload, EnrolmentChange::Enrolled) {
        Ok(workload) => {
            let ended = Child::run(&sandbox, &args.command, trust.environment()).await;
            // Nobody is left in the cgroup before its enrolment ends.
            let emptied = cgroup.kill();
            let tally = agent.tally(workload.cgroup);
            agent.unenrol(&workload)?;
            emptied.and(ended).map(|code| (code, tally))
        }
        Err(error) => Err(error),
    };
    agent.stop().await;
    let shipped = agent.all_shipped();
    let spool = agent.spool_dir();
    agent.tear_down()?;
    if let Some(server) = embedded {
        server.stop().await;
    }
    if shipped {
        std::fs::remove_dir_all(&spool).with_context(|| format!("cannot remove the spool `{}`", spool.display()))?;
    } else {
        eprintln!("callgate: not every record was shipped: `{}` keeps them, the next run ships them", spool.display());
    }
    let (code, tally) = ended?;
    if !args.quiet {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        eprintln!(
            "callgate: {} calls, {} denied, {} findings masked, {} refusals by the kernel; callgate session show {session}",
            count(&tally.calls),
            count(&tally.denied),
            count(&tally.masked),
            count(&tally.kernel),
        );
    }
    Ok(ExitCode::from(code))
}

/// Starts the embedded collector, unless there is another one to ship to.
async fn embed(config: &mut Config, instance: &str) -> Result<Option<Server>> {
    if config.collector.is_some() {
        return Ok(None);
    }
    let store = Store::open(&config.state_dir.join("store"))?;
    let socket = config.state_dir.join(format!("{instance}.sock"));
    config.collector = Some(format!("unix:{}", socket.display()));
    Ok(Some(callgate_collector::serve(store, Listen::Unix(socket)).await?))
}

fn name(args: &RunArgs) -> Result<String> {
    if let Some(name) = &args.name {
        return Ok(name.clone());
    }
    let command = args.command.first().context("no command")?;
    let file = Path::new(command).file_name().unwrap_or(command);
    Ok(file.to_string_lossy().into_owned())
}
