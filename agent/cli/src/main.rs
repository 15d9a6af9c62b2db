//! `callgate`: the command.

use std::process::ExitCode;

use callgate::commands::{
    USAGE, audit, control, discover, doctor, install, mask, policy, run, session, status, uninstall,
};
use callgate::run::stage;
use callgate_daemon::Unfit;
use callgate_model::causes;
use clap::{Parser, Subcommand};

/// A checkpoint for every call that leaves this node.
#[derive(Debug, Parser)]
#[command(
    name = "callgate",
    version,
    after_help = "First steps:\n  callgate policy init callgate\n  sudo callgate run -- curl -sS https://example.org/\n  sudo callgate audit search --limit 5"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one command behind the gate
    Run(run::RunArgs),
    /// Read the audit trail
    Audit(audit::AuditArgs),
    /// Read sessions: all calls of one run, in order
    Session(session::SessionArgs),
    /// Tell what workloads call, by whom, and what policy would say of it
    Discover(discover::DiscoverArgs),
    /// Write and check policies
    Policy(policy::PolicyArgs),
    /// Mask personal data and secrets from standard input to standard output
    Mask(mask::MaskArgs),
    /// List what is enrolled on this host
    Workloads(control::WorkloadsArgs),
    /// Enrol a cgroup
    Enroll(control::EnrollArgs),
    /// End the enrolment of a cgroup
    Unenroll(control::UnenrollArgs),
    /// Tell how the agent of this host is
    Status(status::StatusArgs),
    /// Try what the kernel can do, and say what is missing
    Doctor(doctor::DoctorArgs),
    /// Let systemd run agent and collector on this host
    Install(install::InstallArgs),
    /// End enforcement on this host, and remove what is left in the kernel
    Uninstall(uninstall::UninstallArgs),
}

fn main() -> ExitCode {
    // Before anything else: the stage must be single-threaded and have no descriptor of ours.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == stage::SUBCOMMAND) {
        return stage::main(&arguments.collect::<Vec<_>>());
    }
    let result = match Cli::parse().command {
        Command::Run(args) => return run::run(&args),
        Command::Audit(args) => audit::run(args),
        Command::Session(args) => session::run(args),
        Command::Policy(args) => policy::run(args),
        Command::Mask(args) => mask::run(&args),
        Command::Workloads(args) => block_on(control::workloads(args)),
        Command::Enroll(args) => block_on(control::enroll(args)),
        Command::Unenroll(args) => block_on(control::unenroll(args)),
        Command::Status(args) => block_on(status::status(args)),
        Command::Doctor(args) => block_on(doctor::run(args)),
        Command::Discover(args) => discover::run(&args),
        Command::Install(args) => install::run(&args),
        Command::Uninstall(args) => uninstall::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("callgate: {}", causes(error.as_ref()));
        if error.downcast_ref::<Unfit>().is_some() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
    })
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
