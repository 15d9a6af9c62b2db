//! `callgate policy test`: decides the cases beside policies, and shows where they come out otherwise.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use callgate_daemon::policy_source;
use callgate_mask::{Detectors, names_of};
use callgate_model::{
    ArgumentsState, CgroupId, Decision, Executable, FailMode, Function, MaskKinds, Mode, Placement, Process, Protocol,
    Service, TlsMode, Verdict, Workload,
};
use callgate_policy::PolicySet;
use callgate_wire::{CanonicalPath, Content, read_arguments};
use clap::Args;
use serde::Serialize;

use super::ask::Question;
use super::cases::{self, Asked, Case, Expected};
use super::kinds::KindsArgs;
use crate::commands::{FAILED, OK, USAGE};

/// Where cases go that name no address: a host on the Internet. Source: TEST-NET-3, RFC 5737.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Directory of *.cedar and *.test.toml files
    #[arg(value_name = "DIR", default_value = "./callgate")]
    pub(super) directory: PathBuf,
    /// Print one JSON object a case
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) kinds: KindsArgs,
}

/// One line of a difference.
#[derive(Debug, Serialize)]
struct Difference {
    what: &'static str,
    expected: String,
    got: String,
}

/// One case as `--json` prints it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    file: &'a str,
    line: usize,
    case: &'a str,
    passed: bool,
    differences: &'a [Difference],
}

/// Runs the cases; the exit code.
pub(super) fn run(args: &TestArgs, out: &mut impl Write) -> io::Result<u8> {
    let (set, cases, detectors) = match read(args) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("callgate: {error:#}");
            return Ok(USAGE);
        }
    };
    let mut failed = 0;
    for case in &cases {
        let differences = match differences(&set, case, &detectors) {
            Ok(differences) => differences,
            Err(error) => {
                eprintln!("callgate: {}:{}: case `{}`: {error:#}", case.file, case.line, case.name);
                return Ok(USAGE);
            }
        };
        failed += usize::from(!differences.is_empty());
        show(case, &differences, args.json, out)?;
    }
    if !args.json {
        writeln!(out, "{} passed, {failed} failed, set {}", cases.len() - failed, set.hash())?;
    }
    Ok(if failed == 0 { OK } else { FAILED })
}

fn read(args: &TestArgs) -> Result<(PolicySet, Vec<Case>, Arc<Detectors>)> {
    let directory = &args.directory;
    let (files, detectors) = (policy_source::read(directory)?, args.kinds.detectors()?);
    let (set, _) = policy_source::parse(&files, &detectors).map_err(|errors| {
        let shown = directory.display();
        anyhow!("{errors}")
            .context(format!("the policies in `{shown}` are refused: see `callgate policy check {shown}`"))
    })?;
    let cases = cases::read(directory)?;
    if cases.is_empty() {
        return Err(anyhow!(
            "`{}` holds no *.test.toml: `callgate policy init` writes an example",
            directory.display()
        ));
    }
    Ok((set, cases, detectors))
}

fn show(case: &Case, differences: &[Difference], json: bool, out: &mut impl Write) -> io::Result<()> {
    let passed = differences.is_empty();
    if json {
        let line = Line { file: &case.file, line: case.line, case: &case.name, passed, differences };
        return writeln!(out, "{}", serde_json::to_string(&line).map_err(io::Error::other)?);
    }
    let (word, name) = (if passed { "ok  " } else { "FAIL" }, super::plain(&case.name));
    writeln!(out, "{word}  {}:{}  {name}", case.file, case.line)?;
    for Difference { what, expected, got } in differences {
        writeln!(out, "      {what:<11} expected {}, got {}", super::plain(expected), super::plain(got))?;
    }
    Ok(())
}

/// Where what is decided differs from what is expected.
fn differences(set: &PolicySet, case: &Case, detectors: &Detectors) -> Result<Vec<Difference>> {
    let question = question(&case.asked)?;
    let decision = question.put(set).context("the case could not be put as a question")?.decision;
    let mut differences = Vec::new();
    let mut compare = |what, expected: Option<String>, got: String| {
        if let Some(expected) = expected.filter(|expected| *expected != got) {
            differences.push(Difference { what, expected, got });
        }
    };
    let Expected { expect, reason, policies, mask, record, passthrough } = &case.expected;
    compare("decision", Some(verdict(*expect).to_owned()), verdict(decision.verdict).to_owned());
    let sorted = |ids: &Vec<String>| {
        let mut ids = ids.clone();
        ids.sort();
        list(ids.iter().map(String::as_str))
    };
    compare("policies", policies.as_ref().map(sorted), list(decision.policies.iter().map(String::as_str)));
    let wanted = mask.as_deref().map(|words| mask_of(words, detectors)).transpose()?;
    let named = |kinds: MaskKinds| {
        let custom = detectors.kinds().filter(|(_, kind)| kinds.covers(*kind)).map(|(name, _)| name);
        let mut names: Vec<&str> = names_of(kinds).collect();
        names.extend(custom);
        list(names.into_iter())
    };
    compare("mask", wanted.map(named), named(decision.obligations.mask.kinds()));
    compare("record", record.map(|depth| word(&depth)), word(&decision.obligations.record));
    let passes = |decision: &Decision| decision.obligations.tls == TlsMode::Passthrough;
    compare("passthrough", passthrough.map(|passes| passes.to_string()), passes(&decision).to_string());
    // The reason tells most, but not where only the reason is unexpected.
    let told = !differences.is_empty() && reason.is_none();
    let got = decision.reason.to_string();
    match reason {
        Some(reason) if *reason != got => {
            differences.push(Difference { what: "reason", expected: reason.clone(), got });
        }
        _ if told => differences.push(Difference { what: "reason", expected: "any".to_owned(), got }),
        _ => {}
    }
    Ok(differences)
}

fn question(asked: &Asked) -> Result<Question> {
    let tls = asked.tls.unwrap_or(true);
    let port = if tls { 443 } else { 80 };
    let service = asked.service.as_deref().unwrap_or("");
    let service: Service = service.parse().or_else(|_| Service::new(service, port))?;
    // A call of gRPC is a POST, whether its case says so or not.
    let method = asked.method.clone().or_else(|| (asked.protocol == Some(Protocol::Grpc)).then(|| "POST".to_owned()));
    let function = method.map(|method| {
        let path = CanonicalPath::parse(asked.path.as_deref().unwrap_or("/"))
            .map_err(|error| anyhow!("the path is refused before policy is asked: {error}"))?;
        let path = path.to_string();
        anyhow::Ok(Function {
            protocol: asked.protocol.unwrap_or(Protocol::Http),
            service: service.clone(),
            tls,
            method,
            path,
        })
    });
    let types: Vec<&[u8]> = asked.content_type.iter().map(String::as_bytes).collect();
    let (query, body) = (asked.query.as_deref().unwrap_or(""), asked.body.as_deref().unwrap_or("").as_bytes());
    let arguments = match asked.protocol {
        Some(Protocol::Grpc) => ArgumentsState::NotRead,
        _ => read_arguments(&Content { types: &types, encodings: &[], query, body })
            .map_or_else(ArgumentsState::Unfit, ArgumentsState::Complete),
    };
    let executable = asked.executable.as_ref().map(|sha256| Executable {
        path: String::new(),
        device: 0,
        inode: 0,
        sha256: sha256.to_ascii_lowercase(),
    });
    let lineage = asked.lineage();
    let placement = Placement {
        cgroup_path: asked.cgroup.clone().unwrap_or_default(),
        unit: asked.unit.clone().unwrap_or_default(),
        pod_uid: asked.pod_uid.clone().unwrap_or_default(),
        container_id: asked.container_id.clone().unwrap_or_default(),
        pod: asked.pod.clone(),
    };
    Ok(Question {
        workload: Workload {
            id: asked.workload.clone().unwrap_or_else(|| "run/test".to_owned()),
            cgroup: CgroupId(0),
            cgroup_path: asked.cgroup.clone().unwrap_or_default(),
            mode: Mode::Enforce,
            fail: FailMode::Closed,
            session: None,
            weakened: Vec::new(),
        },
        groups: asked.groups.clone().unwrap_or_default(),
        process: Process {
            pid: 0,
            start_time: 0,
            uid: asked.uid.unwrap_or(1000),
            gid: 1000,
            executable,
            lineage,
            placement,
        },
        destination: (asked.address.unwrap_or(ADDRESS), service.port()).into(),
        service,
        address_declared: false,
        tls,
        caller: asked.caller.clone(),
        function: function.transpose()?,
        arguments,
    })
}

fn mask_of(words: &str, detectors: &Detectors) -> Result<MaskKinds> {
    let mut all = MaskKinds::NONE;
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        all = all.union(detectors.kinds_named(word).with_context(|| format!("`mask` knows no kind `{word}`"))?);
    }
    Ok(all)
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// A word of the vocabulary as records write it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn tested(directory: &Path, json: bool) -> (u8, String) {
        let mut out = Vec::new();
        let code =
            run(&TestArgs { directory: directory.to_owned(), json, kinds: KindsArgs::default() }, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_example_passes_its_own_cases() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
        let mut seen = 0;
        for entry in fs::read_dir(examples).unwrap() {
            let (code, text) = tested(&entry.unwrap().path(), false);
            assert_eq!(code, OK, "{text}");
            seen += 1;
        }
        assert!(seen >= 3);
    }

    const POLICY: &str = r#"@id("read") @mask("email")
        permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"a.x")
        when { resource.method == "GET" };"#;

    fn directory(cases: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("p.cedar"), POLICY).unwrap();
        fs::write(directory.path().join("p.test.toml"), cases).unwrap();
        directory
    }

    #[test]
    fn a_difference_is_shown_line_by_line() {
        let directory = directory(
            "[defaults]\nservice = \"a.x\"\nmethod = \"GET\"\n\n[[case]]\nname = \"fine\"\nexpect = \"allow\"\n\n[[case]]\nname = \"wrong\"\nmethod = \"PUT\"\nexpect = \"allow\"\npolicies = [\"read\"]\nmask = \"email, payment_card\"\n",
        );
        let (code, text) = tested(directory.path(), false);
        assert_eq!(code, FAILED);
        let expected = "ok    p.test.toml:5  fine\nFAIL  p.test.toml:9  wrong\n      decision    expected allow, got deny\n      policies    expected read, got none\n      mask        expected email, payment_card, got none\n      reason      expected any, got no_permit\n1 passed, 1 failed, set ";
        assert!(text.starts_with(expected), "{text}");
        let (code, json) = tested(directory.path(), true);
        let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((code, lines.len()), (FAILED, 2));
        assert_eq!((&lines[0]["passed"], &lines[1]["passed"]), (&true.into(), &false.into()));
        assert_eq!(lines[1]["differences"][0]["got"], "deny");
    }

    #[test]
    fn each_expectation_can_fail() {
        for (expectation, what) in [
            ("expect = \"deny\"", "decision"),
            ("expect = \"allow\"\nreason = \"no_permit\"", "reason"),
            ("expect = \"allow\"\npolicies = []", "policies"),
            ("expect = \"allow\"\nmask = \"\"", "mask"),
            ("expect = \"allow\"\nrecord = \"full\"", "record"),
            ("expect = \"allow\"\npassthrough = true", "passthrough"),
        ] {
            let case = format!("[[case]]\nname = \"x\"\nservice = \"a.x\"\nmethod = \"GET\"\n{expectation}\n");
            let (code, text) = tested(directory(&case).path(), false);
            assert_eq!(code, FAILED, "{text}");
            assert!(text.contains(&format!("      {what}")), "{what}: {text}");
        }
    }

    #[test]
    fn a_call_of_grpc_is_asked_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let policy = |mask: &str| {
            format!(
                r#"@id("get") {mask} permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"a.x")
                when {{ resource.protocol == "grpc" && resource.path == "/p.Svc/Get" }};"#
            )
        };
        let case = |path: &str, expect: &str| {
            format!("[[case]]\nname = \"x\"\nservice = \"a.x\"\nprotocol = \"grpc\"\npath = \"{path}\"\n{expect}\n")
        };
        for (mask, path, expect) in [
            ("", "/p.Svc/Get", "expect = \"allow\""),
            ("", "/p.Svc/Put", "expect = \"deny\"\nreason = \"no_permit\""),
            // Messages are not opened, so a promise to mask them cannot be kept: as the agent decides.
            ("@mask(\"email\")", "/p.Svc/Get", "expect = \"deny\"\nreason = \"unmaskable\""),
        ] {
            fs::write(directory.path().join("p.cedar"), policy(mask)).unwrap();
            fs::write(directory.path().join("p.test.toml"), case(path, expect)).unwrap();
            let (code, text) = tested(directory.path(), false);
            assert_eq!(code, OK, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_no_verdict() {
        for case in [
            "service = \"a b\"",
            "service = \"a.x\"\nmethod = \"GET\"\npath = \"/a/../b\"",
            "service = \"a.x\"\nmask = \"passports\"",
        ] {
            let text = format!("[[case]]\nname = \"x\"\nexpect = \"allow\"\n{case}\n");
            assert_eq!(tested(directory(&text).path(), false).0, USAGE, "{case}");
        }
        let empty = directory("");
        assert_eq!(tested(empty.path(), false).0, USAGE);
        fs::remove_file(empty.path().join("p.test.toml")).unwrap();
        assert_eq!(tested(empty.path(), false).0, USAGE);
        assert_eq!(tested(&empty.path().join("absent"), false).0, USAGE);
    }
}
