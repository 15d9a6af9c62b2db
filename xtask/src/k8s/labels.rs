//! A label governs a pod, and its removal frees it, within two seconds; nobody else notices.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::agent::Agent;
use super::{NAMESPACE, Site, Step};
use crate::exec;

pub const STEP: Step = Step { name: "a label governs a pod", run };

/// From the label to the first call that goes the other way. Source: the promise of the documentation.
const PROMISED: Duration = Duration::from_secs(2);
/// Longest start of a pod whose image is on the node.
const READY_WITHIN: &str = "--timeout=60s";

fn run(site: &Site<'_>) -> Result<String> {
    for pod in [server(), client("client"), client("bystander")] {
        site.cluster.apply(&pod)?;
    }
    let all = ["pod/server", "pod/client", "pod/bystander"];
    exec::run(kubectl(site, &["wait", "--for=condition=Ready", READY_WITHIN]).args(all))?;
    let address = exec::output(&mut kubectl(site, &["get", "pod", "server", "--output=jsonpath={.status.podIP}"]))?;
    let policies = format!(
        "@id(\"allowed\") permit (principal in Callgate::Namespace::\"{NAMESPACE}\", action == Callgate::Action::\"call\", \
         resource in Callgate::Service::\"{address}:8080\") when {{ resource.path == \"/allowed\" }};\n"
    );
    let agent = Agent::start(site, &policies)?;
    let result = governed(site, &agent, address.trim());
    if result.is_err() {
        agent.tell();
    }
    // What failed first is told.
    let left = agent.leave();
    let said = result?;
    left?;
    ensure!(call(site, "client", address.trim(), "/denied")? == Said::Answered, "the client is governed by nobody");
    Ok(said)
}

fn governed(site: &Site<'_>, agent: &Agent<'_>, address: &str) -> Result<String> {
    for client in ["client", "bystander"] {
        expect(site, client, address, "/denied", Said::Answered).context("before any label")?;
    }
    exec::run(&mut kubectl(site, &["label", "pod", "client", "callgate.dev/enroll=true"]))?;
    let denied_after = within(site, address, Said::Denied).context("after the label")?;
    expect(site, "client", address, "/allowed", Said::Answered).context("what the policy permits")?;
    expect(site, "bystander", address, "/denied", Said::Answered).context("a pod without a label")?;
    let workloads = agent.says(&["callgate", "workloads", "--json"])?;
    let workload = format!("k8s/{NAMESPACE}/default");
    ensure!(workloads.contains(&format!("\"{workload}\"")), "no {workload} among {workloads}");
    exec::run(&mut kubectl(site, &["label", "pod", "client", "callgate.dev/enroll-"]))?;
    let freed_after = within(site, address, Said::Answered).context("after the label was taken away")?;
    // The namespace's label governs every pod in it, but those that say otherwise.
    exec::run(&mut kubectl(site, &["label", "pod", "bystander", "callgate.dev/enroll=false"]))?;
    exec::run(&mut kubectl(site, &["label", "namespace", NAMESPACE, "callgate.dev/enroll=true"]))?;
    within(site, address, Said::Denied).context("after the namespace's label")?;
    expect(site, "bystander", address, "/denied", Said::Answered).context("a pod that says no")?;
    exec::run(&mut kubectl(site, &["label", "namespace", NAMESPACE, "callgate.dev/enroll-"]))?;
    within(site, address, Said::Answered).context("after the namespace's label was taken away")?;
    Ok(format!("denied after {} ms, free again after {} ms", denied_after.as_millis(), freed_after.as_millis()))
}

/// What a client saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Answered,
    Denied,
}

fn expect(site: &Site<'_>, client: &str, address: &str, path: &str, expected: Said) -> Result<()> {
    let said = call(site, client, address, path)?;
    ensure!(said == expected, "{client}, {path}: {said:?}, expected {expected:?}");
    Ok(())
}

/// Calls until the answer is as expected, which must be soon. The time that a call itself takes is part of it.
fn within(site: &Site<'_>, address: &str, expected: Said) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let said = call(site, "client", address, "/denied")?;
        let took = start.elapsed();
        if said == expected && took <= PROMISED {
            return Ok(took);
        }
        ensure!(took <= PROMISED, "{said:?} after {took:?}, expected {expected:?}");
    }
}

fn call(site: &Site<'_>, client: &str, address: &str, path: &str) -> Result<Said> {
    let output = kubectl(site, &["exec", client, "--", "tcpget", address, "8080", path]).output().context("kubectl")?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let status = answer.lines().next().and_then(|line| line.split(' ').nth(1));
    match status {
        Some("200") if answer.trim_end().ends_with("served") => Ok(Said::Answered),
        Some("403") => Ok(Said::Denied),
        _ => bail!("{client} got {answer:?} of {path}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn kubectl(site: &Site<'_>, arguments: &[&str]) -> Command {
    let mut kubectl = site.cluster.kubectl();
    kubectl.args(["--namespace", NAMESPACE]).args(arguments);
    kubectl
}

fn server() -> Value {
    let serve =
        "mkdir /www; for page in allowed denied; do echo served > /www/$page; done; exec httpd -f -p 8080 -h /www";
    pod("server", &["sh", "-c", serve])
}

fn client(name: &str) -> Value {
    pod(name, &["sleep", "1000000"])
}

fn pod(name: &str, command: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": name, "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent", "command": command,
            }],
        },
    })
}
