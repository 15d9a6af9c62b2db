//! The chart rendered: by the program of `tests/chart/render`, and by helm where there is one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::CHART;
use crate::{exec, paths};

/// Where Debian's packages of Go libraries put them.
const GO_LIBRARIES: &str = "/usr/share/gocode";

/// Kinds that helm does not take for granted, and the first version of Kubernetes (its minor number) that has them.
const NEWER: &[(u32, &str)] = &[(36, "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")];

/// What is asked of the chart.
pub struct Rendering<'a> {
    pub namespace: &'a str,
    /// Version of the API server, `v1.20.0`.
    pub kube: &'a str,
    /// `KEY=VALUE` each.
    pub sets: &'a [&'a str],
    /// Whether the definitions of our kinds come first.
    pub crds: bool,
}

impl Default for Rendering<'_> {
    fn default() -> Self {
        Self { namespace: "callgate-system", kube: "v1.36.0", sets: &[], crds: false }
    }
}

/// Renders.
pub struct Renderer {
    repository: PathBuf,
    program: PathBuf,
    has_helm: bool,
}

impl Renderer {
    /// Compiles the program, without network: its libraries are Debian's.
    pub fn build(repository: &Path) -> Result<Renderer> {
        let cache = paths::cache()?;
        let program = cache.join("chart-render");
        let mut go = Command::new("go");
        go.current_dir(repository.join("tests/chart/render")).args(["build", "-o"]).arg(&program).arg(".");
        go.env("GO111MODULE", "off").env("GOPATH", GO_LIBRARIES).env("GOFLAGS", "").env("GOCACHE", cache.join("go"));
        exec::run(&mut go)?;
        Ok(Renderer { repository: repository.to_owned(), program, has_helm: exec::has_program("helm") })
    }

    /// Whether everything is rendered by helm too.
    pub fn has_helm(&self) -> bool {
        self.has_helm
    }

    /// What `kubectl apply` takes.
    ///
    /// # Errors
    /// The values do not fit, a template fails, or helm makes something else of it.
    pub fn text(&self, rendering: &Rendering<'_>) -> Result<String> {
        self.objects(rendering)?;
        exec::output(&mut self.command(rendering))
    }

    /// The objects by kind and name, `DaemonSet/callgate-agent`.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn objects(&self, rendering: &Rendering<'_>) -> Result<BTreeMap<String, Value>> {
        let ours = exec::output(self.command(rendering).arg("--json")).and_then(|said| by_name(&said));
        if self.has_helm {
            let theirs = self.helm(rendering);
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => compare(ours, theirs)?,
                (Err(_), Err(_)) => {}
                (Ok(_), Err(error)) => anyhow::bail!("helm does not take what our renderer takes: {error:#}"),
                (Err(error), Ok(_)) => anyhow::bail!("helm takes what our renderer does not: {error:#}"),
            }
        }
        ours
    }

    /// What is printed after an installation.
    pub fn notes(&self, rendering: &Rendering<'_>) -> Result<String> {
        exec::output(self.command(rendering).arg("--notes"))
    }

    /// A YAML file as JSON.
    pub fn parse(&self, text: &str) -> Result<Vec<Value>> {
        let mut command = Command::new(&self.program);
        let mut child = command.arg("--parse").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("its stdin is piped")?;
        // It reads everything before it writes anything.
        stdin.write_all(text.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "no YAML");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn command(&self, rendering: &Rendering<'_>) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.repository).args(["--chart", CHART, "--namespace", rendering.namespace]);
        command.args(["--kube-version", rendering.kube]).args(rendering.crds.then_some("--include-crds"));
        command.args(apis(rendering.kube).flat_map(|api| ["--api-version", api]));
        command.args(rendering.sets.iter().flat_map(|set| ["--set", set]));
        command
    }

    fn helm(&self, rendering: &Rendering<'_>) -> Result<BTreeMap<String, Value>> {
        let mut helm = Command::new("helm");
        helm.current_dir(&self.repository).args(["template", "callgate", CHART, "--namespace", rendering.namespace]);
        helm.args(["--kube-version", rendering.kube]).args(rendering.crds.then_some("--include-crds"));
        helm.args(apis(rendering.kube).flat_map(|api| ["--api-versions", api]));
        helm.args(rendering.sets.iter().flat_map(|set| ["--set", set]));
        let said = exec::output(&mut helm)?;
        named(self.parse(&said)?)
    }
}

/// What an API server of version `kube` has beyond what helm takes for granted.
fn apis(kube: &str) -> impl Iterator<Item = &'static str> {
    let minor = kube.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    NEWER.iter().filter(move |(since, _)| *since <= minor).map(|(_, api)| *api)
}

fn by_name(json: &str) -> Result<BTreeMap<String, Value>> {
    named(serde_json::from_str(json)?)
}

fn named(objects: Vec<Value>) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for object in objects {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = format!("{}/{}", text("/kind"), text("/metadata/name"));
        ensure!(all.insert(name.clone(), object).is_none(), "`{name}` is there twice");
    }
    Ok(all)
}

fn compare(ours: &BTreeMap<String, Value>, theirs: &BTreeMap<String, Value>) -> Result<()> {
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    ensure!(names(ours) == names(theirs), "helm renders {:?}, ours {:?}", names(theirs), names(ours));
    for (name, object) in ours {
        ensure!(theirs.get(name) == Some(object), "helm renders `{name}` otherwise: {:#}", theirs[name]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_helm_renders_otherwise_is_named() {
        let objects = |port: u16, name: &str| {
            named(vec![json!({ "kind": "Service", "metadata": { "name": name }, "port": port })]).unwrap()
        };
        compare(&objects(1, "a"), &objects(1, "a")).unwrap();
        assert!(compare(&objects(1, "a"), &objects(2, "a")).unwrap_err().to_string().contains("`Service/a`"));
        assert!(compare(&objects(1, "a"), &objects(1, "b")).unwrap_err().to_string().contains("Service/b"));
        let one = json!({ "kind": "Service", "metadata": { "name": "a" } });
        assert!(named(vec![one.clone(), one]).unwrap_err().to_string().contains("twice"));
    }
}
