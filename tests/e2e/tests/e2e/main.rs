//! Every test on the real kernel, in one binary; one file a subject, each with its table `CASES`.

mod clients;
mod daemon;
mod dns;
mod enrolment;
mod fail;
mod failure;
mod floods;
mod heads;
mod lineage;
mod links;
mod machine;
mod observe;
mod programs;
mod run;
mod size;
mod spaces;
mod trust;
mod upgrade;
mod warden;

fn main() -> std::process::ExitCode {
    let cases = [
        machine::CASES,
        daemon::CASES,
        dns::CASES,
        run::CASES,
        observe::CASES,
        clients::CASES,
        floods::CASES,
        size::CASES,
        heads::CASES,
        links::CASES,
        programs::CASES,
        lineage::CASES,
        enrolment::CASES,
        failure::CASES,
        fail::CASES,
        spaces::CASES,
        trust::CASES,
        upgrade::CASES,
        warden::CASES,
    ];
    callgate_e2e::main(&cases)
}
