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

use libtest_mimic::{Arguments, Failed, Trial};

/// A test; an error or a panic fails it.
type Case = (&'static str, fn() -> anyhow::Result<()>);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(client::FLAG) {
        return client::main();
    }
    let tables: [&[Case]; 6] =
        [severs::CASES, guards::CASES, hands::CASES, families::CASES, life::CASES, lineage::CASES];
    let mut arguments = Arguments::from_args();
    if !arguments.list {
        if !rustix::process::geteuid().is_root() {
            eprintln!("these tests load kernel programs: run as root");
            return ExitCode::FAILURE;
        }
        match callgate_harness::sweep() {
            Ok(left) => left.iter().for_each(|what| println!("swept: {what}")),
            Err(error) => eprintln!("sweep: {error:#}"),
        }
    }
    // Each case has threads and clients of its own.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let trial = |(name, run): &Case| {
        let run = *run;
        Trial::test(*name, move || run().map_err(|error| Failed::from(format!("{error:?}"))))
    };
    libtest_mimic::run(&arguments, tables.concat().iter().map(trial).collect()).exit_code()
}
