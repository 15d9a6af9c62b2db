//! A CallPolicy permits within two seconds, to its own namespace alone; broken, it keeps what was in force of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::pods::{DENIED, Pods};
use super::{GONE_WITHIN, NAMESPACE, Site, Step, labels};
use crate::exec;

pub const STEP: Step = Step { name: "policies in the cluster", run };

/// A namespace that has nothing to say to the other one.
const OTHER: &str = "callgate-xtask-other";
const NOTHING: &str = "forbid (principal, action, resource);";
/// From a broken object to the agent's alarm about it.
const ALARM_WITHIN: Duration = Duration::from_secs(10);

fn run(site: &Site<'_>) -> Result<String> {
    site.cluster.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OTHER } }))?;
    let done = steps(site);
    let mut gone = site.cluster.kubectl();
    let gone = exec::run(gone.args(["delete", "namespace", OTHER, "--ignore-not-found", GONE_WITHIN]));
    let said = done?;
    gone?;
    Ok(said)
}

fn steps(site: &Site<'_>) -> Result<String> {
    let pods = Pods::start(site)?;
    site.cluster.apply(&labels::policy(&pods.service()))?;
    labels::accepted(site)?;
    pods.label("client", "callgate.dev/enroll=true")?;
    pods.soon("client", "denied").context("after the label")?;

    // An address counts where it is named.
    let everything = format!("permit (principal, action, resource in Callgate::Service::\"{}\");", pods.service());
    // Neither permits nor forbids reach out of their namespace.
    site.cluster.apply(&policy(OTHER, &everything))?;
    condition(site, OTHER, "True")?;
    pods.expect("client", DENIED, "denied").context("what another namespace permits")?;
    site.cluster.apply(&policy(NAMESPACE, &everything))?;
    let permitted_after = pods.soon("client", "answered").context("after its own namespace permits")?;
    site.cluster.apply(&policy(OTHER, NOTHING))?;
    site.cluster.apply(&policy(NAMESPACE, "\npermit (principal"))?;
    let message = condition(site, NAMESPACE, "False")?;
    ensure!(message.contains("line 2, column "), "the error has no place: {message}");
    let (changed, told) = (Instant::now(), format!("CallPolicy/{NAMESPACE}/all:2:"));
    while !site.release.on_node(&site.nodes[0], &["callgate", "status"])?.contains(&told) {
        ensure!(changed.elapsed() < ALARM_WITHIN, "no alarm about a broken object");
    }
    pods.expect("client", DENIED, "answered").context("a broken object, and another namespace's forbid")?;
    exec::run(site.cluster.kubectl().args(["--namespace", NAMESPACE, "delete", "callpolicy", "all"]))?;
    let denied_after = pods.soon("client", "denied").context("after the object was deleted")?;

    let mut unknown = policy(NAMESPACE, "");
    unknown["spec"]["options"] = json!({ "mode": "observe" });
    ensure!(site.cluster.apply(&unknown).is_err(), "an unknown option was taken");
    let (permitted, denied) = (permitted_after.as_millis(), denied_after.as_millis());
    Ok(format!("permitted after {permitted} ms, denied again after {denied} ms"))
}

fn policy(namespace: &str, cedar: &str) -> Value {
    json!({
        "apiVersion": "callgate.dev/v1alpha1", "kind": "CallPolicy",
        "metadata": { "name": "all", "namespace": namespace }, "spec": { "cedar": cedar },
    })
}

/// Waits until the controller says so of the object `all`; its message.
fn condition(site: &Site<'_>, namespace: &str, status: &str) -> Result<String> {
    let waited = format!("--for=condition=Accepted={status}");
    let mut wait = site.cluster.kubectl();
    exec::run(wait.args(["--namespace", namespace, "wait", &waited, "--timeout=20s", "callpolicy/all"]))?;
    let message = "--output=jsonpath={.status.conditions[0].message}";
    exec::output(site.cluster.kubectl().args(["--namespace", namespace, "get", "callpolicy", "all", message]))
}
