//! `test`: sets up, builds everything once, and runs every test binary, the ones on the real kernel last.
//!
//! The binaries are built by one `cargo build` (the programs that e2e starts are part of it) and run one by one from
//! here, so that each has its line of time and counts. Doc tests come from `cargo test --doc`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::steps::Steps;
use crate::{exec, paths, setup};

/// Options of `cargo xtask test`.
#[derive(Args, Default)]
pub struct Options {
    /// The long counts of `tests/counts.toml`: hours instead of minutes.
    #[arg(long)]
    full: bool,
    /// Run only tests with this in their name.
    filter: Option<String>,
}

/// `cargo xtask test`.
pub fn main(options: &Options) -> Result<()> {
    let mut steps = Steps::new("test");
    must_be_root()?;
    setup::run(&mut steps)?;
    let counts = run(options, &mut steps)?;
    drop(steps);
    counts.close()
}

/// That we are root: e2e would fail at the end of a long build.
pub fn must_be_root() -> Result<()> {
    ensure!(exec::is_root(), "the tests change cgroups and load kernel programs: run as root");
    Ok(())
}

/// Builds and runs, as part of another task; the tests' failures are in the counts.
pub fn run(options: &Options, steps: &mut Steps) -> Result<Counts> {
    let repository = paths::repository()?;
    let environment = environment(options, &repository)?;
    let mut binaries = steps.run("build tests and programs", || build(&repository))?;
    binaries.sort_by_key(Binary::order);

    let mut all = Counts::default();
    for binary in &binaries {
        let mut command = Command::new(&binary.program);
        command.current_dir(&binary.package_folder).env("CARGO_MANIFEST_DIR", &binary.package_folder);
        // cargo run points it at our own build, which is no place for the programs under test to load from.
        command.env_remove("LD_LIBRARY_PATH");
        command.envs(&environment).args(&options.filter);
        let counts = steps.judged(&binary.name, || count(&mut command), Counts::none_failed)?;
        steps.note(counts.shown());
        all.add(&counts);
    }
    let mut documented = exec::cargo();
    documented.current_dir(&repository).args(["test", "--quiet", "--locked", "--doc"]);
    documented.envs(&environment).args(&options.filter);
    let counts = steps.judged("doc tests", || count(&mut documented), Counts::none_failed)?;
    steps.note(counts.shown());
    all.add(&counts);
    Ok(all)
}

/// How many tests did what.
#[derive(Default, Clone, Copy)]
pub struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    absent: u64,
}

impl Counts {
    /// Whether none failed, and some ran.
    pub fn all_passed(&self) -> bool {
        self.none_failed() && self.passed > 0
    }

    fn none_failed(&self) -> bool {
        self.failed == 0
    }

    /// Prints the closing line; an error if a test failed or none ran.
    pub fn close(&self) -> Result<()> {
        println!("\n{}", self.shown());
        ensure!(self.failed == 0, "{} tests failed", self.failed);
        ensure!(self.passed > 0, "no test ran");
        Ok(())
    }

    /// `412 passed, 0 failed`, and what else there was.
    pub fn shown(&self) -> String {
        let mut text = format!("{} passed, {} failed", self.passed, self.failed);
        for (count, word) in [(self.absent, "absent"), (self.ignored, "ignored")] {
            if count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        text
    }

    fn add(&mut self, other: &Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.absent += other.absent;
    }

    /// Takes one line of a test binary's output into account.
    fn line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |word: &str| {
                let end = result.find(word)?;
                result[..end].trim_end().rsplit(' ').next()?.parse::<u64>().ok()
            };
            self.passed += number("passed").unwrap_or(0);
            self.failed += number("failed").unwrap_or(0);
            self.ignored += number("ignored").unwrap_or(0);
        } else if line.starts_with("test ") && line.contains(" ignored, absent: ") {
            self.absent += 1;
        }
    }
}

struct Binary {
    name: String,
    program: PathBuf,
    package_folder: PathBuf,
}

impl Binary {
    /// Unit tests first, then flow, then the real kernel.
    fn order(&self) -> (u8, String) {
        let rank = match self.name.as_str() {
            "bypass" | "e2e" => 2,
            "flow" => 1,
            _ => 0,
        };
        (rank, self.name.clone())
    }
}

/// One line of cargo's JSON messages, as far as it concerns us.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    profile: Option<Profile>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn build(repository: &std::path::Path) -> Result<Vec<Binary>> {
    let mut cargo = exec::cargo();
    // Programs and tests in one go: apart, features of dependencies would differ and they would be built twice.
    cargo.current_dir(repository).args(["build", "--locked", "--lib", "--bins", "--tests"]);
    cargo.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = cargo.spawn().context("start cargo build")?;
    let messages = BufReader::new(child.stdout.take().context("cargo's output is piped")?);
    let mut binaries = Vec::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Message>(&line?) else { continue };
        binaries.extend(binary(message));
    }
    ensure!(child.wait()?.success(), "the build failed");
    Ok(binaries)
}

fn binary(message: Message) -> Option<Binary> {
    if message.reason != "compiler-artifact" || !message.profile?.test {
        return None;
    }
    let target = message.target?;
    let package_folder = message.manifest_path?.parent()?.to_owned();
    let is_program = target.kind.iter().any(|kind| kind == "bin");
    let name = if is_program { format!("{} (program)", target.name) } else { target.name };
    Some(Binary { name, program: message.executable?, package_folder })
}

/// Runs a test binary, shows what it says, and counts.
fn count(command: &mut Command) -> Result<Counts> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start a test binary")?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("its output is piped")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.line(line.trim_end());
    }
    // Absent ones are ignored ones to the test library; here each is counted once.
    counts.ignored = counts.ignored.saturating_sub(counts.absent);
    if !child.wait()?.success() {
        // It died without a result, or refused to start: that is a failure too.
        counts.failed = counts.failed.max(1);
    }
    Ok(counts)
}

/// What the tests are told: the counts of property tests, and whether to be thorough.
fn environment(options: &Options, repository: &std::path::Path) -> Result<BTreeMap<&'static str, String>> {
    let path = repository.join("tests/counts.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let counts: toml::Table = text.parse().with_context(|| format!("parse {}", path.display()))?;
    let which = if options.full { "full" } else { "short" };
    let cases = counts.get("proptest_cases").and_then(|cases| cases.get(which)?.as_integer());
    let cases = cases.with_context(|| format!("{} has no proptest_cases", path.display()))?;
    let mut environment = BTreeMap::from([("PROPTEST_CASES", cases.to_string())]);
    if options.full {
        environment.insert("CALLGATE_FULL", "1".to_owned());
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_test_binaries_print() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests",
            "test stops_a_moved_task ... ignored, absent: bpf_lsm",
            "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s",
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        ] {
            counts.line(line);
        }
        assert_eq!((counts.passed, counts.failed, counts.ignored, counts.absent), (12, 2, 1, 1));
        assert!(counts.close().is_err());
    }
}
