//! The agent as a pod of the node, until the chart installs it: what it may, and what it is told.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{NAMESPACE, Site};
use crate::exec;

const NAME: &str = "callgate-agent";
/// From its creation to readiness, which takes the API's first list of pods.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running agent; [`Agent::leave`] takes it and its enforcement away.
pub struct Agent<'a> {
    site: &'a Site<'a>,
}

impl<'a> Agent<'a> {
    /// Starts it with `policies` and, before its section about the cluster, `more` of the configuration; waits until it
    /// is ready.
    pub fn start(site: &'a Site<'a>, policies: &str, more: &str) -> Result<Agent<'a>> {
        let agent = Agent { site };
        let started = objects(site.agent_image()?, policies, more)
            .iter()
            .try_for_each(|object| site.cluster.apply(object))
            .and_then(|()| agent.await_ready());
        if let Err(error) = started {
            agent.tell();
            // What failed first is told.
            let _ = agent.leave();
            return Err(error);
        }
        Ok(agent)
    }

    /// What a command within its container prints.
    pub fn says(&self, command: &[&str]) -> Result<String> {
        exec::output(self.kubectl(&["exec", NAME, "--"]).args(command))
    }

    /// Its log, for people.
    pub fn tell(&self) {
        let _ = exec::run(&mut self.kubectl(&["logs", "--tail=40", NAME]));
    }

    /// Removes the pod alone; what it has put into the kernel stays.
    pub fn dies(&self) -> Result<()> {
        exec::run(&mut self.kubectl(&["delete", "pod", NAME, "--ignore-not-found", "--timeout=60s"]))
    }

    /// Removes the pod, and what it has put into the kernel of the node.
    pub fn leave(self) -> Result<()> {
        // The programs stay when the agent is gone; whoever is left takes them away.
        let ended = self.dies();
        let removed = super::pod::run(self.site, "uninstall", &["/usr/bin/callgate", "uninstall"]).map(drop);
        let mut roles = self.site.cluster.kubectl();
        let roles = exec::run(roles.args(["delete", "clusterrole,clusterrolebinding", ROLE, "--ignore-not-found"]));
        ended.and(removed).and(roles)
    }

    fn await_ready(&self) -> Result<()> {
        let within = format!("--timeout={}s", READY_WITHIN.as_secs());
        exec::run(&mut self.kubectl(&["wait", "--for=condition=Ready", &within, "pod", NAME]))
            .context("the agent is not ready")
    }

    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = self.site.cluster.kubectl();
        kubectl.args(["--namespace", NAMESPACE]).args(arguments);
        kubectl
    }
}

/// Roles belong to no namespace, so they bear its name.
const ROLE: &str = NAMESPACE;

fn objects(image: &str, policies: &str, more: &str) -> [Value; 5] {
    let named = |name: &str| json!({ "name": name, "namespace": NAMESPACE });
    let config = format!(
        "cgroup_root = \"kubepods\"\npolicy_dir = \"/etc/callgate/policies\"\nmetrics_listen = \"0.0.0.0:9464\"\n\
         {more}\n[kubernetes]\n"
    );
    // tidy: allow(cgroup_path): where a pod sees the node's, which is mounted there.
    let cgroups = "/sys/fs/cgroup";
    let host = |name: &str, path: &str| json!({ "name": name, "hostPath": { "path": path } });
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
    [
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": named(NAME) }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": ROLE },
            "rules": [{ "apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"] }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": ROLE },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE },
            "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE }],
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": named(NAME),
            "data": { "agent.toml": config, "policies.cedar": policies },
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": named(NAME),
            "spec": {
                "serviceAccountName": NAME,
                "hostPID": true,
                "terminationGracePeriodSeconds": 10,
                "containers": [{
                    "name": NAME,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["--config", "/etc/callgate/agent.toml"],
                    "env": [{ "name": "NODE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
                    "securityContext": { "privileged": true, "readOnlyRootFilesystem": true },
                    "readinessProbe": { "httpGet": { "path": "/readyz", "port": 9464 }, "periodSeconds": 1 },
                    "volumeMounts": [
                        mount("bpf", "/sys/fs/bpf"), mount("cgroup", cgroups),
                        mount("state", "/var/lib/callgate"), mount("run", "/run/callgate"),
                        { "name": "config", "mountPath": "/etc/callgate/agent.toml", "subPath": "agent.toml" },
                        { "name": "config", "mountPath": "/etc/callgate/policies/node.cedar",
                          "subPath": "policies.cedar" },
                    ],
                }],
                "volumes": [
                    host("bpf", "/sys/fs/bpf"), host("cgroup", cgroups),
                    { "name": "state", "emptyDir": {} }, { "name": "run", "emptyDir": {} },
                    { "name": "config", "configMap": { "name": NAME } },
                ],
            },
        }),
    ]
}
