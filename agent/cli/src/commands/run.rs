//! `callgate run -- CMD`: one command behind the gate, with an agent and a collector of its own in this process.
//!
//! Wiring only: what CMD is locked into is in [`crate::run`], what serves it in `callgate-daemon`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate_collector::{Listen, Server, Store};
use callgate_daemon::{Agent, Config, Policies, STATE_DIR, Setup, Tally, logging};
use callgate_enroll::cgroup;
use callgate_identity::Authority;
use callgate_model::{EnrolmentChange, FailMode, Mode, SessionId, Workload, WorkloadName, causes};

use clap::Args;

use super::{RUN_FAILED, USAGE};
use crate::run::{Child, Interrupts, Invoker, RunCgroup, Sandbox, Trust, find_policies};
use crate::sweep;

/// How long tasks that were given up may take to notice.
const GIVE_UP: Duration = Duration::from_millis(500);

/// `callgate run`
#[derive(Debug, Args)]
#[command(
    trailing_var_arg = true,
    after_help = "Examples:
  sudo callgate run --policy ./callgate -- curl https://api.example.com/v1/users/7
  sudo callgate run --observe -- python3 agent.py

CMD and all its children run as the invoking user, in a cgroup of their own, behind the gate from the first instruction.
Without --policy, policies are those of the configuration's `policy_dir`, of ./callgate, or of the user's ~/.config/callgate/policies: the first that there is.

Exit codes: CMD's own (128+N if ended by signal N), 2 usage, configuration or no policy, 125 callgate failed, 126 CMD cannot be executed, 127 CMD not found, 130 or 143 if a second Ctrl-C or SIGTERM cut the last records' shipping short"
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
    name: Option<WorkloadName>,
    /// Collector to ship records to: https://HOST:PORT (with the configuration's [collector_tls]), http://ADDRESS:PORT or unix:PATH [default: an embedded one]
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
    let (config, policies) = match prepare(args, &invoker) {
        Ok(Some(prepared)) => prepared,
        Ok(None) => {
            eprintln!(
                "callgate: no policy: 'callgate policy init DIR' writes one, '--observe' records without refusing"
            );
            return ExitCode::from(USAGE);
        }
        Err(error) => {
            eprintln!("callgate: {}", causes(error.as_ref()));
            return ExitCode::from(USAGE);
        }
    };
    match start(args, &invoker, config, policies) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("callgate: {}", causes(error.as_ref()));
    ExitCode::from(RUN_FAILED)
}

/// What the operator wrote: configuration and policies; none without any policy.
fn prepare(args: &RunArgs, invoker: &Invoker) -> Result<Option<(Config, Policies)>> {
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    if let Some(collector) = &args.collector {
        config.collector = Some(collector.clone());
    }
    callgate_daemon::check(&config)?;
    // Each run has its own agent; a fixed port could serve only one of them.
    config.metrics_listen = config.metrics_listen.filter(|address| address.port() == 0);
    let level = toml::Value::String(args.log.clone()).try_into().context("`--log` is not a level")?;
    logging::start(level);
    let directory = args.policy.clone().or_else(|| config.policy_dir.clone()).or_else(|| find_policies(invoker));
    let policies = match directory {
        Some(directory) => Policies::load(&directory, &config.detectors()?)?,
        None if args.observe => Policies::none(),
        None => return Ok(None),
    };
    Ok(Some((config, policies)))
}

fn start(args: &RunArgs, invoker: &Invoker, config: Config, policies: Policies) -> Result<ExitCode> {
    callgate_daemon::keep_memory_private().context("cannot keep this process's memory private")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let code = runtime.block_on(conduct(args, invoker, config, policies));
    // What is still under way was given up.
    runtime.shutdown_timeout(GIVE_UP);
    code
}

async fn conduct(args: &RunArgs, invoker: &Invoker, mut config: Config, policies: Policies) -> Result<ExitCode> {
    for stale in sweep::sweep(&config).await? {
        eprintln!("callgate: removed what the crashed `{stale}` left");
    }
    let session = SessionId::new();
    let id = session.0.simple().to_string();
    let instance = format!("run-{id}");
    let (collector, store) = (config.collector.clone(), config.state_dir.join("store"));
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
        inheritance: None,
        run: Some(trust.directory().to_owned()),
        // Without its filter the stage starts no CMD, so that what is asked for is in force.
        has_seccomp: !args.allow_setuid,
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
    let bound = Duration::from_secs(config.drain_timeout_s);
    let stopped = Interrupts::catch()?.unless_twice(bound, async {
        agent.stop().await;
        if let Some(server) = embedded {
            server.stop().await;
        }
    });
    let cut = stopped.await.err();
    let shipped = agent.all_shipped();
    let spool = agent.spool_dir();
    agent.tear_down()?;
    if shipped {
        std::fs::remove_dir_all(&spool).with_context(|| format!("cannot remove the spool `{}`", spool.display()))?;
    } else {
        eprintln!("callgate: not every record was shipped: `{}` keeps them, the next run ships them", spool.display());
    }
    if let Some(code) = cut {
        return Ok(ExitCode::from(code));
    }
    let (code, tally) = ended?;
    if !args.quiet {
        // CMD's output may end without a newline.
        eprintln!(
            "\ncallgate: {}; replay: {}",
            summary(&tally),
            replay(invoker, session, collector.as_deref(), &store)
        );
    }
    Ok(ExitCode::from(code))
}

/// What the run did, in counts; those that are 0 as a rule are left out when they are.
fn summary(tally: &Tally) -> String {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let calls = count(&tally.calls);
    let mut parts = vec![plural(calls, "call"), format!("{} denied", count(&tally.denied))];
    parts.extend(some(count(&tally.observed), |n| format!("{n} would be denied (observed)")));
    parts.extend(some(count(&tally.failed), |n| format!("{n} failed")));
    parts.push(format!("{} masked", plural(count(&tally.masked), "finding")));
    parts.extend(some(count(&tally.kernel), |n| format!("{} by the kernel", plural(n, "refusal"))));
    parts.join(", ")
}

fn plural(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn some(n: u64, say: impl Fn(u64) -> String) -> Option<String> {
    (n > 0).then(|| say(n))
}

/// The command that shows this session, as it can be pasted into the shell that `run` was started from.
fn replay(invoker: &Invoker, session: SessionId, collector: Option<&str>, store: &Path) -> String {
    let sudo = if invoker.switched { "sudo " } else { "" };
    let place = match collector {
        Some(url) => format!(" --collector {}", quoted(url)),
        None if store == Path::new(STATE_DIR).join("store") => String::new(),
        None => format!(" --store {}", quoted(&store.display().to_string())),
    };
    format!("{sudo}callgate session show {session}{place}")
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+@%,=".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
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

fn name(args: &RunArgs) -> Result<WorkloadName> {
    if let Some(name) = &args.name {
        return Ok(name.clone());
    }
    let command = args.command.first().context("no command")?;
    let file = Path::new(command).file_name().unwrap_or(command);
    Ok(WorkloadName::near(&file.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_denied_from_observed_and_failed() {
        let tally = Tally::default();
        assert_eq!(summary(&tally), "0 calls, 0 denied, 0 findings masked");
        tally.calls.store(1, Ordering::Relaxed);
        tally.observed.store(1, Ordering::Relaxed);
        tally.masked.store(1, Ordering::Relaxed);
        assert_eq!(summary(&tally), "1 call, 0 denied, 1 would be denied (observed), 1 finding masked");
        let tally = Tally::default();
        tally.calls.store(3, Ordering::Relaxed);
        tally.denied.store(1, Ordering::Relaxed);
        tally.failed.store(2, Ordering::Relaxed);
        tally.kernel.store(1, Ordering::Relaxed);
        assert_eq!(summary(&tally), "3 calls, 1 denied, 2 failed, 0 findings masked, 1 refusal by the kernel");
    }

    #[test]
    fn the_replay_can_be_pasted() {
        let mut invoker = Invoker::current().unwrap();
        invoker.switched = true;
        let id = SessionId::new();
        let default = Path::new(STATE_DIR).join("store");
        assert_eq!(replay(&invoker, id, None, &default), format!("sudo callgate session show {id}"));
        invoker.switched = false;
        let odd = Path::new("/tmp/it's mine");
        assert_eq!(replay(&invoker, id, None, odd), format!(r"callgate session show {id} --store '/tmp/it'\''s mine'"));
        let url = Some("unix:/run/c.sock");
        assert_eq!(replay(&invoker, id, url, odd), format!("callgate session show {id} --collector unix:/run/c.sock"));
    }
}
