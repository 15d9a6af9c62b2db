//! What the path of a cgroup tells of who is in it: systemd unit, pod, container.
//!
//! From the kernel's path alone, never from what a process says of itself. Who may make cgroups below its own could
//! name them after somebody else's container, so the path down to the enrolled cgroup, which the workload cannot
//! choose, is read first, and from what lies below only the outermost name counts.
//! Nothing is anchored on the left: kubelets and container engines may run below a prefix.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Pod;

/// What the path of a process's cgroup tells. Texts are empty where it tells nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Path of the process's own cgroup below the cgroup v2 mount.
    pub cgroup_path: PathBuf,
    /// The systemd unit of the host, outermost: `nginx.service`; where there is none, the innermost slice.
    pub unit: String,
    /// Uid of the Kubernetes pod, with `-` as the API shows it.
    pub pod_uid: String,
    /// Id of the container, 64 lower-case hex digits.
    pub container_id: String,
    /// What the cluster's API says of that pod and container; none where no cluster is asked, or it knows of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

/// What container engines put before an id.
/// Source: runc's and crun's systemd drivers with Docker, containerd's CRI, CRI-O, Podman, nerdctl.
const ENGINES: &[&str] = &["docker", "cri-containerd", "crio", "libpod", "libpod-payload", "nerdctl"];

/// Units that have a cgroup and are no slice. Source: systemd.unit(5), 252.
const UNITS: &[&str] = &[".service", ".scope", ".socket", ".mount", ".swap"];

impl Placement {
    /// Reads the path `task` of a process's cgroup, which is `enrolled` or lies below it.
    #[must_use]
    pub fn of(enrolled: &Path, task: &Path) -> Self {
        let parts: Vec<&str> = task.iter().filter_map(|part| part.to_str()).collect();
        let chosen_by_others = enrolled.iter().count().min(parts.len());
        let (pod, container) = find(&parts, chosen_by_others);
        let text = |found: Option<&str>| found.unwrap_or_default().to_owned();
        Self {
            cgroup_path: task.to_owned(),
            unit: text(unit(&parts)),
            pod_uid: text(pod.and_then(|at| pod_uid(parts.get(at)?))).replace('_', "-"),
            container_id: text(container.and_then(|at| container_id(parts.get(at)?))),
            pod: None,
        }
    }

    /// Of a cgroup itself.
    #[must_use]
    pub fn of_cgroup(path: &Path) -> Self {
        Self::of(path, path)
    }
}

/// Where the pod and the container are named; the first `trusted` parts are not the workload's own choice.
fn find(parts: &[&str], trusted: usize) -> (Option<usize>, Option<usize>) {
    let is_pod = |at: usize| parts.get(at).is_some_and(|part| pod_uid(part).is_some());
    let is_container = |at: usize| parts.get(at).is_some_and(|part| container_id(part).is_some());
    let container_in = |at: usize| Some(at + 1).filter(|at| is_container(*at));
    let pod = (0..trusted).rev().find(|at| is_pod(*at));
    let container = (0..trusted).rev().find(|at| is_container(*at));
    match (pod, container) {
        // A container of an engine within a pod's container is that pod's too.
        (Some(pod), Some(container)) if container > pod => (Some(pod), Some(container)),
        (Some(pod), _) => (Some(pod), container_in(pod)),
        (None, Some(container)) => (None, Some(container)),
        (None, None) => match (trusted..parts.len()).find(|at| is_pod(*at) || is_container(*at)) {
            Some(at) if is_pod(at) => (Some(at), container_in(at)),
            found => (None, found),
        },
    }
}

fn unit<'a>(parts: &[&'a str]) -> Option<&'a str> {
    let is_unit = |part: &&&str| UNITS.iter().any(|ending| part.len() > ending.len() && part.ends_with(ending));
    let slice = || parts.iter().rfind(|part| part.ends_with(".slice"));
    parts.iter().find(is_unit).or_else(slice).copied()
}

/// `pod<uid>`, or `<slice>-pod<uid>.slice` with `_` for each `-` of the uid, which would be a level of slices.
fn pod_uid(part: &str) -> Option<&str> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => part.strip_prefix("pod")?,
    };
    is_pod_uid(uid).then_some(uid)
}

/// A UUID, or the hash that static pods have.
fn is_pod_uid(uid: &str) -> bool {
    let groups: Vec<&str> = uid.split(['-', '_']).collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    groups.iter().all(|group| is_hex(group)) && matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [32])
}

/// The id alone, `<engine>-<id>` or `<engine>-<id>.scope`.
fn container_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = match part.rsplit_once('-') {
        Some((engine, id)) => Some(id).filter(|_| ENGINES.contains(&engine))?,
        None => part,
    };
    (id.len() == 64 && is_hex(id)).then_some(id)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "6f8c1e2d3b4a59687f8e9d0c1b2a39485766758493a2b1c0dfeecdbcab9a8978";
    const B: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
    const POD: &str = "8a1f3f2e-1f0a-4c3e-9d56-0b3f5f7a9c11";
    const UNDERSCORED: &str = "8a1f3f2e_1f0a_4c3e_9d56_0b3f5f7a9c11";
    const STATIC: &str = "d4c3b2a190e8f7d6c5b4a39281706f5e";

    /// Path, and what it tells: unit, pod, container. `A`, `B`, `POD`, `U` (underscored) and `STATIC` are filled in.
    const PATHS: &[(&str, &str, &str, &str)] = &[
        // kubelet with the systemd driver: containerd, CRI-O, the three classes, a static pod.
        (
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU.slice/cri-containerd-A.scope",
            "cri-containerd-A.scope",
            "POD",
            "A",
        ),
        (
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU.slice/crio-A.scope",
            "crio-A.scope",
            "POD",
            "A",
        ),
        ("kubepods.slice/kubepods-podU.slice/cri-containerd-A.scope", "cri-containerd-A.scope", "POD", "A"),
        (
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSTATIC.slice/cri-containerd-A.scope",
            "cri-containerd-A.scope",
            "STATIC",
            "A",
        ),
        (
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU.slice",
            "kubepods-burstable-podU.slice",
            "POD",
            "",
        ),
        ("kubepods.slice/kubepods-podU.slice/crio-A.scope/container", "crio-A.scope", "POD", "A"),
        // The engine's monitor is not the container.
        ("kubepods.slice/kubepods-podU.slice/crio-conmon-A.scope", "crio-conmon-A.scope", "POD", ""),
        // With the cgroupfs driver.
        ("kubepods/burstable/podPOD/A", "", "POD", "A"),
        ("kubepods/podPOD/A", "", "POD", "A"),
        ("kubepods/besteffort/podPOD", "", "POD", ""),
        ("kubepods/burstable/podSTATIC/crio-A", "", "STATIC", "A"),
        // A kubelet below a prefix; kind's node, seen from the host.
        (
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podU.slice/cri-containerd-A.scope",
            "cri-containerd-A.scope",
            "POD",
            "A",
        ),
        ("docker/B/kubelet/kubepods/burstable/podPOD/A", "", "POD", "A"),
        (
            "system.slice/docker-B.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU.slice/cri-containerd-A.scope",
            "docker-B.scope",
            "POD",
            "A",
        ),
        ("k3s.service/kubepods/burstable/podPOD/A", "k3s.service", "POD", "A"),
        // Docker within a pod.
        ("kubepods/burstable/podPOD/B/docker/A", "", "POD", "A"),
        // Docker with both drivers, and below a parent of its own.
        ("system.slice/docker-A.scope", "docker-A.scope", "", "A"),
        ("docker/A", "", "", "A"),
        ("ci.slice/docker-A.scope", "docker-A.scope", "", "A"),
        ("docker/A/init.scope", "init.scope", "", "A"),
        // Podman: root, rootless, the cgroupfs driver, its monitor; nerdctl; containerd alone.
        ("machine.slice/libpod-A.scope/container", "libpod-A.scope", "", "A"),
        ("user.slice/user-1000.slice/user@1000.service/user.slice/libpod-A.scope", "user@1000.service", "", "A"),
        ("libpod_parent/libpod-A", "", "", "A"),
        ("machine.slice/libpod-conmon-A.scope", "libpod-conmon-A.scope", "", ""),
        ("system.slice/web.service/libpod-payload-A", "web.service", "", "A"),
        ("system.slice/nerdctl-A.scope", "nerdctl-A.scope", "", "A"),
        ("k8s.io/A", "", "", "A"),
        ("default/redis", "", "", ""),
        // Units.
        ("system.slice/nginx.service", "nginx.service", "", ""),
        ("system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", "", ""),
        ("user.slice/user-1000.slice/session-3.scope", "session-3.scope", "", ""),
        ("user.slice/user-1000.slice/user@1000.service/app.slice/app-shop.service", "user@1000.service", "", ""),
        ("shop.slice/shop-web.slice", "shop-web.slice", "", ""),
        ("callgate/run-0193", "", "", ""),
        // Nearly, and not: a digit short, upper case, another engine's word, no uid.
        ("docker/6f8c1e2d3b4a", "", "", ""),
        ("system.slice/evil-A.scope", "evil-A.scope", "", ""),
        ("kubepods/podnot-a-uid/A", "", "", "A"),
        ("kubepods/pod8A1F3F2E-1F0A-4C3E-9D56-0B3F5F7A9C11", "", "", ""),
        (".service/x", "", "", ""),
        ("", "", "", ""),
    ];

    fn filled(text: &str) -> String {
        let words = [
            ("podU", &format!("pod{UNDERSCORED}") as &str),
            ("podPOD", &format!("pod{POD}")),
            ("podSTATIC", &format!("pod{STATIC}")),
        ];
        let text = words.iter().fold(text.to_owned(), |text, (word, uid)| text.replace(word, uid));
        match text.as_str() {
            "POD" => return POD.into(),
            "STATIC" => return STATIC.into(),
            _ => {}
        }
        let part = |part: &str| {
            let ids = part.replace("-A", &format!("-{A}")).replace("-B", &format!("-{B}"));
            match ids.as_str() {
                "A" => A.into(),
                "B" => B.into(),
                _ => ids,
            }
        };
        text.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    #[test]
    fn real_paths_tell_unit_pod_and_container() {
        for (path, unit, pod, container) in PATHS {
            let path = filled(path);
            let told = Placement::of_cgroup(Path::new(&path));
            let expected = Placement {
                cgroup_path: path.clone().into(),
                unit: filled(unit),
                pod_uid: filled(pod),
                container_id: filled(container),
                pod: None,
            };
            assert_eq!(told, expected, "{path}");
            // Below a prefix the same.
            let below = format!("callgate-test-1/site0/{path}");
            let told = Placement::of_cgroup(Path::new(below.trim_end_matches('/')));
            assert_eq!((told.unit, told.pod_uid, told.container_id), (filled(unit), filled(pod), filled(container)));
        }
    }

    #[test]
    fn the_container_is_found_below_an_enrolled_pod_or_slice() {
        let pod = format!("kubepods.slice/kubepods-pod{UNDERSCORED}.slice");
        let task = format!("{pod}/cri-containerd-{A}.scope/x");
        for enrolled in ["kubepods.slice", &pod] {
            let told = Placement::of(Path::new(enrolled), Path::new(&task));
            assert_eq!((told.pod_uid.as_str(), told.container_id.as_str()), (POD, A), "{enrolled}");
        }
    }

    #[test]
    fn names_that_a_workload_gives_to_cgroups_of_its_own_change_nothing() {
        let told = |enrolled: &str, task: &str| {
            let told = Placement::of(Path::new(enrolled), Path::new(task));
            (told.unit, told.pod_uid, told.container_id)
        };
        let pod = format!("kubepods/pod{POD}");
        let other = format!("pod{STATIC}/{B}");
        let container = format!("{pod}/{A}");
        assert_eq!(told(&pod, &format!("{container}/{other}")), (String::new(), POD.into(), A.into()));
        assert_eq!(told(&container, &format!("{container}/docker-{B}.scope")).2, A);
        let docker = format!("docker/{A}");
        assert_eq!(told(&docker, &format!("{docker}/{other}")), (String::new(), String::new(), A.into()));
        assert_eq!(told("system.slice", &format!("system.slice/a.service/b.service/docker-{B}.scope")).0, "a.service");
        // A pod's own second level is no container of that pod.
        assert_eq!(told(&pod, &format!("{pod}/x/{B}")).2, "");
    }
}
