//! `callgate policy`: writes a first set of policies, checks one as the agent would, tests it, explains its decisions.
//!
//! Talks to no agent and needs no privileges beyond those to read. Cases are in [`cases`] and [`test`], why a recorded
//! call was decided as it was in [`explain`]; both put their questions by [`ask`].

mod ask;
mod cases;
mod explain;
mod kinds;
mod suggest;
mod test;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use callgate_daemon::policy_source::{self, Files};
use callgate_model::causes;
use callgate_policy::{Finding, Severity};
use clap::{Args, Subcommand};
use kinds::KindsArgs;

use super::{FAILED, OK, USAGE};

/// What `policy init` writes.
const STARTER: [(&str, &str); 3] = [
    ("first.cedar", include_str!("policy/starter.cedar")),
    ("first.test.toml", include_str!("policy/starter.test.toml")),
    ("README.md", include_str!("policy/README.md")),
];

/// `callgate policy`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  callgate policy init ./callgate && callgate policy check ./callgate")]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first policy, with comments, and a README; nothing is ever overwritten
    #[command(
        after_help = "Example:\n  callgate policy init ./callgate\n\nExit codes: 0 written, 1 DIR holds policies already or cannot be written, 2 usage"
    )]
    Init(InitArgs),
    /// Check the *.cedar files in DIR as the agent does when it loads them
    #[command(after_help = "\
Examples:
  callgate policy check ./callgate
  callgate policy check ./callgate --json | jq -r 'select(.severity == \"error\") | .message'

With --json one finding a line:
  severity  error (the set is refused) or warning
  rule      which check it comes from: syntax, unknown_name, annotation, …
  file, line, column, width
            where, from 1, in characters; file is empty and line 0 where it concerns all of it
  policy    id of the policy, or empty
  message, help
            what is wrong, and what to do about it

Exit codes: 0 sound (perhaps with warnings), 1 refused, 2 usage or DIR cannot be read")]
    Check(CheckArgs),
    /// Decide the cases in DIR's *.test.toml by the policies beside them
    #[command(after_help = "\
Example:
  callgate policy test ./callgate

With --json one case a line: file, line, case, passed, differences (what, expected, got)

Exit codes: 0 all as expected, 1 not so, 2 usage, or DIR holds no cases, or policies that are refused")]
    Test(test::TestArgs),
    /// Tell why a recorded call was decided as it was: the policies that determined it, and those that nearly did
    #[command(after_help = "\
Examples:
  callgate policy explain 019ab0d4-8a51-7000-8000-5d1f7e3c2a10
  callgate policy explain 019ab0d4-8a51-7000-8000-5d1f7e3c2a10 --policy /etc/callgate/policies --collector unix:/run/callgate/collector.sock

With --json one object: asked (names and values as below), policies (set, recorded, same, now), determined and
matched (policy, came, file, line, text each).

Exit codes: 0 explained, 1 there is no such call, or it cannot be read, 2 usage")]
    Explain(explain::ExplainArgs),
    /// Draft policies from what was recorded, for a human to read: what was called is permitted, in its shapes
    #[command(after_help = "\
Examples:
  callgate run --observe -- ./job.sh && callgate policy suggest --since 1h > job.cedar
  callgate policy suggest --workload build --since 1d

Exit codes: 0 drafted, 1 nothing was recorded, or it cannot be read, 2 usage")]
    Suggest(suggest::SuggestArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Directory to write to; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Directory of *.cedar files
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print findings as JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kinds: KindsArgs,
}

/// Runs `callgate policy …`.
///
/// # Errors
/// `init`: the directory cannot be written, or holds policies. `explain`: records or policies cannot be read.
/// All: standard output is closed.
pub fn run(args: PolicyArgs) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let code = match args.command {
        Command::Init(args) => {
            init(&args.directory, &mut out)?;
            OK
        }
        Command::Check(args) => check(&args, &mut out)?,
        Command::Test(args) => test::run(&args, &mut out)?,
        Command::Suggest(args) => suggest::run(&args, &mut out)?,
        Command::Explain(args) => {
            let code = explain::run(&args, &mut out)?;
            out.flush()?;
            return Ok(code);
        }
    };
    out.flush()?;
    Ok(ExitCode::from(code))
}

fn init(directory: &Path, out: &mut impl Write) -> Result<()> {
    let shown = directory.display();
    fs::create_dir_all(directory).with_context(|| format!("cannot make `{shown}`"))?;
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read `{shown}`"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            bail!("`{shown}` holds policies already (`{}`): nothing was written", path.display());
        }
    }
    for (name, text) in STARTER {
        let path = directory.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).with_context(|| format!("cannot write `{}`", path.display()))?;
                writeln!(out, "wrote {}", path.display())?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                writeln!(out, "kept {}", path.display())?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot write `{}`", path.display())),
        }
    }
    writeln!(out, "next: callgate policy check {shown} && callgate policy test {shown}")?;
    Ok(())
}

/// Checks a directory; the exit code.
fn check(args: &CheckArgs, out: &mut impl Write) -> io::Result<u8> {
    let CheckArgs { directory, json, kinds } = args;
    let json = *json;
    let read = || anyhow::Ok((policy_source::read(directory)?, kinds.detectors()?));
    let (files, detectors) = match read() {
        Ok(read) => read,
        Err(error) => {
            eprintln!("callgate: {}", causes(error.as_ref()));
            return Ok(USAGE);
        }
    };
    let (set, findings) = match policy_source::parse(&files, &detectors) {
        Ok((set, warnings)) => (Some(set), warnings),
        Err(errors) => (None, errors.findings),
    };
    for finding in &findings {
        if json {
            writeln!(out, "{}", serde_json::to_string(finding).map_err(io::Error::other)?)?;
        } else {
            show(finding, directory, &files, out)?;
        }
    }
    if !json {
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        let warnings = findings.len() - errors;
        match &set {
            Some(set) => {
                let (policies, hash) = (count(set.len(), "policy", "policies"), set.hash());
                let (files, warnings) = (count(files.len(), "file", "files"), count(warnings, "warning", "warnings"));
                writeln!(out, "sound: {policies} in {files}, {warnings}, set {hash}")?;
            }
            None => {
                let (errors, warnings) = (count(errors, "error", "errors"), count(warnings, "warning", "warnings"));
                writeln!(out, "refused: {errors}, {warnings}")?;
            }
        }
    }
    Ok(if set.is_some() { OK } else { FAILED })
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Prints a finding as compilers do, with the line that it is about.
fn show(finding: &Finding, directory: &Path, files: &Files, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: {}", finding.severity, plain(&finding.message))?;
    let gutter = " ".repeat(finding.line.to_string().len());
    if !finding.file.is_empty() {
        let path = directory.join(&finding.file);
        if finding.line == 0 {
            writeln!(out, "{gutter}--> {}", path.display())?;
        } else {
            writeln!(out, "{gutter}--> {}:{}:{}", path.display(), finding.line, finding.column)?;
        }
    }
    let text = files.texts().into_iter().find(|(name, _)| *name == finding.file).map(|(_, text)| text);
    if let Some(line) = text.as_deref().and_then(|text| text.lines().nth(finding.line.checked_sub(1)?)) {
        let indent = " ".repeat(finding.column.saturating_sub(1));
        writeln!(out, "{gutter} |")?;
        writeln!(out, "{} | {}", finding.line, plain(line))?;
        writeln!(out, "{gutter} | {indent}{}", "^".repeat(finding.width))?;
    }
    if !finding.help.is_empty() {
        writeln!(out, "{gutter} = help: {}", plain(&finding.help))?;
    }
    writeln!(out)
}

/// One column a character, and nothing that steers a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(directory: &Path, json: bool) -> (u8, String) {
        let mut out = Vec::new();
        let args = CheckArgs { directory: directory.to_owned(), json, kinds: KindsArgs::default() };
        let code = check(&args, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_init_writes_is_sound() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("a/callgate");
        let mut out = Vec::new();
        init(&directory, &mut out).unwrap();
        let (code, text) = checked(&directory, false);
        assert_eq!(code, OK, "{text}");
        assert!(text.starts_with("sound: 2 policies in 1 file, 0 warnings, set "), "{text}");
        let mut out = Vec::new();
        let code =
            test::run(&test::TestArgs { directory, json: false, kinds: KindsArgs::default() }, &mut out).unwrap();
        assert_eq!(code, OK, "{}", String::from_utf8(out).unwrap());
    }

    #[test]
    fn init_never_overwrites() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("README.md"), "mine").unwrap();
        init(directory.path(), &mut Vec::new()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("README.md")).unwrap(), "mine");
        fs::write(directory.path().join("first.cedar"), "// mine").unwrap();
        let error = init(directory.path(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("holds policies already"), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join("first.cedar")).unwrap(), "// mine");
    }

    #[test]
    fn findings_read_like_a_compilers() {
        let directory = tempfile::tempdir().unwrap();
        let text = "\n\t@maks(\"pii\")\npermit (principal, action == Callgate::Action::\"call\", resource in Callgate::Service::\"a.x\");\n";
        fs::write(directory.path().join("p.cedar"), text).unwrap();
        let (code, text) = checked(directory.path(), false);
        assert_eq!(code, FAILED);
        let expected = format!(
            "error: unknown annotation `@maks`\n --> {}/p.cedar:2:2\n  |\n2 |  @maks(\"pii\")\n  |  ^^^^^\n  = help: did you mean `mask`?\n\nrefused: 1 error, 0 warnings\n",
            directory.path().display()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn json_is_one_finding_a_line() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("p.cedar"), "permit (principal, action, resource);\npermit (").unwrap();
        let (code, text) = checked(directory.path(), true);
        assert_eq!(code, FAILED);
        for line in text.lines() {
            let finding: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(finding["file"], "p.cedar");
            assert_eq!(finding["severity"], "error");
            assert_eq!(finding["rule"], "syntax");
            assert_eq!(finding["line"], 2);
        }
        assert!(!text.is_empty());
        fs::write(directory.path().join("p.cedar"), "permit (principal, action, resource);").unwrap();
        let (code, text) = checked(directory.path(), true);
        assert_eq!((code, text.lines().count()), (OK, 1));
    }

    #[test]
    fn what_cannot_be_read_is_no_verdict() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(checked(&directory.path().join("absent"), false).0, USAGE);
    }
}
