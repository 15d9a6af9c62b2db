//! A label governs a pod, and its removal frees it, within two seconds; nobody else notices; every call is on record.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::pods::{ALLOWED, DENIED, PERSON, Pods};
use super::{NAMESPACE, Site, Step};

pub const STEP: Step = Step { name: "a label governs a pod", run };

const LABEL: &str = "callgate.dev/enroll";
/// From a call to its record in the collector. Source: agents ship each 200 ms.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);
/// Whom the server tells of, as the upstream of the tests has it: masked by the policy.
const EMAIL: &str = "@";

fn run(site: &Site<'_>) -> Result<String> {
    let pods = Pods::start(site)?;
    site.cluster.apply(&policy(&pods.service()))?;
    accepted(site)?;
    let (on, off) = (format!("{LABEL}=true"), format!("{LABEL}-"));
    for client in ["client", "bystander"] {
        pods.expect(client, DENIED, "answered").context("before any label")?;
    }
    pods.label("client", &on)?;
    let denied_after = pods.soon("client", "denied").context("after the label")?;
    pods.expect("client", ALLOWED, "answered").context("what the policy permits")?;
    let person = pods.expect("client", PERSON, "answered").context("what the policy masks")?;
    ensure!(!person.contains(EMAIL) && person.contains("[masked:"), "it is not masked: {person}");
    let bare = pods.expect("bystander", PERSON, "answered").context("a pod without a label")?;
    ensure!(bare.contains(EMAIL), "the server says nothing that is worth masking: {bare}");
    pods.expect("bystander", DENIED, "answered").context("a pod without a label")?;
    let workloads = site.release.on_node(&site.nodes[0], &["callgate", "workloads", "--json"])?;
    let workload = format!("k8s/{NAMESPACE}/default");
    ensure!(workloads.contains(&format!("\"{workload}\"")), "no {workload} among {workloads}");
    let recorded = recorded(site, &pods)?;
    pods.label("client", &off)?;
    let freed_after = pods.soon("client", "answered").context("after the label was taken away")?;
    // The namespace's label governs every pod in it, but those that say otherwise.
    pods.label("bystander", &format!("{LABEL}=false"))?;
    pods.label("server", &format!("{LABEL}=false"))?;
    pods.label_namespace(&on)?;
    pods.soon("client", "denied").context("after the namespace's label")?;
    pods.expect("bystander", DENIED, "answered").context("a pod that says no")?;
    pods.label_namespace(&off)?;
    pods.soon("client", "answered").context("after the namespace's label was taken away")?;
    pods.unharmed()?;
    Ok(format!(
        "denied after {} ms, free again after {} ms, on record after {} ms",
        denied_after.as_millis(),
        freed_after.as_millis(),
        recorded.as_millis()
    ))
}

/// Two pages of the server may be read, one of them masked.
pub fn policy(service: &str) -> Value {
    let cedar = format!(
        "@id(\"pages\") permit (principal, action == Callgate::Action::\"call\", \
         resource in Callgate::Service::\"{service}\") when {{ resource.path == \"{ALLOWED}\" }};\n\
         @id(\"people\") @mask(\"email\") permit (principal, action == Callgate::Action::\"call\", \
         resource in Callgate::Service::\"{service}\") when {{ resource.path == \"{PERSON}\" }};\n"
    );
    json!({
        "apiVersion": "callgate.dev/v1alpha1", "kind": "CallPolicy",
        "metadata": { "name": "pages", "namespace": NAMESPACE }, "spec": { "cedar": cedar },
    })
}

/// Waits for the controller's word on the policy.
pub fn accepted(site: &Site<'_>) -> Result<()> {
    let mut kubectl = site.cluster.kubectl();
    kubectl.args(["--namespace", NAMESPACE, "wait", "--for=condition=Accepted", "--timeout=20s", "callpolicy/pages"]);
    crate::exec::run(&mut kubectl).context("the policy is not accepted")
}

/// Waits until the collector has the client's calls, each with everything that tells who it was.
fn recorded(site: &Site<'_>, pods: &Pods<'_>) -> Result<Duration> {
    let (start, pod) = (Instant::now(), format!("\"{}\"", pods.name("client")));
    loop {
        let said = site.release.on_collector(&["callgate", "audit", "search", "--json"])?;
        let image = &site.clients.built.reference;
        let whole = |line: &&str| {
            let told = [NAMESPACE, &pod, "\"default\"", image, "deny"];
            told.iter().all(|word| line.contains(word))
        };
        if said.lines().any(|line| whole(&line)) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > RECORDED_WITHIN {
            bail!("no record of a denied call of `client` with its image: {said}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
