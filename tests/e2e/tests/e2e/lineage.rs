//! Who started the program that calls: on record, and for policies to ask; no program lends its name to another's child.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site};
use callgate_harness::{Running, eventually, run};
use serde_json::Value;

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("the_record_of_a_call_names_who_started_the_program", on_record).needs(&["netns", "python3", "curl"]),
    Case::new("a_rule_that_names_an_ancestor_holds_below_it_alone", below_it).needs(&["netns", "python3", "curl"]),
    Case::new("a_parent_that_becomes_another_program_lends_its_child_nothing", becoming).needs(&["netns", "python3"]),
    Case::new("run_names_who_started_the_program", under_run).needs(&["netns", "curl"]),
    Case::new("lineages_outlive_the_agent", restarted).needs(&["netns", "python3", "curl"]),
];

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts what it is told, by a shell that stays, and waits for it.
const BY_SHELL: &str = "import subprocess, sys; subprocess.run(['sh', '-c', '\"$@\"; true', 'sh'] + sys.argv[1:])";

/// The same, once it is told to go.
const LATER: &str = "import subprocess, sys; print('here', flush=True); sys.stdin.readline(); \
                     subprocess.run(sys.argv[1:]); print()";

/// Starts what follows `--` and becomes what stands before.
const BECOMES: &str = "import os, subprocess, sys; at = sys.argv.index('--'); subprocess.Popen(sys.argv[at + 1:]); \
                       os.execv(sys.argv[1], sys.argv[1:at])";

/// Two programs that do the same, of which policy permits what the one starts.
struct Programs {
    site: Site,
    trusted: PathBuf,
    other: PathBuf,
}

impl Programs {
    fn new() -> Result<Self> {
        let mut site = Site::without_agent()?;
        let (trusted, other) = (site.path("trusted"), site.path("other"));
        let python = std::fs::read(std::fs::canonicalize(PYTHON)?)?;
        for (path, more) in [(&trusted, &b""[..]), (&other, &b"\n"[..])] {
            std::fs::write(path, [&python, more].concat())?;
            rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o755))?;
        }
        let policy = format!(
            "@id(\"below-one-program\") permit (principal, action == Callgate::Action::\"call\", resource) \
             when {{ context.lineage.ancestors.contains(\"{}\") }};",
            digest(&trusted)?
        );
        site.write("policies/site.cedar", &policy)?;
        site.start_collector()?;
        site.start_agent()?;
        site.callgate(&["enroll", &site.enrolled.display().to_string(), "--name", "site"])?.ok()?;
        Ok(Self { site, trusted, other })
    }

    /// `program`, which runs `script` to start curl.
    fn curl_by(&self, program: &Path, script: &str) -> Command {
        let mut command = self.site.inside(&program.display().to_string());
        command.args(["-c", script, "curl"]).args(self.site.curl_arguments());
        command.arg(self.site.plain_url("/v1/users/7"));
        command
    }
}

fn digest(file: &Path) -> Result<String> {
    let mut command = Command::new("sha256sum");
    command.arg(file);
    let told = run(command, PATIENCE)?.ok()?.stdout;
    Ok(told.split(' ').next().context("a digest")?.to_owned())
}

fn lineage(record: &Value) -> (Vec<&Value>, &Value) {
    let lineage = &record["process"]["lineage"];
    (lineage["ancestors"].as_array().map(|all| all.iter().collect()).unwrap_or_default(), &lineage["end"])
}

fn on_record() -> Result<()> {
    let programs = Programs::new()?;
    let said = run(programs.curl_by(&programs.trusted, BY_SHELL), PATIENCE)?.ok()?;
    ensure!(said.stdout.ends_with("\n200"), "{}{}", said.stdout, said.stderr);
    let records = programs.site.records("begin", "the call", |records| !records.is_empty())?;
    let (ancestors, end) = lineage(&records[0]);
    let [shell, starter] = ancestors.as_slice() else { anyhow::bail!("{}", records[0]) };
    let path = |one: &Value| one["path"].as_str().unwrap_or_default().to_owned();
    ensure!(path(shell).ends_with("sh") && path(starter) == programs.trusted.display().to_string(), "{ancestors:?}");
    ensure!(starter["sha256"] == digest(&programs.trusted)? && end == "entry", "{}", records[0]);
    ensure!(shell["sha256"] == digest(Path::new(&path(shell)))?, "{shell}");
    ensure!(shell["pid"] != starter["pid"] && records[0]["process"]["pid"] != shell["pid"], "{ancestors:?}");

    let call = records[0]["call"].as_str().context("a call")?;
    let shown = programs.site.callgate(&["audit", "show", call])?.ok()?.stdout;
    ensure!(shown.lines().any(|line| line.starts_with("started by") && line.ends_with("sh <- trusted")), "{shown}");
    Ok(())
}

fn below_it() -> Result<()> {
    let programs = Programs::new()?;
    let permitted = run(programs.curl_by(&programs.trusted, BY_SHELL), PATIENCE)?.ok()?;
    ensure!(permitted.stdout.ends_with("\n200"), "{}", permitted.stdout);
    let other = run(programs.curl_by(&programs.other, BY_SHELL), PATIENCE)?.ok()?;
    ensure!(other.stdout.ends_with("\n403"), "{}", other.stdout);
    // By itself, and under the other's name.
    let mut alone = programs.site.inside("curl");
    alone.args(programs.site.curl_arguments()).arg(programs.site.plain_url("/v1/users/7"));
    let alone = run(alone, PATIENCE)?.ok()?;
    ensure!(alone.stdout.ends_with("\n403"), "{}", alone.stdout);
    let named = programs.site.path("elsewhere/trusted");
    std::fs::create_dir(programs.site.path("elsewhere"))?;
    std::fs::copy(&programs.other, &named)?;
    let named = run(programs.curl_by(&named, BY_SHELL), PATIENCE)?.ok()?;
    ensure!(named.stdout.ends_with("\n403"), "{}", named.stdout);
    ensure!(programs.site.plain.request_count() == 1);
    Ok(())
}

/// The other program starts one that will call, and becomes the trusted one before that connects.
fn becoming() -> Result<()> {
    let programs = Programs::new()?;
    let to = programs.site.plain.address();
    let url = programs.site.plain_url("");
    let host = url.strip_prefix("http://").context("a URL")?.trim_end_matches('/');
    let trusted = programs.trusted.display().to_string();
    let mut command = programs.site.inside(&programs.other.display().to_string());
    // The trusted one leaves its standard input to its child.
    command.args(["-c", BECOMES, &trusted, "-c", "import time; time.sleep(600)", "--", PYTHON]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/program.py"));
    command.args(["call", &to.ip().to_string(), &to.port().to_string(), host, "-"]);
    let mut running = Running::start(command)?;
    running.line(PATIENCE, |line| line == "here")?;
    let parent = format!("/proc/{}/exe", running.pid());
    eventually("the exec", PATIENCE, || std::fs::read_link(&parent).ok().filter(|now| *now == programs.trusted))?;
    running.write("\n")?;
    let said = running.line(PATIENCE, |line| line.starts_with("answer"))?;
    ensure!(said == "answer 403", "{said}");
    let records = programs.site.records("begin", "the call", |records| !records.is_empty())?;
    let (ancestors, end) = lineage(&records[0]);
    ensure!(ancestors.len() == 1 && end == "entry", "{}", records[0]);
    ensure!(ancestors[0]["path"] == programs.other.display().to_string(), "{}", records[0]);
    ensure!(ancestors[0]["sha256"].is_null(), "what it executes no more cannot be read: {}", records[0]);
    Ok(())
}

fn under_run() -> Result<()> {
    let site = Site::without_agent()?;
    let arguments = site.curl_arguments();
    let url = site.plain_url("/v1/users/7");
    let mut command = vec!["sh", "-c", "\"$@\"; true", "sh", "curl"];
    command.extend(arguments.iter().map(String::as_str).chain([url.as_str()]));
    run(site.run(&[], &command)?, Duration::from_secs(60))?.ok()?;
    let records = site.records("begin", "the call", |records| !records.is_empty())?;
    let (ancestors, end) = lineage(&records[0]);
    ensure!(ancestors.len() == 1 && end == "entry", "{}", records[0]);
    ensure!(ancestors[0]["path"].as_str().is_some_and(|path| path.ends_with("sh")), "{}", records[0]);
    ensure!(ancestors[0]["sha256"].as_str().is_some_and(|sha256| sha256.len() == 64), "{}", records[0]);
    Ok(())
}

/// What was executed while no agent lived, below what was executed before.
fn restarted() -> Result<()> {
    let mut programs = Programs::new()?;
    let mut running = Running::start(programs.curl_by(&programs.trusted, LATER))?;
    running.line(PATIENCE, |line| line == "here")?;
    programs.site.kill_agent()?;
    programs.site.start_agent()?;
    running.write("\n")?;
    let said = running.line(PATIENCE, |line| line == "200" || line == "403")?;
    ensure!(said == "200", "{said}");
    Ok(())
}
