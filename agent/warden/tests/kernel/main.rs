//! The warden on the real kernel, as root: every way around the redirect that it closes, and that it closes no other.
//!
//! One file a subject, each with its table `CASES`. The workload is this same binary, started again inside a cgroup of
//! the test's own. The redirect is not loaded: what is refused here, the warden refused.

mod client;
mod families;
mod guards;
mod hands;
mod life;
mod lineage;
mod odd_calls;
mod severs;
mod world;

use std::process::ExitCode;

use callgate_harness::client::is_client;
use callgate_harness::{Case, run_cases};

fn main() -> ExitCode {
    if is_client() {
        return client::main();
    }
    let tables: [&[Case]; 6] =
        [severs::CASES, guards::CASES, hands::CASES, families::CASES, life::CASES, lineage::CASES];
    run_cases(&tables, 2)
}
