//! A CallPolicy permits within two seconds, to its own namespace alone; broken, it keeps what was in force of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::pods::{Pods, Said};
use super::{NAMESPACE, Site, Step};
use crate::{exec, paths};

pub const STEP: Step = Step { name: "policies in the cluster", run };

/// From a broken object to the agent's alarm about it.
const ALARM_WITHIN: Duration = Duration::from_secs(10);
/// A namespace that has nothing to say to the other one.
const OTHER: &str = "callgate-xtask-other";
const ENROL: &str = "callgate.dev/enroll=true";
const EVERYTHING: &str = "permit (principal, action, resource);";
const NOTHING: &str = "forbid (principal, action, resource);";

fn run(site: &Site<'_>) -> Result<String> {
    let crds = paths::repository()?.join("deploy/kubernetes/crds");
    exec::run(site.cluster.kubectl().args(["apply", "--filename"]).arg(&crds))?;
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "crd"];
    let names = ["callpolicies.callgate.dev", "clustercallpolicies.callgate.dev"];
    exec::run(site.cluster.kubectl().args(established).args(names))?;
    site.cluster.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OTHER } }))?;
    let done = steps(site);
    let mut gone = site.cluster.kubectl();
    let gone = exec::run(gone.args(["delete", "namespace", OTHER, "--ignore-not-found", "--timeout=60s"]));
    let said = done?;
    gone?;
    Ok(said)
}

fn steps(site: &Site<'_>) -> Result<String> {
    let pods = Pods::start(site)?;
    pods.with_agent("", |agent| {
        pods.label("pod", "client", ENROL)?;
        pods.soon("client", Said::Denied).context("after the label")?;
        // Neither permits nor forbids reach out of their namespace.
        site.cluster.apply(&policy(OTHER, "all", EVERYTHING))?;
        site.cluster.apply(&policy(NAMESPACE, "probe", "// nothing yet"))?;
        pods.expect("client", "/denied", Said::Denied).context("what another namespace permits")?;
        site.cluster.apply(&policy(NAMESPACE, "all", EVERYTHING))?;
        let permitted_after = pods.soon("client", Said::Answered).context("after its own namespace permits")?;
        site.cluster.apply(&policy(OTHER, "all", NOTHING))?;
        site.cluster.apply(&policy(NAMESPACE, "all", "permit (principal"))?;
        let (changed, told) = (Instant::now(), format!("CallPolicy/{NAMESPACE}/all:1:"));
        while !agent.says(&["callgate", "status"])?.contains(&told) {
            ensure!(changed.elapsed() < ALARM_WITHIN, "no alarm about a broken object");
        }
        pods.expect("client", "/denied", Said::Answered).context("a broken object, and another's forbid")?;
        exec::run(site.cluster.kubectl().args(["--namespace", NAMESPACE, "delete", "callpolicy", "all", "probe"]))?;
        let denied_after = pods.soon("client", Said::Denied).context("after the object was deleted")?;
        let refused = site.cluster.apply(&with_options()).is_err();
        ensure!(refused, "an unknown option was taken");
        Ok(format!(
            "permitted after {} ms, denied again after {} ms",
            permitted_after.as_millis(),
            denied_after.as_millis()
        ))
    })
}

fn policy(namespace: &str, name: &str, cedar: &str) -> Value {
    json!({
        "apiVersion": "callgate.dev/v1alpha1", "kind": "CallPolicy",
        "metadata": { "name": name, "namespace": namespace }, "spec": { "cedar": cedar },
    })
}

fn with_options() -> Value {
    let mut policy = policy(NAMESPACE, "options", "");
    policy["spec"]["options"] = json!({ "mode": "observe" });
    policy
}
