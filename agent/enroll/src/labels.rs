//! The labels by which pods and namespaces are enrolled.
//!
//! What a label says wrongly is taken for the strictest meaning that it could have.

use std::collections::BTreeMap;

use callgate_model::{FailMode, Mode};

use crate::trust::{TRUST, WORDS};

/// Label of a pod or its namespace: `true`, `observe` or `false`. The pod's own counts before its namespace's.
pub const ENROLL: &str = "callgate.dev/enroll";
/// Label of a pod or its namespace: `closed`, `open` or `observe`, what holds while no agent is alive.
pub const FAIL: &str = "callgate.dev/fail";
/// Label of a pod or its namespace: the group that the workload is in for policies, `Callgate::Group::"…"`.
pub const POLICY: &str = "callgate.dev/policy";

/// Of all our labels.
const PREFIX: &str = "callgate.dev/";

/// The chart's label of agents, by which two sets of them are told apart.
const GENERATION: &str = "callgate.dev/generation";

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// How a pod with these labels, in a namespace with those, is enrolled; none: it is left alone.
pub(crate) fn mode(pod: &Labels, namespace: &Labels) -> Option<Mode> {
    match pod.get(ENROLL).or_else(|| namespace.get(ENROLL))?.as_str() {
        "false" => None,
        "observe" => Some(Mode::Observe),
        // Whatever else was meant: somebody wanted it governed.
        _ => Some(Mode::Enforce),
    }
}

/// What holds for it while no agent is alive.
pub(crate) fn fail(pod: &Labels, namespace: &Labels) -> FailMode {
    match pod.get(FAIL).or_else(|| namespace.get(FAIL)).map(String::as_str) {
        Some("open") => FailMode::Open,
        Some("observe") => FailMode::Observe,
        _ => FailMode::Closed,
    }
}

/// What is wrong with a label, if something is.
pub(crate) fn misread(labels: &Labels) -> Option<String> {
    let wrong = |key: &str, words: &[&str]| {
        let value = labels.get(key).filter(|value| !words.contains(&value.as_str()))?;
        Some(format!("label `{key}` is `{value}`, not one of `{}`", words.join("`, `")))
    };
    let unknown = || {
        let ours = |key: &&String| {
            key.starts_with(PREFIX) && ![ENROLL, FAIL, POLICY, TRUST, GENERATION].contains(&key.as_str())
        };
        let key = labels.keys().find(ours)?;
        Some(format!("label `{key}` means nothing: `{ENROLL}`, `{FAIL}`, `{POLICY}` and `{TRUST}` do"))
    };
    wrong(ENROLL, &["true", "observe", "false"])
        .or_else(unknown)
        .or_else(|| wrong(FAIL, &["closed", "open", "observe"]))
        .or_else(|| wrong(TRUST, WORDS))
}
