//! The cluster: that of `KUBECONFIG`, else the lab of `tests/cluster`, set up and brought up where it is not.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{GONE_WITHIN, NAMESPACE};
use crate::exec;

/// An API server that does not answer a small question for as long is none.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// Of the lab: one node is a cluster.
const NODES: &str = "1";

/// Where pods are run.
pub struct Cluster {
    kind: Kind,
}

enum Kind {
    /// What `KUBECONFIG` leads to, and the command that brings an archive to its nodes.
    Given { load: String },
    /// The scripts in this folder.
    Lab { scripts: PathBuf },
}

/// How it was found.
pub struct Begun {
    /// Whether it was not up before, and so is to be taken down.
    pub by_us: bool,
    pub said: String,
}

impl Cluster {
    /// Which it is to be; nothing is started.
    ///
    /// # Errors
    /// There is a `KUBECONFIG` and no way to bring images there; or there is none, and no root to make a cluster.
    pub fn find(repository: &Path, load: Option<&str>) -> Result<Cluster> {
        if env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty()) {
            ensure!(exec::has_program("kubectl"), "KUBECONFIG is set, but there is no kubectl");
            let load = load.context(
                "KUBECONFIG is set: say with --load how an image's archive gets to that cluster's nodes \
                 (for instance `--load 'kind load image-archive'`; `--load true` where they have it already)",
            )?;
            return Ok(Cluster { kind: Kind::Given { load: load.to_owned() } });
        }
        Cluster::lab(repository)
    }

    /// The lab; nothing is started.
    ///
    /// # Errors
    /// We are not root.
    pub fn lab(repository: &Path) -> Result<Cluster> {
        ensure!(exec::is_root(), "no cluster: set KUBECONFIG, or be root, so that one can be made on this machine");
        Ok(Cluster { kind: Kind::Lab { scripts: repository.join("tests/cluster") } })
    }

    /// Whether it is the lab.
    pub fn is_lab(&self) -> bool {
        matches!(self.kind, Kind::Lab { .. })
    }

    /// Has it up, with an empty namespace for us.
    pub fn begin(&self) -> Result<Begun> {
        let by_us = match &self.kind {
            Kind::Given { .. } => false,
            Kind::Lab { scripts } => {
                exec::run(&mut Command::new(scripts.join("setup.sh")))
                    .context("no cluster: set KUBECONFIG where none can be made on this machine")?;
                // Asked before: afterwards it is up in any case.
                let was_up = self.nodes().is_ok();
                exec::run(Command::new(scripts.join("up.sh")).arg(NODES))?;
                !was_up
            }
        };
        let result = self.nodes().and_then(|nodes| {
            self.delete_namespace()?;
            self.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
            let kind = if matches!(self.kind, Kind::Lab { .. }) { "lab" } else { "KUBECONFIG" };
            let how = if by_us { "up" } else { "was up" };
            Ok(Begun { by_us, said: format!("{kind}, {how}: {}", nodes.join(", ")) })
        });
        if result.is_err() && by_us {
            // Nobody else would.
            let _ = self.leave(true);
        }
        result
    }

    /// Removes our namespace; and the lab, if `down`.
    pub fn leave(&self, down: bool) -> Result<()> {
        match &self.kind {
            Kind::Lab { scripts } if down => exec::run(&mut Command::new(scripts.join("down.sh"))),
            Kind::Lab { .. } | Kind::Given { .. } => self.delete_namespace(),
        }
    }

    /// Brings the image in `archive` to every node.
    pub fn load(&self, archive: &Path) -> Result<()> {
        match &self.kind {
            Kind::Given { load } => {
                let mut shell = Command::new("sh");
                exec::run(shell.args(["-c", &format!("{load} \"$0\"")]).arg(archive))
            }
            Kind::Lab { scripts } => {
                // By stdin: not every folder of the machine is to be seen in a node.
                for node in self.nodes()? {
                    let number = node.trim_start_matches('n');
                    let mut command = Command::new(scripts.join("node.sh"));
                    command.args(["exec", number, "ctr", "-n", "k8s.io", "images", "import", "-"]);
                    let status = command.stdin(File::open(archive)?).status()?;
                    ensure!(status.success(), "{node} does not take {}", archive.display());
                }
                Ok(())
            }
        }
    }

    /// kubectl, as its administrator.
    pub fn kubectl(&self) -> Command {
        match &self.kind {
            Kind::Given { .. } => Command::new("kubectl"),
            Kind::Lab { scripts } => Command::new(scripts.join("kubectl.sh")),
        }
    }

    /// Makes or changes an object.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let mut kubectl = self.kubectl();
        let mut child = kubectl.args(["apply", "--filename=-"]).stdin(Stdio::piped()).spawn().context("kubectl")?;
        serde_json::to_writer(child.stdin.take().context("its stdin is piped")?, object)?;
        ensure!(child.wait()?.success(), "the cluster does not take {object}");
        Ok(())
    }

    /// The names of its nodes, which proves that it answers.
    fn nodes(&self) -> Result<Vec<String>> {
        let mut kubectl = self.kubectl();
        kubectl.args(["get", "nodes", "--output=jsonpath={.items[*].metadata.name}"]);
        kubectl.arg(format!("--request-timeout={}s", ANSWERS_WITHIN.as_secs()));
        let said = exec::output(&mut kubectl).context("the cluster does not answer")?;
        let nodes: Vec<_> = said.split_whitespace().map(str::to_owned).collect();
        if nodes.is_empty() {
            bail!("the cluster has no nodes");
        }
        Ok(nodes)
    }

    /// The names of those that take any pod.
    ///
    /// # Errors
    /// There is none.
    pub fn workers(&self) -> Result<Vec<String>> {
        let nodes: Value =
            serde_json::from_str(&exec::output(self.kubectl().args(["get", "nodes", "--output=json"]))?)?;
        let takes_any = |node: &&Value| {
            let taints = node["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty());
            !taints && node["spec"]["unschedulable"] != true
        };
        let all = nodes["items"].as_array().into_iter().flatten().filter(takes_any);
        let names: Vec<_> = all.filter_map(|node| Some(node["metadata"]["name"].as_str()?.to_owned())).collect();
        ensure!(!names.is_empty(), "every node of the cluster has a taint, or takes no pods");
        Ok(names)
    }

    /// With all that is in it; waits until it is gone.
    fn delete_namespace(&self) -> Result<()> {
        let mut kubectl = self.kubectl();
        exec::run(kubectl.args(["delete", "namespace", NAMESPACE, "--ignore-not-found", GONE_WITHIN]))
    }
}
