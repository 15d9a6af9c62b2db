//! Containers by label, as far as the runtimes' own files tell: no socket of theirs is asked.
//!
//! A runtime writes a container's file before it makes the container's cgroup, so what is read when the cgroup appears
//! is complete. The files are root's; who can write them can start containers anyway.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use callgate_model::Placement;
use serde::Deserialize;

use crate::EnrollError;

/// Longest file of a runtime that is read. Unit: bytes. Source: real ones have some tens of KiB.
const FILE_MAX: u64 = 8 << 20;

/// How many digits of an id name a container that has no name. Source: as `docker ps` does.
const SHORT_ID: usize = 12;

/// A container runtime: what it is called in the configuration, where its files are, and how one container's are read.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// The word in the configuration.
    pub name: &'static str,
    /// Folder of its files unless configured otherwise.
    pub root: &'static str,
    /// What that folder must hold, for people.
    pub files: &'static str,
    read: fn(&Path, &str) -> Result<Option<Container>, EnrollError>,
}

/// Every runtime. A new one is a line and its reader.
pub const RUNTIMES: &[Runtime] = &[
    Runtime { name: "docker", root: "/var/lib/docker/containers", files: "ID/config.v2.json: labels", read: docker },
    Runtime {
        name: "podman",
        root: "/var/lib/containers/storage/overlay-containers",
        files: "ID/userdata/config.json: annotations (`--annotation`; labels are in its database alone)",
        read: podman,
    },
    Runtime {
        name: "containerd",
        root: "/run/containerd/io.containerd.runtime.v2.task",
        files: "NAMESPACE/ID/config.json: annotations",
        read: containerd,
    },
];

/// What a runtime's files tell of one container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Container {
    name: String,
    labels: BTreeMap<String, String>,
}

/// The containers of one runtime that have a label.
#[derive(Clone, Debug)]
pub struct Containers {
    runtime: Runtime,
    root: PathBuf,
    key: String,
    value: Option<String>,
}

impl Containers {
    /// Those of `runtime` with `label`: `KEY=VALUE`, or `KEY` with any value. `root` in place of the runtime's own folder.
    /// None: there is no such runtime, or the label has no key.
    #[must_use]
    pub fn new(runtime: &str, label: &str, root: Option<PathBuf>) -> Option<Self> {
        let runtime = *RUNTIMES.iter().find(|known| known.name == runtime)?;
        let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value.to_owned())));
        let root = root.unwrap_or_else(|| runtime.root.into());
        (!key.is_empty()).then(|| Self { runtime, root, key: key.to_owned(), value })
    }

    /// The name of the container whose cgroup lies at `path`; none if it is no container's, or not one of these.
    ///
    /// # Errors
    /// [`EnrollError::Io`] or [`EnrollError::Runtime`] when the runtime's file is there and cannot be read.
    pub fn name_at(&self, path: &Path) -> Result<Option<String>, EnrollError> {
        // The directory itself must bear the id: what lies below a container's is the container's own.
        let id = path.file_name().map(|last| Placement::of_cgroup(Path::new(last)).container_id).unwrap_or_default();
        if id.is_empty() || Placement::of_cgroup(path).container_id != id {
            return Ok(None);
        }
        let Some(container) = (self.runtime.read)(&self.root, &id)? else { return Ok(None) };
        let has =
            container.labels.get(&self.key).is_some_and(|value| self.value.as_ref().is_none_or(|own| own == value));
        let short = id.get(..SHORT_ID).unwrap_or(&id).to_owned();
        let name = if container.name.is_empty() { short } else { container.name };
        Ok(has.then_some(name))
    }
}

fn docker(root: &Path, id: &str) -> Result<Option<Container>, EnrollError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        #[serde(default)]
        name: String,
        config: Inner,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inner {
        labels: Option<BTreeMap<String, String>>,
    }
    let found: Option<Config> = json(&root.join(id).join("config.v2.json"))?;
    Ok(found.map(|config| Container {
        name: config.name.trim_start_matches('/').to_owned(),
        labels: config.config.labels.unwrap_or_default(),
    }))
}

fn podman(root: &Path, id: &str) -> Result<Option<Container>, EnrollError> {
    #[derive(Deserialize)]
    struct Stored {
        id: String,
        #[serde(default)]
        names: Vec<String>,
    }
    let Some(labels) = annotations(&root.join(id).join("userdata/config.json"))? else { return Ok(None) };
    let all: Vec<Stored> = json(&root.join("containers.json"))?.unwrap_or_default();
    let stored = all.into_iter().find(|stored| stored.id == id);
    let name = stored.and_then(|stored| stored.names.into_iter().next()).unwrap_or_default();
    Ok(Some(Container { name, labels }))
}

fn containerd(root: &Path, id: &str) -> Result<Option<Container>, EnrollError> {
    /// Where CRI and nerdctl note a container's name.
    const NAMES: &[&str] = &["io.kubernetes.cri.container-name", "nerdctl/name"];
    let namespaces = std::fs::read_dir(root).into_iter().flatten().flatten();
    for namespace in namespaces {
        let Some(labels) = annotations(&namespace.path().join(id).join("config.json"))? else { continue };
        let name = NAMES.iter().find_map(|key| labels.get(*key)).cloned().unwrap_or_default();
        return Ok(Some(Container { name, labels }));
    }
    Ok(None)
}

/// Annotations of an OCI runtime configuration.
fn annotations(path: &Path) -> Result<Option<BTreeMap<String, String>>, EnrollError> {
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    Ok(json::<Spec>(path)?.map(|spec| spec.annotations))
}

/// Reads a file of a runtime; none when there is none.
fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, EnrollError> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EnrollError::io("read", path)(error)),
        Ok(_) => {}
    }
    let failed = |error: serde_json::Error| EnrollError::Runtime { path: path.to_owned(), detail: error.to_string() };
    serde_json::from_slice(&text).map(Some).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = "6f8c1e2d3b4a59687f8e9d0c1b2a39485766758493a2b1c0dfeecdbcab9a8978";

    fn named(runtime: &str, label: &str, root: &Path, path: &str) -> Option<String> {
        Containers::new(runtime, label, Some(root.into())).unwrap().name_at(Path::new(path)).unwrap()
    }

    #[test]
    fn each_runtime_is_read_in_its_own_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let labels = r#"{"callgate.dev/enroll":"true","x":"y"}"#;
        let docker =
            format!(r#"{{"ID":"{ID}","Name":"/web","State":{{"Pid":7}},"Config":{{"Image":"a","Labels":{labels}}}}}"#);
        let oci = format!(r#"{{"ociVersion":"1.1.0","process":{{}},"annotations":{labels}}}"#);
        let cri = oci.replace("\"x\"", "\"io.kubernetes.cri.container-name\"");
        write(format!("docker/{ID}/config.v2.json"), &docker);
        write(format!("podman/{ID}/userdata/config.json"), &oci);
        write("podman/containers.json".into(), &format!(r#"[{{"id":"{ID}","names":["db"],"layer":"l"}}]"#));
        write(format!("containerd/k8s.io/{ID}/config.json"), &cri);
        for (runtime, path, name) in [
            ("docker", format!("system.slice/docker-{ID}.scope"), "web"),
            ("docker", format!("docker/{ID}"), "web"),
            ("podman", format!("machine.slice/libpod-{ID}.scope"), "db"),
            ("containerd", format!("kubepods/pod8a1f3f2e-1f0a-4c3e-9d56-0b3f5f7a9c11/{ID}"), "y"),
        ] {
            let at = |label: &str| named(runtime, label, &root.path().join(runtime), &path);
            assert_eq!(at("callgate.dev/enroll=true").as_deref(), Some(name), "{runtime}");
            assert_eq!(at("callgate.dev/enroll").as_deref(), Some(name), "{runtime}");
            assert_eq!(
                (at("callgate.dev/enroll=false"), at("other"), at("callgate.dev/enroll=tru")),
                (None, None, None)
            );
            let below =
                named(runtime, "callgate.dev/enroll", &root.path().join(runtime), &format!("{path}/init.scope"));
            assert_eq!(below, None, "{runtime}");
        }
        // Another's, and no container's.
        let other = ID.replace('6', "7");
        assert_eq!(named("docker", "x", &root.path().join("docker"), &format!("docker/{other}")), None);
        assert_eq!(named("docker", "x", &root.path().join("docker"), "system.slice/nginx.service"), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_not_no_label() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(ID)).unwrap();
        fs::write(root.path().join(ID).join("config.v2.json"), "{\"Config\":").unwrap();
        let containers = Containers::new("docker", "x", Some(root.path().into())).unwrap();
        let error = containers.name_at(&Path::new("docker").join(ID)).unwrap_err();
        assert!(matches!(error, EnrollError::Runtime { .. }), "{error}");
        assert!(Containers::new("lxc", "x", None).is_none() && Containers::new("docker", "=x", None).is_none());
    }
}
