//! Cases beside policies: `*.test.toml`, each a call or a connection with what is expected of it.
//!
//! Read strictly: an unknown key is an error, for a misspelt expectation would expect nothing.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use callgate_model::{Ancestor, Caller, Lineage, LineageEnd, Pod, Protocol, RecordDepth, Verdict};
use serde::Deserialize;
use toml::Spanned;

/// How the names of case files end.
const ENDING: &str = ".test.toml";

/// One file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(default)]
    defaults: Asked,
    #[serde(default)]
    case: Vec<Spanned<toml::Table>>,
}

/// What is asked. What a case leaves out comes from `[defaults]`, and then from here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// `run/NAME` or `cgroup/PATH`, and so on; `run/test`.
    pub(super) workload: Option<String>,
    /// Path of its cgroup; none.
    pub(super) cgroup: Option<PathBuf>,
    /// Its systemd unit; none.
    pub(super) unit: Option<String>,
    /// Uid of its pod; none.
    pub(super) pod_uid: Option<String>,
    /// Id of its container; none.
    pub(super) container_id: Option<String>,
    /// What the cluster's API says of its pod; none.
    pub(super) pod: Option<Pod>,
    /// Groups of the workload.
    pub(super) groups: Option<Vec<String>>,
    /// On whose behalf.
    pub(super) caller: Option<Caller>,
    /// Uid of the process; 1000.
    pub(super) uid: Option<u32>,
    /// SHA-256 of the executable, in hex.
    pub(super) executable: Option<String>,
    /// SHA-256 of the programs that started it, in hex; none is known.
    pub(super) ancestors: Option<Vec<String>>,
    /// Whether these are all; true where there are any, else false.
    pub(super) lineage_complete: Option<bool>,
    /// `host` or `host:port`.
    pub(super) service: Option<String>,
    /// The address that is dialled; one on the Internet.
    pub(super) address: Option<IpAddr>,
    /// Whether within TLS; true.
    pub(super) tls: Option<bool>,
    /// `http` or `grpc`, whose path is `/pkg.Svc/Method`; `http`.
    pub(super) protocol: Option<Protocol>,
    /// The method; without one, the case is about the connection alone.
    pub(super) method: Option<String>,
    /// The path; `/`.
    pub(super) path: Option<String>,
    /// The query without the `?`.
    pub(super) query: Option<String>,
    /// `Content-Type` of the body.
    pub(super) content_type: Option<String>,
    /// The body.
    pub(super) body: Option<String>,
}

/// What is expected. What is left out is not looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// Allow or deny.
    pub(super) expect: Verdict,
    /// The reason's code.
    pub(super) reason: Option<String>,
    /// Ids of the determining policies.
    pub(super) policies: Option<Vec<String>>,
    /// Kinds that are masked, as `@mask` writes them; empty: none.
    pub(super) mask: Option<String>,
    /// How much of the bodies is kept.
    pub(super) record: Option<RecordDepth>,
    /// Whether TLS passes unopened.
    pub(super) passthrough: Option<bool>,
}

/// One case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) file: String,
    /// Where it begins, from 1.
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) asked: Asked,
    pub(super) expected: Expected,
}

/// Words of a case that say what is expected.
const EXPECTATIONS: &[&str] = &["expect", "reason", "policies", "mask", "record", "passthrough"];

/// Reads the cases in `directory`, by file name and then in their order.
///
/// # Errors
/// A file cannot be read, or is no file of cases: the message says where.
pub(super) fn read(directory: &Path) -> Result<Vec<Case>> {
    let cannot_read = || format!("cannot read the cases in `{}`", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot_read)? {
        let name = entry.with_context(cannot_read)?.file_name();
        if let Some(name) = name.to_str()
            && name.ends_with(ENDING)
            && !name.starts_with('.')
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let mut cases = Vec::new();
    for name in names {
        let text = fs::read_to_string(directory.join(&name)).with_context(|| format!("cannot read `{name}`"))?;
        cases.extend(parse(&name, &text).with_context(|| format!("`{name}` is no file of cases"))?);
    }
    Ok(cases)
}

fn parse(file: &str, text: &str) -> Result<Vec<Case>> {
    let parsed: CaseFile = toml::from_str(text)?;
    ensure!(!parsed.case.is_empty(), "it has no `[[case]]`");
    let mut cases = Vec::new();
    for case in parsed.case {
        let line = text.get(..case.span().start).unwrap_or("").matches('\n').count() + 1;
        let mut rest = case.into_inner();
        let name = match rest.remove("name") {
            Some(toml::Value::String(name)) => name,
            _ => bail!("line {line}: the case has no `name`"),
        };
        let here = || format!("line {line}: case `{name}`");
        let (expected, asked): (toml::Table, toml::Table) =
            rest.into_iter().partition(|(key, _)| EXPECTATIONS.contains(&key.as_str()));
        let asked = asked.try_into::<Asked>().with_context(here)?.or(&parsed.defaults);
        let expected = expected.try_into::<Expected>().with_context(here)?;
        if asked.service.is_none() {
            bail!("{}: it names no `service`", here());
        }
        cases.push(Case { file: file.to_owned(), line, name, asked, expected });
    }
    Ok(cases)
}

impl Asked {
    /// What is left out, from `defaults`.
    fn or(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        Self {
            workload: self.workload.or(defaults.workload),
            cgroup: self.cgroup.or(defaults.cgroup),
            unit: self.unit.or(defaults.unit),
            pod_uid: self.pod_uid.or(defaults.pod_uid),
            container_id: self.container_id.or(defaults.container_id),
            pod: self.pod.or(defaults.pod),
            groups: self.groups.or(defaults.groups),
            caller: self.caller.or(defaults.caller),
            uid: self.uid.or(defaults.uid),
            executable: self.executable.or(defaults.executable),
            ancestors: self.ancestors.or(defaults.ancestors),
            lineage_complete: self.lineage_complete.or(defaults.lineage_complete),
            service: self.service.or(defaults.service),
            address: self.address.or(defaults.address),
            tls: self.tls.or(defaults.tls),
            protocol: self.protocol.or(defaults.protocol),
            method: self.method.or(defaults.method),
            path: self.path.or(defaults.path),
            query: self.query.or(defaults.query),
            content_type: self.content_type.or(defaults.content_type),
            body: self.body.or(defaults.body),
        }
    }

    /// What started the process.
    pub(super) fn lineage(&self) -> Lineage {
        let ancestor = |sha256: &String| Ancestor {
            pid: 0,
            start_time: 0,
            path: String::new(),
            device: 0,
            inode: 0,
            sha256: Some(sha256.to_ascii_lowercase()),
        };
        let ancestors = self.ancestors.iter().flatten().map(ancestor).collect();
        let complete = self.lineage_complete.unwrap_or(self.ancestors.is_some());
        Lineage { ancestors, end: if complete { LineageEnd::Entry } else { LineageEnd::Cut } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_misspelt_is_an_error_with_its_place() {
        let case = "[[case]]\nname = \"x\"\nservice = \"a.x\"\n";
        assert_eq!(parse("f", &format!("\n{case}expect = \"allow\"\n")).unwrap()[0].line, 2);
        for (text, part) in [
            (format!("{case}expect = \"alow\""), "alow"),
            (format!("{case}expects = \"allow\""), "expects"),
            (format!("{case}expect = \"allow\"\nmehtod = \"GET\""), "mehtod"),
            (format!("{case}expect = \"allow\"\n[defalts]"), "defalts"),
            (case.to_owned(), "line 1: case `x`"),
            ("[[case]]\nname = \"x\"\nexpect = \"deny\"".to_owned(), "no `service`"),
            ("[[case]]\nexpect = \"deny\"".to_owned(), "line 1: the case has no `name`"),
            (String::new(), "no `[[case]]`"),
        ] {
            let error = format!("{:#}", parse("f", &text).unwrap_err());
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
