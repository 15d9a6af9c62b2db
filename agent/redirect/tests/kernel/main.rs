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

use libtest_mimic::{Arguments, Failed, Trial};

/// A test; an error or a panic fails it.
type Case = (&'static str, fn() -> anyhow::Result<()>);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(client::FLAG) {
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
    // Each case has threads and a client of its own.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let trial = |(name, run): &Case| {
        let run = *run;
        Trial::test(*name, move || run().map_err(|error| Failed::from(format!("{error:?}"))))
    };
    libtest_mimic::run(&arguments, tables.concat().iter().map(trial).collect()).exit_code()
}
