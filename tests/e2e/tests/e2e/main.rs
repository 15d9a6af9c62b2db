//! Every test on the real kernel, in one binary; one file a subject, each with its table `CASES`.

mod clients;
mod daemon;
mod dns;
mod failure;
mod floods;
mod heads;
mod machine;
mod run;
mod size;

fn main() -> std::process::ExitCode {
    let cases = [
        machine::CASES,
        daemon::CASES,
        dns::CASES,
        run::CASES,
        clients::CASES,
        floods::CASES,
        size::CASES,
        heads::CASES,
        failure::CASES,
    ];
    callgate_e2e::main(&cases)
}
