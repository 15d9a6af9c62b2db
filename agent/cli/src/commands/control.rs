//! `callgate enroll|unenroll|workloads`: talks to the agent of this host over its control socket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use callgate_daemon::{RUNTIME_DIR, control};
use callgate_model::WorkloadName;
use callgate_proto::v1::control_client::ControlClient;
use callgate_proto::v1::{EnrollRequest, EnrolledWorkload, FailMode, Mode, UnenrollRequest, WorkloadsRequest};
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// Where the agent is.
#[derive(Debug, Args)]
pub struct SocketArgs {
    /// Control socket of the agent
    #[arg(long, value_name = "PATH", default_value_os_t = control::socket_path(Path::new(RUNTIME_DIR)))]
    pub(super) socket: PathBuf,
}

/// `callgate enroll`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  callgate enroll system.slice/shop.service --name shop\n\nExit codes: 0 enrolled, 1 refused or no agent, 2 usage"
)]
pub struct EnrollArgs {
    /// Directory of the cgroup: absolute, or below the cgroup v2 mount
    path: PathBuf,
    /// Name in policies and records: the workload becomes `cgroup/NAME` [default: the path]
    #[arg(long)]
    name: Option<WorkloadName>,
    /// Replace an enrolment of the same cgroup under another name, in another mode, or that fails otherwise
    #[arg(long)]
    replace: bool,
    /// What holds while no agent is alive
    #[arg(long, value_enum, default_value_t = Fail::Closed)]
    fail: Fail,
    /// Refuse nothing, record every would-be verdict
    #[arg(long)]
    observe: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// What holds while no agent is alive.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fail {
    /// New connections are refused
    Closed,
    /// TCP and DNS go past the gate; counted, and an alarm when an agent is back
    Open,
    /// As open, and each connection is recorded
    Observe,
}

/// `callgate unenroll`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  callgate unenroll system.slice/shop.service\n\nWhere no agent runs, the enrolment is ended by its pins and its file (needs root).\n\nExit codes: 0 ended, 1 not enrolled or failed, 2 usage or configuration"
)]
pub struct UnenrollArgs {
    /// Directory of the cgroup: absolute, or below the cgroup v2 mount
    path: PathBuf,
    /// Configuration file of the agent (TOML), for where its state is if it does not run [default: that of the host]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArgs,
}

/// `callgate workloads`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  callgate workloads --json | jq -r .id\n\nExit codes: 0 listed, 1 no agent, 2 usage"
)]
pub struct WorkloadsArgs {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Enrols a cgroup.
///
/// # Errors
/// If no agent answers, or it refuses.
pub async fn enroll(args: EnrollArgs) -> Result<ExitCode> {
    let mut agent = connect(&args.socket.socket).await?;
    let request = EnrollRequest {
        path: text(&args.path)?,
        name: args.name.map(String::from).unwrap_or_default(),
        mode: if args.observe { Mode::Observe } else { Mode::Enforce } as i32,
        replace: args.replace,
        fail: match args.fail {
            Fail::Closed => FailMode::Closed,
            Fail::Open => FailMode::Open,
            Fail::Observe => FailMode::Observe,
        } as i32,
    };
    let reply = agent.enroll(request).await.map_err(refused)?.into_inner();
    let workload = reply.workload.context("the agent's answer is empty")?;
    if args.json {
        println!("{}", object(&workload));
    } else {
        let already = if reply.already { "already " } else { "" };
        let (mode, fail) = (mode(&workload), fail(&workload));
        println!("{already}enrolled `{}` ({mode}, fails {fail}), cgroup {}", workload.id, workload.cgroup);
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends an enrolment.
///
/// # Errors
/// If no agent answers, or the cgroup is not enrolled.
pub async fn unenroll(args: UnenrollArgs) -> Result<ExitCode> {
    let mut agent = match connect(&args.socket.socket).await {
        Ok(agent) => agent,
        Err(gone) => return crate::offline::unenroll(args.config.as_deref(), &args.path, &gone),
    };
    agent.unenroll(UnenrollRequest { path: text(&args.path)? }).await.map_err(refused)?;
    println!("`{}` is no longer enrolled", args.path.display());
    Ok(ExitCode::SUCCESS)
}

/// Lists what is enrolled.
///
/// # Errors
/// If no agent answers.
pub async fn workloads(args: WorkloadsArgs) -> Result<ExitCode> {
    let mut agent = connect(&args.socket.socket).await?;
    let reply = agent.workloads(WorkloadsRequest {}).await.map_err(refused)?.into_inner();
    if args.json {
        for workload in &reply.workloads {
            println!("{}", object(workload));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if reply.workloads.is_empty() {
        println!("nothing is enrolled: `callgate enroll PATH` enrols a cgroup");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "WORKLOAD",
        "MODE",
        "FAIL",
        "TRUST",
        "CONNECTIONS",
        "CALLS",
        "CGROUP",
    ]);
    for w in &reply.workloads {
        let counts = (w.connections.to_string(), w.calls.to_string());
        table.add_row([w.id.as_str(), mode(w), fail(w), &w.trust, &counts.0, &counts.1, &w.cgroup_path]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// Connects to the control socket.
pub(super) async fn connect(socket: &Path) -> Result<ControlClient<Channel>> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The name is never resolved: the connector dials the socket.
    let channel = Endpoint::from_static("http://callgate.invalid").connect_with_connector(connector).await;
    let channel = channel.map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        anyhow::anyhow!(
            "no agent answers at `{}` ({cause}): is `callgate-agent` running, and are you root?",
            socket.display()
        )
    })?;
    Ok(ControlClient::new(channel))
}

/// What the agent said; what is no agent says nothing, or something that is no answer.
pub(super) fn refused(status: tonic::Status) -> anyhow::Error {
    let answered = matches!(
        status.code(),
        tonic::Code::FailedPrecondition | tonic::Code::NotFound | tonic::Code::InvalidArgument | tonic::Code::Internal
    );
    match (status.message(), answered) {
        ("", _) | (_, false) => {
            anyhow::anyhow!(
                "what listens there does not answer as an agent does ({}): is it another socket?",
                status.code()
            )
        }
        (message, true) => anyhow::anyhow!("{message}"),
    }
}

fn text(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("`{}` is not UTF-8", path.display()),
    }
}

pub(super) fn mode(workload: &EnrolledWorkload) -> &'static str {
    if workload.mode() == Mode::Observe { "observe" } else { "enforce" }
}

pub(super) fn fail(workload: &EnrolledWorkload) -> &'static str {
    match workload.fail() {
        FailMode::Open => "open",
        FailMode::Observe => "observe",
        FailMode::Closed | FailMode::Unspecified => "closed",
    }
}

pub(super) fn object(workload: &EnrolledWorkload) -> serde_json::Value {
    json!({
        "id": workload.id, "cgroup": workload.cgroup, "cgroup_path": workload.cgroup_path, "mode": mode(workload),
        "fail": fail(workload),
        "trust": workload.trust, "session": Uuid::from_slice(&workload.session).ok(), "weakened": workload.weakened,
        "connections": workload.connections, "calls": workload.calls,
    })
}
