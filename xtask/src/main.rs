//! The tasks of this repository, as `cargo xtask TASK`: one file each.
//!
//! Few dependencies on purpose: this is compiled first on every fresh machine.

mod bench;
mod bypass;
mod chart;
mod ci;
mod demo;
mod exec;
mod host;
mod image;
mod k8s;
mod paths;
mod setup;
mod steps;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the Callgate repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need, and is missing: Debian packages, the library source, tools.
    Setup,
    /// Build, and show the whole product at work on real input.
    Demo(demo::Options),
    /// Set up and run every test: unit, flow and, on the real kernel, e2e.
    Test(test::Options),
    /// Everything that a change must pass: what `.ci/run` calls.
    Ci,
    /// Check the rules of the repository: crate edges, file headers and lengths, forbidden words.
    Tidy,
    /// Measure.
    Bench(bench::Options),
    /// Try to reach something from an enrolled cgroup without passing the gate, in every known way.
    Bypass(bypass::Options),
    /// Make container images of the agent, the collector and the command line, without a registry.
    Image(image::Options),
    /// Render the chart of `deploy/kubernetes` into its folder `rendered`, and check it.
    Chart(chart::Options),
    /// Try the units of `deploy/systemd` under a real systemd, in namespaces of its own.
    Host,
    /// Try Callgate in a real Kubernetes: the cluster of KUBECONFIG, else one that is made on this machine.
    K8s(k8s::Options),
}

fn main() -> ExitCode {
    let result = match Options::parse().task {
        Task::Setup => setup::main(),
        Task::Demo(options) => demo::main(&options),
        Task::Test(options) => test::main(&options),
        Task::Ci => ci::main(),
        Task::Tidy => tidy::main(),
        Task::Bench(options) => bench::main(&options),
        Task::Bypass(options) => bypass::main(&options),
        Task::Image(options) => image::main(&options),
        Task::Chart(options) => chart::main(&options),
        Task::Host => host::main(),
        Task::K8s(options) => k8s::main(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
