//! The bill of materials of an image, as CycloneDX 1.5 JSON: its programs with their digests, the crates that were
//! compiled into them, the Debian packages that files were copied from.
//!
//! No serial number and no time but the commit's: the same image has the same bill.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::libraries::Package;
use super::origin::Origin;
use super::tree::Tree;
use super::{Image, archive};
use crate::exec;

/// The kernel programs: compiled by the build script of a crate, so no edge leads there.
const KERNEL: (&str, &str, &str) = ("callgate-redirect", "callgate-ebpf-redirect", "bpfel-unknown-none");

/// The crates of the tree, as `Cargo.lock` has them.
#[derive(Default)]
pub struct Crates {
    /// By cargo's id.
    packages: BTreeMap<String, Value>,
    /// Ids by name, of the crates of this repository.
    members: BTreeMap<String, String>,
    /// What is compiled into what; not what tests and build scripts use.
    edges: BTreeMap<String, BTreeSet<String>>,
    /// SHA-256 of the published archive, by name and version.
    checksums: BTreeMap<(String, String), String>,
}

impl Crates {
    /// Of the repository, for this machine's target.
    pub fn of(repository: &Path) -> Result<Crates> {
        let mut crates = Crates { checksums: checksums(repository)?, ..Crates::default() };
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let (from, to, target) = KERNEL;
        crates.take(&metadata(repository, &host)?, |_| true);
        // Of the kernel programs' target only what they reach.
        let kernel = metadata(repository, target)?;
        let mut below = Crates::default();
        below.take(&kernel, |_| true);
        let reached = below.reach([to])?;
        crates.take(&kernel, |id| reached.contains(id));
        let id = |name: &str| crates.members.get(name).cloned().with_context(|| format!("no crate {name}"));
        let (from, to) = (id(from)?, id(to)?);
        crates.edges.entry(from).or_default().insert(to);
        Ok(crates)
    }

    /// Takes the packages and edges that `counts` says yes to.
    fn take(&mut self, metadata: &Value, counts: impl Fn(&str) -> bool) {
        let members: BTreeSet<_> = list(&metadata["workspace_members"]).iter().map(text).collect();
        for package in list(&metadata["packages"]) {
            let id = text(&package["id"]);
            if members.contains(&id) {
                self.members.insert(text(&package["name"]), id.clone());
            }
            self.packages.insert(id, package.clone());
        }
        for node in list(&metadata["resolve"]["nodes"]).iter().filter(|node| counts(&text(&node["id"]))) {
            let normal = list(&node["deps"])
                .iter()
                .filter(|dependency| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()));
            let edges = self.edges.entry(text(&node["id"])).or_default();
            edges.extend(normal.map(|dependency| text(&dependency["pkg"])));
        }
    }

    /// The ids of `members`, and of what they are made of.
    fn reach<'a>(&self, members: impl IntoIterator<Item = &'a str>) -> Result<BTreeSet<String>> {
        let mut open = Vec::new();
        for name in members {
            open.push(self.members.get(name).with_context(|| format!("no crate {name}"))?.clone());
        }
        let mut reached = BTreeSet::new();
        while let Some(id) = open.pop() {
            if reached.insert(id.clone()) {
                open.extend(self.edges.get(&id).into_iter().flatten().cloned());
            }
        }
        Ok(reached)
    }

    fn component(&self, id: &str) -> Result<Value> {
        let package = self.packages.get(id).with_context(|| format!("no package {id}"))?;
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let mut component = json!({
            "type": "library",
            "bom-ref": crate_url(&name, &version),
            "name": name,
            "version": version,
            "purl": crate_url(&name, &version),
        });
        if let Some(licence) = package["license"].as_str() {
            // Older manifests write `MIT/Apache-2.0`, which is no expression of SPDX.
            component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
        }
        if let Some(checksum) = self.checksums.get(&(name, version)) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        Ok(component)
    }
}

/// The bill of `image`, whose files are in `tree`.
pub fn of(
    image: &Image,
    tree: &Tree,
    packages: &BTreeSet<Package>,
    crates: &Crates,
    origin: &Origin,
) -> Result<Vec<u8>> {
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    let mut parts = Vec::new();
    for (program, krate) in image.programs {
        let bytes = tree.bytes(&format!("usr/bin/{program}")).with_context(|| format!("no {program} in the image"))?;
        let reference = format!("program:{program}");
        components.push(json!({
            "type": "application",
            "bom-ref": reference,
            "name": program,
            "version": origin.version,
            "hashes": [{ "alg": "SHA-256", "content": archive::sha256(bytes) }],
        }));
        let made_of = crates.members.get(*krate).with_context(|| format!("no crate {krate}"))?;
        dependencies.push(json!({ "ref": reference, "dependsOn": [crates.component(made_of)?["bom-ref"]] }));
        parts.push(reference);
    }
    let reached = crates.reach(image.programs.iter().map(|(_, krate)| *krate))?;
    for id in &reached {
        let component = crates.component(id)?;
        let mut depends_on = Vec::new();
        for edge in crates.edges.get(id).into_iter().flatten() {
            depends_on.push(crates.component(edge)?["bom-ref"].clone());
        }
        dependencies.push(json!({ "ref": component["bom-ref"], "dependsOn": depends_on }));
        components.push(component);
    }
    for package in packages {
        let url = package_url(package);
        components.push(json!({
            "type": "library",
            "bom-ref": url,
            "name": package.name,
            "version": package.version,
            "purl": url,
        }));
        parts.push(url);
    }
    dependencies.push(json!({ "ref": "image", "dependsOn": parts }));
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": origin.date,
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": image.name,
                "version": origin.version,
            },
            "properties": [{ "name": "callgate:revision", "value": origin.revision }],
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(serde_json::to_vec_pretty(&bill)?)
}

fn metadata(repository: &Path, target: &str) -> Result<Value> {
    let words = ["metadata", "--format-version", "1", "--locked", "--filter-platform", target];
    Ok(serde_json::from_str(&exec::output(exec::cargo().current_dir(repository).args(words))?)?)
}

fn checksums(repository: &Path) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = std::fs::read_to_string(repository.join("Cargo.lock"))?.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock has no packages")?;
    let field = |package: &toml::Value, name: &str| Some(package.get(name)?.as_str()?.to_owned());
    let row = |package| Some(((field(package, "name")?, field(package, "version")?), field(package, "checksum")?));
    Ok(packages.iter().filter_map(row).collect())
}

fn crate_url(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

fn package_url(Package { name, version, architecture }: &Package) -> String {
    let version = version.replace('+', "%2B").replace(':', "%3A");
    format!("pkg:deb/debian/{}@{version}?arch={architecture}", name.replace('+', "%2B"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
