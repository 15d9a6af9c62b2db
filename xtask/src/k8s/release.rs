//! The chart in the cluster: installed, changed, and removed as an operator does it, without helm.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{GONE_WITHIN, Options, cluster::Cluster};
use crate::chart::{Renderer, Rendering};
use crate::exec;
use crate::image::Built;

/// Where everything of the chart is.
pub const SYSTEM: &str = "callgate-system";
/// From an object's change to readiness of its pods: images are on the nodes.
const READY_WITHIN: &str = "--timeout=180s";

/// Kinds that belong to no namespace, so that a namespace's end leaves them.
const CLUSTER_WIDE: &str = "clusterrole,clusterrolebinding,mutatingwebhookconfiguration,customresourcedefinition";
/// Its agents.
const AGENTS: &str = "--selector=app.kubernetes.io/component=agent";
/// Of all objects of the chart.
const OURS: &str = "app.kubernetes.io/name=callgate";

/// What the chart has made of the cluster.
pub struct Release<'a> {
    cluster: &'a Cluster,
    renderer: Renderer,
    /// Version of the API server.
    kube: String,
    /// Values that hold throughout.
    base: Vec<String>,
}

impl<'a> Release<'a> {
    /// Nothing is installed yet.
    pub fn new(
        cluster: &'a Cluster,
        renderer: Renderer,
        images: &[Built],
        upstream_ca: &str,
        options: &Options,
    ) -> Result<Release<'a>> {
        let version = exec::output(cluster.kubectl().args(["version", "--output=json"]))?;
        let version: Value = serde_json::from_str(&version)?;
        let kube = version["serverVersion"]["gitVersion"].as_str().context("kubectl tells no version of the server")?;
        // v1.33.1-gke.100 and the like.
        let kube = kube.split(['-', '+']).next().unwrap_or(kube).to_owned();
        let mut base = vec![format!("agent.upstreamCA={upstream_ca}")];
        for component in ["agent", "collector", "controller"] {
            let built = images.iter().find(|built| built.name.strip_prefix("callgate-") == Some(component));
            let built = built.with_context(|| format!("no image of the {component}"))?;
            base.push(format!("{component}.image={}", built.reference));
        }
        if cluster.is_lab() {
            base.push("agent.cgroupRoot=kubepods".into());
            base.push("collector.persistence.enabled=false".into());
        }
        base.extend(options.set.iter().cloned());
        Ok(Release { cluster, renderer, kube, base })
    }

    /// Has the chart in the cluster with `more` values (`KEY=VALUE`), and everything of it ready.
    pub fn apply(&self, more: &[&str]) -> Result<()> {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SYSTEM } });
        self.cluster.apply(&namespace)?;
        // Their kinds must be known before objects of them are.
        self.put(more)?;
        self.ready(more)
    }

    /// The same without waiting.
    pub fn put(&self, more: &[&str]) -> Result<()> {
        let sets: Vec<&str> = self.base.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let rendering = Rendering { namespace: SYSTEM, kube: &self.kube, sets: &sets, crds: true };
        let objects = self.renderer.objects(&rendering)?;
        let mut items: Vec<&Value> = objects.values().collect();
        // Pods last: they name what the others are.
        items.sort_by_key(|object| object.pointer("/spec/template").is_some());
        self.cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))
    }

    /// Waits until what was put is ready.
    fn ready(&self, more: &[&str]) -> Result<()> {
        let generation = more.iter().find_map(|set| set.strip_prefix("agent.generation="));
        let agents =
            generation.map_or_else(|| "daemonset/callgate-agent".into(), |it| format!("daemonset/callgate-agent-{it}"));
        // The controller first: the others wait for what it makes.
        for what in ["deployment/callgate-controller", "statefulset/callgate-collector", &agents] {
            let ready = exec::run(&mut self.kubectl(&["rollout", "status", READY_WITHIN, what]));
            if let Err(error) = ready {
                self.tell();
                return Err(error).with_context(|| format!("{what} is not ready"));
            }
        }
        Ok(())
    }

    /// Nobody is left to serve, and nothing starts anew; what is in the kernel stays.
    pub fn end_agents(&self) -> Result<()> {
        exec::run(&mut self.kubectl(&["delete", "daemonset", "--all", "--wait", "--cascade=foreground", GONE_WITHIN]))
    }

    /// The agents end, and others take their place.
    pub fn restart_agents(&self) -> Result<()> {
        exec::run(&mut self.kubectl(&["delete", "pods", AGENTS, GONE_WITHIN]))?;
        self.ready(&[])
    }

    /// What a command of the command line prints on a node, in its agent's container.
    pub fn on_node(&self, node: &str, command: &[&str]) -> Result<String> {
        let agent = self.agent_on(node)?;
        exec::output(self.kubectl(&["exec", &agent, "--container=agent", "--"]).args(command))
    }

    /// The log of a node's agent.
    pub fn log_on(&self, node: &str) -> Result<String> {
        exec::output(&mut self.kubectl(&["logs", &self.agent_on(node)?, "--container=agent"]))
    }

    fn agent_on(&self, node: &str) -> Result<String> {
        let of = format!("--field-selector=spec.nodeName={node},status.phase=Running");
        let agents = exec::output(&mut self.kubectl(&["get", "pods", AGENTS, &of, "--output=name"]))?;
        Ok(agents.lines().next().with_context(|| format!("no agent on {node}"))?.to_owned())
    }

    /// What a command prints beside the collector's store.
    pub fn on_collector(&self, command: &[&str]) -> Result<String> {
        exec::output(self.kubectl(&["exec", "callgate-collector-0", "--"]).args(command))
    }

    /// kubectl in the chart's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = self.cluster.kubectl();
        kubectl.args(["--namespace", SYSTEM]).args(arguments);
        kubectl
    }

    /// Everything that helps to see what is wrong, for people.
    pub fn tell(&self) {
        for words in [
            &["get", "pods", "--output=wide"][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", "--tail=40", "deployment/callgate-controller"],
            &["logs", "--tail=20", "callgate-collector-0"],
            &["logs", "--tail=60", "--prefix", AGENTS, "--all-containers"],
        ] {
            let _ = exec::run(&mut self.kubectl(words));
        }
    }

    /// Removes what is in the kernels of the nodes, then everything in the cluster.
    pub fn remove(&self) -> Result<()> {
        // As NOTES.txt says: the agents end, and each node is cleaned.
        self.put(&["agent.remove=true"])?;
        let cleaned = self.ready(&[]);
        cleaned.and(self.delete())
    }

    /// Removes the objects alone, and those of an earlier run.
    pub fn delete(&self) -> Result<()> {
        let mut kubectl = self.cluster.kubectl();
        exec::run(kubectl.args(["delete", CLUSTER_WIDE, "--selector", OURS, "--ignore-not-found", GONE_WITHIN]))?;
        let mut kubectl = self.cluster.kubectl();
        exec::run(kubectl.args(["delete", "namespace", SYSTEM, "--ignore-not-found", GONE_WITHIN]))
    }
}
