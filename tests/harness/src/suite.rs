//! The runner of tests on the real kernel: root, what killed runs left is swept, two sides of one binary.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test; an error or a panic fails it.
pub type Case = (&'static str, fn() -> anyhow::Result<()>);

/// Runs what the command line asks for, `threads` at a time unless it says otherwise.
#[must_use]
pub fn run_cases(cases: &[&[Case]], threads: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if !arguments.list {
        if !rustix::process::geteuid().is_root() {
            eprintln!("these tests load kernel programs: run as root");
            return ExitCode::FAILURE;
        }
        match crate::sweep() {
            Ok(left) => left.iter().for_each(|what| println!("swept: {what}")),
            Err(error) => eprintln!("sweep: {error:#}"),
        }
    }
    // Each case has threads and clients of its own.
    arguments.test_threads = arguments.test_threads.or(Some(threads));
    let trial = |(name, run): &Case| {
        let run = *run;
        Trial::test(*name, move || run().map_err(|error| Failed::from(format!("{error:?}"))))
    };
    libtest_mimic::run(&arguments, cases.concat().iter().map(trial).collect()).exit_code()
}
