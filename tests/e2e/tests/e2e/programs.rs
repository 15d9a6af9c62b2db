//! A connection is its program's: neither an exec nor a fork after `connect()` lends it another one's rights.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site};
use callgate_harness::{Running, run};
use rustix::process::Signal;

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("a_rule_that_names_an_executable_holds_for_it_alone", alone).needs(&["netns", "python3"]),
    Case::new("a_child_calls_with_the_rights_of_the_program_that_connected", forked).needs(&["netns", "python3"]),
    Case::new("an_exec_before_the_agent_looks_lends_nothing", executed).needs(&["netns", "python3"]),
    Case::new("a_process_older_than_its_enrolment_has_its_executable", older).needs(&["netns", "python3"]),
];

const PATIENCE: Duration = Duration::from_secs(30);

/// Two programs that do the same, of which policy permits one.
struct Programs {
    site: Site,
    permitted: PathBuf,
    other: PathBuf,
}

impl Programs {
    fn new() -> Result<Self> {
        let mut site = Site::without_agent()?;
        let (permitted, other) = (site.path("permitted"), site.path("other"));
        let python = std::fs::read(std::fs::canonicalize(PYTHON)?)?;
        for (path, more) in [(&permitted, &b""[..]), (&other, &b"\n"[..])] {
            std::fs::write(path, [&python, more].concat())?;
            rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o755))?;
        }
        let policy = format!(
            "@id(\"one-program\") permit (principal, action == Callgate::Action::\"call\", resource) \
             when {{ context has executable && context.executable.sha256 == \"{}\" }};",
            digest(&permitted)?
        );
        site.write("policies/site.cedar", &policy)?;
        site.start_collector()?;
        site.start_agent()?;
        Ok(Self { site, permitted, other })
    }

    fn enrol(&self) -> Result<()> {
        self.site.callgate(&["enroll", &self.site.enrolled.display().to_string(), "--name", "site"])?.ok().map(drop)
    }

    /// Starts `program` in `mode`; it waits for a line before it connects.
    fn start(&self, program: &Path, mode: &str, other: &Path) -> Result<Running> {
        let to = self.site.plain.address();
        let url = self.site.plain_url("");
        let host = url.strip_prefix("http://").context("a URL")?.trim_end_matches('/');
        let mut command = self.site.inside(&program.display().to_string());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/program.py"));
        command.args([mode, &to.ip().to_string(), &to.port().to_string(), host, &other.display().to_string()]);
        let running = Running::start(command)?;
        running.line(PATIENCE, |line| line == "here")?;
        Ok(running)
    }

    /// The digest on record of the only call.
    fn recorded(&self) -> Result<Option<String>> {
        let records = self.site.records("begin", "the call", |records| !records.is_empty())?;
        ensure!(records.len() == 1, "{records:?}");
        Ok(records[0]["process"]["executable"]["sha256"].as_str().map(str::to_owned))
    }
}

fn digest(file: &Path) -> Result<String> {
    let mut command = Command::new("sha256sum");
    command.arg(file);
    let told = run(command, PATIENCE)?.ok()?.stdout;
    Ok(told.split(' ').next().context("a digest")?.to_owned())
}

fn answer(running: &mut Running) -> Result<String> {
    running.write("\n")?;
    running.line(PATIENCE, |line| line.starts_with("answer"))
}

fn alone() -> Result<()> {
    let programs = Programs::new()?;
    programs.enrol()?;
    let permitted = answer(&mut programs.start(&programs.permitted, "call", &programs.other)?)?;
    ensure!(permitted == "answer 200", "{permitted}");
    ensure!(programs.recorded()? == Some(digest(&programs.permitted)?));
    let other = answer(&mut programs.start(&programs.other, "call", &programs.permitted)?)?;
    ensure!(other == "answer 403", "{other}");
    Ok(())
}

/// The other program connects; its parent becomes the permitted one; the child calls.
fn forked() -> Result<()> {
    let programs = Programs::new()?;
    programs.enrol()?;
    let said = answer(&mut programs.start(&programs.other, "fork", &programs.permitted)?)?;
    ensure!(said == "answer 403", "{said}");
    ensure!(programs.site.plain.request_count() == 0);
    // The agent looked as it accepted, which the exec may have come before.
    let recorded = programs.recorded()?;
    ensure!(recorded.is_none() || recorded == Some(digest(&programs.other)?), "{recorded:?}");
    Ok(())
}

/// The agent is stopped while the other program connects and becomes the permitted one, which then calls.
fn executed() -> Result<()> {
    let mut programs = Programs::new()?;
    programs.enrol()?;
    let mut running = programs.start(&programs.other, "exec", &programs.permitted)?;
    let (pid, permitted) = (running.pid(), programs.permitted.clone());
    programs.site.agent()?.signal(Signal::STOP)?;
    running.write("\n")?;
    let became = callgate_harness::eventually("the exec", PATIENCE, || {
        std::fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|now| *now == permitted)
    });
    programs.site.agent()?.signal(Signal::CONT)?;
    became?;
    let said = running.line(PATIENCE, |line| line.starts_with("answer"))?;
    ensure!(said == "answer 403", "{said}");
    ensure!(programs.site.plain.request_count() == 0);
    ensure!(programs.recorded()?.is_none(), "the program of another moment is on record");
    Ok(())
}

/// It was never seen to execute anything: what it executes when it connects counts.
fn older() -> Result<()> {
    let programs = Programs::new()?;
    let mut running = programs.start(&programs.permitted, "call", &programs.other)?;
    programs.enrol()?;
    let said = answer(&mut running)?;
    ensure!(said == "answer 200", "{said}");
    // Nobody within the enrolment started it.
    let begun = |records: &[serde_json::Value]| records.iter().any(|record| record["kind"] == "begin");
    let records = programs.site.records("", "the call", begun)?;
    let begin = records.iter().find(|record| record["kind"] == "begin").context("the call")?;
    let lineage = &begin["process"]["lineage"];
    let ancestors = lineage["ancestors"].as_array().map_or(0, Vec::len);
    ensure!(ancestors == 0 && lineage["end"] == "entry", "{begin}");
    Ok(())
}
