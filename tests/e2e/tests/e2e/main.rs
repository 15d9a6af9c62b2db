//! Every test on the real kernel, in one binary; one file a subject, each with its table `CASES`.

mod daemon;
mod failure;
mod heads;
mod machine;
mod run;

fn main() -> std::process::ExitCode {
    callgate_e2e::main(&[machine::CASES, daemon::CASES, run::CASES, heads::CASES, failure::CASES])
}
