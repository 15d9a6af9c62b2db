//! Which crate may know which: the directions of the design, held against `cargo metadata`.
//!
//! Normal dependencies count; what build scripts and tests use does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;

/// One crate of ours.
struct Crate {
    name: &'static str,
    /// Crates of ours that it may know; `callgate-` is left out.
    ours: &'static [&'static str],
    /// Other crates that it may name; none: any.
    theirs: Option<&'static [&'static str]>,
    /// Crates that it may not reach, not even through others.
    never: &'static [&'static str],
}

/// I/O, threads of others, the kernel: what pure crates may not reach.
const IMPURE: &[&str] =
    &["aya", "hyper", "libbpf-rs", "libbpf-sys", "mio", "rusqlite", "rustls", "socket2", "tokio", "tonic"];
const KERNEL: &[&str] = &["aya", "aya-obj", "libbpf-rs", "libbpf-sys", "callgate-redirect", "callgate-warden"];
/// Tests, the demo's tools and the like may know everything of ours that they need.
const ANY: &[&str] = &["*"];

const CRATES: &[Crate] = &[
    pure("callgate-model", &[], &["jiff", "serde", "thiserror", "uuid"]),
    pure("callgate-wire", &["model"], &["httparse", "memchr", "serde", "serde_json", "thiserror"]),
    pure("callgate-mask", &["model"], &["aho-corasick", "aws-lc-rs", "memchr", "regex-automata", "thiserror"]),
    pure("callgate-policy", &["model"], &["aws-lc-rs", "cedar-policy", "miette", "serde", "serde_json", "thiserror"]),
    pure("callgate-seal", &[], &["aws-lc-rs", "thiserror"]),
    Crate { name: "callgate-ebpf-common", ours: &[], theirs: Some(&["aya"]), never: &["tokio"] },
    krate("callgate-identity", &["model"], KERNEL),
    krate("callgate-enroll", &["model"], KERNEL),
    krate("callgate-redirect", &["model", "ebpf-common"], &["libbpf-rs", "libbpf-sys"]),
    krate("callgate-warden", &["model"], &["aya", "aya-obj"]),
    krate("callgate-audit", &["model", "proto", "seal"], KERNEL),
    krate("callgate-uplink", &["audit", "model", "mtls", "observe", "proto", "seal"], KERNEL),
    krate("callgate-dns", &["model"], KERNEL),
    krate("callgate-kubernetes", &["enroll", "mtls", "policy"], KERNEL),
    krate("callgate-trust", &[], KERNEL),
    krate("callgate-proxy", &["audit", "dns", "enroll", "identity", "mask", "model", "policy", "wire"], KERNEL),
    krate("callgate-proto", &["model"], KERNEL),
    krate("callgate-mtls", &[], KERNEL),
    krate("callgate-controller", &["kubernetes", "model", "mtls", "observe", "policy", "trust"], KERNEL),
    krate("callgate-observe", &[], KERNEL),
    krate("callgate-collector", &["model", "mtls", "observe", "proto", "seal"], KERNEL),
    krate(
        "callgate-daemon",
        &[
            "audit",
            "dns",
            "enroll",
            "identity",
            "kubernetes",
            "mask",
            "model",
            "observe",
            "policy",
            "proto",
            "proxy",
            "redirect",
            "seal",
            "trust",
            "uplink",
            "warden",
            "wire",
        ],
        &["callgate-collector"],
    ),
    krate(
        "callgate",
        &[
            "audit",
            "collector",
            "daemon",
            "enroll",
            "identity",
            "mask",
            "model",
            "policy",
            "proto",
            "redirect",
            "seal",
            "trust",
            "uplink",
            "warden",
            "wire",
        ],
        &[],
    ),
    krate("callgate-ebpf-redirect", &["ebpf-common"], &["tokio"]),
    krate("callgate-harness", &[], KERNEL),
    krate("callgate-flow", ANY, &[]),
    krate("callgate-e2e", ANY, &[]),
    krate("callgate-bench", ANY, &[]),
    krate("callgate-chart", &[], KERNEL),
    krate("callgate-bypass", &["e2e", "harness"], KERNEL),
    krate("callgate-fuzz", ANY, KERNEL),
    krate("xtask", &[], &["tokio", "aya"]),
];

const fn pure(name: &'static str, ours: &'static [&'static str], theirs: &'static [&'static str]) -> Crate {
    Crate { name, ours, theirs: Some(theirs), never: IMPURE }
}

const fn krate(name: &'static str, ours: &'static [&'static str], never: &'static [&'static str]) -> Crate {
    Crate { name, ours, theirs: None, never }
}

/// All edges.
pub fn check(repository: &Path) -> Result<Vec<Finding>> {
    Ok(findings(&Graph::of(&super::metadata(repository)?)?))
}

fn findings(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in &graph.members {
        let found = |what: String| Finding::new(format!("crate {name}"), 0, what);
        let Some(rule) = CRATES.iter().find(|rule| rule.name == name) else {
            findings.push(found("has no row in xtask/src/tidy/edges.rs: say what it may know".to_owned()));
            continue;
        };
        for direct in graph.edges.get(name).into_iter().flatten() {
            let short = direct.strip_prefix("callgate-").unwrap_or(direct);
            let allowed = if graph.members.contains(direct) {
                rule.ours == ANY || rule.ours.contains(&short)
            } else {
                rule.theirs.is_none_or(|theirs| theirs.contains(&direct.as_str()))
            };
            if !allowed {
                findings.push(found(format!("may not know {direct}")));
            }
        }
        for reached in graph.reach(name) {
            if rule.never.contains(&reached.as_str()) {
                findings.push(found(format!("reaches {reached}, through {}", graph.path(name, &reached))));
            }
        }
    }
    findings
}

/// Who depends on whom, by package name.
struct Graph {
    members: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(metadata: &Value) -> Result<Graph> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let name = |id: &Value| names.get(id.as_str().unwrap_or_default()).cloned().context("an id without a package");
        let members = list(&metadata["workspace_members"]).iter().map(name).collect::<Result<_>>()?;
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let from = edges.entry(name(&node["id"])?).or_default();
            for dependency in list(&node["deps"]) {
                // Absent for normal ones; `dev` and `build` are named.
                let counts = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
                if counts {
                    from.insert(name(&dependency["pkg"])?);
                }
            }
        }
        Ok(Graph { members, edges })
    }

    fn reach(&self, from: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(name) = open.pop() {
            for next in self.edges.get(&name).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        reached
    }

    /// The first edge on a way from one to the other.
    fn path(&self, from: &str, to: &str) -> String {
        let direct = self.edges.get(from).into_iter().flatten();
        let first = direct.clone().find(|next| *next == to || self.reach(next).contains(to));
        first.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph { members: BTreeSet::new(), edges: BTreeMap::new() };
        for (from, to) in edges {
            for name in [from, to] {
                if CRATES.iter().any(|rule| rule.name == *name) || name.starts_with("callgate-") {
                    graph.members.insert((*name).to_owned());
                }
            }
            graph.edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    }

    fn said(edges: &[(&str, &str)]) -> Vec<String> {
        findings(&graph(edges)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_direction_of_the_design_is_fine() {
        assert_eq!(said(&[("callgate-proxy", "callgate-policy"), ("callgate-policy", "cedar-policy")]), [""; 0]);
    }

    #[test]
    fn a_forbidden_edge_is_found_also_through_others() {
        assert_eq!(said(&[("callgate-collector", "callgate-mask")]).len(), 1);
        assert_eq!(said(&[("callgate-wire", "tokio")]).len(), 2);
        let through = said(&[("callgate-proxy", "innocent"), ("innocent", "aya")]);
        assert_eq!(through, ["crate callgate-proxy: reaches aya, through innocent"]);
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        assert_eq!(said(&[("callgate-surprise", "serde")]).len(), 1);
    }
}
