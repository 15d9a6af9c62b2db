//! The programs on the real kernel, as root: every hook, every refusal, and the life of the pins.
//!
//! One file a subject, each with its table `CASES`. The client is this same binary, started again inside the cgroup
//! under test: it is born there, as a workload is.

mod attest;
mod churn;
mod client;
mod dns;
mod fail;
mod life;
mod namespaces;
mod odd;
mod operator;
mod places;
mod redirects;
mod refusals;
mod strict;
mod world;

use std::process::ExitCode;

use callgate_harness::client::is_client;
use callgate_harness::{Case, run_cases};

fn main() -> ExitCode {
    if is_client() {
        return client::main();
    }
    let tables: [&[Case]; 12] = [
        redirects::CASES,
        refusals::CASES,
        odd::CASES,
        dns::CASES,
        life::CASES,
        fail::CASES,
        places::CASES,
        namespaces::CASES,
        operator::CASES,
        churn::CASES,
        attest::CASES,
        strict::CASES,
    ];
    run_cases(&tables, 4)
}
