//! Pods that run to their end: started, awaited, their output read.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{NAMESPACE, Site};
use crate::exec;

/// From a pod's creation to its end. The image is on the node already.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// Runs `command` of the agent's image on every node, in pods called `name` and a number; what they printed.
///
/// # Errors
/// As of one of them.
pub fn on_every_node(site: &Site<'_>, name: &str, command: &[&str]) -> Result<Vec<String>> {
    let numbered = site.nodes.iter().enumerate();
    numbered.map(|(number, node)| run(site, &format!("{name}-{number}"), node, command)).collect()
}

/// Where a pod is to be: on the node called so, and nowhere else. The scheduler places it, taints count.
pub fn on(node: &str) -> Value {
    let term = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] });
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } })
}

/// Runs `command` in a pod, as the agent's pods are run; what it printed.
///
/// # Errors
/// It failed or did not end in time; then what it printed, and what the cluster says of it, is shown.
fn run(site: &Site<'_>, name: &str, node: &str, command: &[&str]) -> Result<String> {
    site.cluster.apply(&pod(name, node, site.agent_image()?, command))?;
    let phase = wait(site, name);
    let mut logs = site.cluster.kubectl();
    let said = exec::output(logs.args(["logs", "--namespace", NAMESPACE, name]));
    if let Ok(said) = &said {
        for line in said.lines() {
            println!("    {line}");
        }
    }
    let phase = phase?;
    if phase != "Succeeded" {
        let mut describe = site.cluster.kubectl();
        let _ = exec::run(describe.args(["describe", "pod", "--namespace", NAMESPACE, name]));
        bail!("the pod `{name}` ended as {phase}");
    }
    said.with_context(|| format!("the output of `{name}`"))
}

/// Privileged and with the host's processes: what it may is the chart's business, not this step's.
fn pod(name: &str, node: &str, image: &str, command: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "affinity": on(node),
            "hostPID": true,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": name,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "securityContext": { "privileged": true, "readOnlyRootFilesystem": true },
                "volumeMounts": [
                    { "name": "bpf", "mountPath": "/sys/fs/bpf" },
                    { "name": "run", "mountPath": "/run/callgate" },
                    { "name": "state", "mountPath": "/var/lib/callgate" },
                ],
            }],
            "volumes": [
                { "name": "bpf", "hostPath": { "path": "/sys/fs/bpf" } },
                { "name": "run", "emptyDir": {} },
                { "name": "state", "hostPath": { "path": "/var/lib/callgate", "type": "DirectoryOrCreate" } },
            ],
        },
    })
}

/// Waits for the end of the pod called `name`; its phase.
pub fn wait(site: &Site<'_>, name: &str) -> Result<String> {
    let end = Instant::now() + ENDS_WITHIN;
    loop {
        let mut kubectl = site.cluster.kubectl();
        kubectl.args(["get", "pod", "--namespace", NAMESPACE, name, "--output=jsonpath={.status.phase}"]);
        let phase = exec::output(&mut kubectl)?;
        if matches!(phase.as_str(), "Succeeded" | "Failed") || Instant::now() > end {
            return Ok(phase);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
