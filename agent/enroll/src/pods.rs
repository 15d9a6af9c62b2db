//! The pods of this node: which of them are enrolled, and what is known of each.
//!
//! Whoever watches the cluster's API fills it in; nothing here asks anybody. A pod is found by its uid, which the
//! kubelet puts into the path of its cgroup: the pod's own cgroup is enrolled, with every container that it has or
//! will have.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use callgate_model::{Placement, Pod};

use crate::labels::{Labels, POLICY, fail, misread, mode};
use crate::rule::Class;
use crate::seen::Seen;
use crate::trust::Trust;

/// Most pods that are remembered after the API knows them no more, as their processes may still run.
/// Source: a node has 110 by default, and rarely more than 500.
const GONE_MAX: usize = 1_024;

/// Which pods are on this node, and which namespaces there are.
#[derive(Debug, Default)]
pub struct Pods {
    exempt: Vec<String>,
    known: Mutex<Known>,
    changed: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether they were listed.
    listed: bool,
    pods: BTreeMap<String, Arc<Seen>>,
    /// None: not listed yet.
    namespaces: Option<BTreeMap<String, Labels>>,
    /// What the API knows no more, oldest first.
    gone: VecDeque<Arc<Seen>>,
}

impl Pods {
    /// Knows nothing yet. Pods in the namespaces `exempt` are left alone, whatever labels say.
    #[must_use]
    pub fn new(exempt: Vec<String>) -> Self {
        Self { exempt, ..Self::default() }
    }

    /// Every pod of the node. One that was known and is not among them is gone from the API.
    pub fn replace(&self, pods: Vec<Seen>) {
        let mut known = self.known();
        let before = std::mem::take(&mut known.pods);
        known.listed = true;
        pods.into_iter().for_each(|pod| known.put(pod));
        for (uid, pod) in before {
            if !known.pods.contains_key(&uid) {
                known.let_go(pod);
            }
        }
        self.note_change();
    }

    /// A pod is new, or changed.
    pub fn put(&self, pod: Seen) {
        let mut known = self.known();
        // Most changes are of its status.
        let same = known.pods.get(&pod.uid).is_some_and(|before| before.is_classified_as(&pod));
        known.put(pod);
        if !same {
            self.note_change();
        }
    }

    /// The API knows a pod no more. Its processes may still run, as after a deletion by force: how it is classified
    /// does not change until its cgroup is gone.
    pub fn remove(&self, uid: &str) {
        let mut known = self.known();
        if let Some(pod) = known.pods.remove(uid) {
            known.let_go(pod);
        }
        self.note_change();
    }

    /// Every namespace of the cluster with its labels.
    pub fn replace_namespaces(&self, namespaces: BTreeMap<String, Labels>) {
        self.known().namespaces = Some(namespaces);
        self.note_change();
    }

    /// A namespace is new, or changed; `None`: it is gone.
    pub fn put_namespace(&self, name: String, labels: Option<Labels>) {
        let mut known = self.known();
        let Some(namespaces) = &mut known.namespaces else { return };
        let same = namespaces.get(&name) == labels.as_ref();
        match labels {
            Some(labels) => namespaces.insert(name, labels),
            None => namespaces.remove(&name),
        };
        if !same {
            self.note_change();
        }
    }

    /// Whether something changed since the last call.
    #[must_use]
    pub fn take_change(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// Whether pods and namespaces were listed.
    #[must_use]
    pub fn are_known(&self) -> bool {
        let known = self.known();
        known.listed && known.namespaces.is_some()
    }

    /// What becomes of the cgroup at `path`, below the cgroup v2 mount; none if it is no pod's own.
    #[must_use]
    pub fn class_at(&self, path: &Path) -> Option<Class> {
        let uid = own_uid(path)?;
        let known = self.known();
        let (Some(pod), Some(namespaces)) = (known.pod(&uid), &known.namespaces) else {
            return Some(Class::Undecided);
        };
        if self.exempt.contains(&pod.namespace) {
            return Some(Class::Exempt);
        }
        // The namespace of a pod is made before it; the two are watched apart.
        let Some(namespace) = namespaces.get(&pod.namespace) else { return Some(Class::Undecided) };
        let Some(mode) = mode(&pod.labels, namespace) else { return Some(Class::Exempt) };
        let id = format!("k8s/{}/{}", pod.namespace, pod.service_account);
        let trust = Trust::of_labels(&pod.labels, namespace);
        Some(Class::Enrolled { id, mode, fail: fail(&pod.labels, namespace), trust })
    }

    /// Pods that are to be enrolled and were started within these times, also those that have ended: `NAMESPACE/NAME`.
    #[must_use]
    pub fn started_within(&self, from: SystemTime, to: SystemTime) -> Vec<String> {
        let known = self.known();
        let counts = |pod: &&Arc<Seen>| {
            let namespace = known.namespaces.as_ref().and_then(|all| all.get(&pod.namespace));
            !self.exempt.contains(&pod.namespace)
                && namespace.is_some_and(|namespace| mode(&pod.labels, namespace).is_some())
                && pod.started.is_some_and(|started| started >= from && started <= to)
        };
        known.pods.values().filter(counts).map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect()
    }

    /// How admission delivered trust to the pod whose cgroup is at `path`, as the pod says; none if it did not.
    #[must_use]
    pub fn admitted_at(&self, path: &Path) -> Option<String> {
        let pod = Arc::clone(self.known().pod(&own_uid(path)?)?);
        Some(pod.admitted_by.clone()).filter(|by| !by.is_empty())
    }

    /// What is known of the pod and the container that a process's cgroup names.
    #[must_use]
    pub fn told(&self, placement: &Placement) -> Option<Pod> {
        let known = self.known();
        let uid = &placement.pod_uid;
        let pod = known.pod(uid).or_else(|| known.gone.iter().rfind(|pod| pod.uid == *uid))?;
        let namespace = known.namespaces.as_ref().and_then(|all| all.get(&pod.namespace));
        let group = pod.labels.get(POLICY).or_else(|| namespace?.get(POLICY)).cloned().unwrap_or_default();
        let (container, image) = pod.containers.get(&placement.container_id).cloned().unwrap_or_default();
        Some(Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            service_account: pod.service_account.clone(),
            container,
            image,
            group,
            labels: pod.labels.clone(),
        })
    }

    /// Labels whose value means nothing: which object, and what is wrong.
    #[must_use]
    pub fn misread(&self) -> Vec<(String, String)> {
        let known = self.known();
        let pods = known.pods.values().map(|pod| (format!("pod {}/{}", pod.namespace, pod.name), &pod.labels));
        let namespaces = known.namespaces.iter().flatten().map(|(name, labels)| (format!("namespace {name}"), labels));
        let mut found: Vec<_> =
            pods.chain(namespaces).filter_map(|(what, labels)| Some((what, misread(labels)?))).collect();
        found.dedup();
        found
    }

    fn note_change(&self) {
        self.changed.store(true, Ordering::Release);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn put(&mut self, pod: Seen) {
        self.pods.insert(pod.uid.clone(), Arc::new(pod));
    }

    /// The pod whose cgroup's path bears `uid`.
    fn pod(&self, uid: &str) -> Option<&Arc<Seen>> {
        let of_manifest = || {
            let mut claims = self.pods.values().filter(|pod| pod.manifest_hash.as_deref() == Some(uid));
            claims.next().filter(|_| claims.next().is_none())
        };
        self.pods.get(uid).or_else(of_manifest)
    }

    fn let_go(&mut self, pod: Arc<Seen>) {
        if self.gone.len() == GONE_MAX {
            self.gone.pop_front();
        }
        self.gone.push_back(pod);
    }
}

/// The uid of the pod whose cgroup lies at `path` itself. A directory of such a name within a pod or a container is
/// the workload's own, and within a unit it may be anybody's: units can be delegated.
fn own_uid(path: &Path) -> Option<String> {
    let above = path.parent()?;
    let units = [".service", ".scope"];
    let in_unit = above.iter().any(|part| units.iter().any(|unit| part.to_string_lossy().ends_with(unit)));
    let above = Placement::of_cgroup(above);
    let own = Placement::of_cgroup(Path::new(path.file_name()?));
    let is_pods = above.pod_uid.is_empty() && above.container_id.is_empty() && own.container_id.is_empty();
    (is_pods && !in_unit && !own.pod_uid.is_empty()).then_some(own.pod_uid)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use callgate_model::{FailMode, Mode};

    use super::*;
    use crate::labels::{ENROLL, FAIL};

    const UID: &str = "8a1f3f2e-1f0a-4c3e-9d56-0b3f5f7a9c11";
    const CONTAINER: &str = "6f8c1e2d3b4a59687f8e9d0c1b2a39485766758493a2b1c0dfeecdbcab9a8978";

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn pod(own: &[(&str, &str)]) -> Seen {
        Seen {
            uid: UID.to_owned(),
            manifest_hash: None,
            namespace: "shop".into(),
            name: "web-0".into(),
            service_account: "web".into(),
            labels: labels(own),
            admitted_by: "webhook".into(),
            containers: BTreeMap::from([(CONTAINER.to_owned(), ("app".to_owned(), "shop/web:7".to_owned()))]),
            started: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(10)),
        }
    }

    fn pods(own: &[(&str, &str)], namespace: &[(&str, &str)]) -> Pods {
        let pods = Pods::new(vec!["kube-system".into()]);
        pods.replace_namespaces(BTreeMap::from([("shop".to_owned(), labels(namespace))]));
        pods.replace(vec![pod(own)]);
        pods
    }

    fn enrolled(mode: Mode, fail: FailMode) -> Class {
        Class::Enrolled { id: "k8s/shop/web".into(), mode, fail, trust: Trust::Both }
    }

    fn at(uid: &str) -> String {
        format!("kubepods/burstable/pod{uid}")
    }

    #[test]
    fn pods_that_were_to_be_enrolled_and_started_meanwhile_are_told() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let told = |own: &[(&str, &str)], from, to| pods(own, &[]).started_within(at(from), at(to));
        assert_eq!(told(&[(ENROLL, "true")], 10, 11), ["shop/web-0"]);
        assert!(told(&[(ENROLL, "true")], 11, 12).is_empty() && told(&[(ENROLL, "true")], 8, 9).is_empty());
        assert!(told(&[], 10, 11).is_empty() && told(&[(ENROLL, "false")], 10, 11).is_empty());
    }

    #[test]
    fn the_label_of_the_pod_counts_before_its_namespaces() {
        let (enforce, observe) = (Mode::Enforce, Mode::Observe);
        for (own, namespace, class) in [
            (&[][..], &[][..], Class::Exempt),
            (&[(ENROLL, "true")], &[], enrolled(enforce, FailMode::Closed)),
            (&[(ENROLL, "observe")], &[(ENROLL, "true")], enrolled(observe, FailMode::Closed)),
            (&[], &[(ENROLL, "observe"), (FAIL, "open")], enrolled(observe, FailMode::Open)),
            (&[(ENROLL, "false")], &[(ENROLL, "true")], Class::Exempt),
            (&[(FAIL, "observe")], &[(ENROLL, "true"), (FAIL, "open")], enrolled(enforce, FailMode::Observe)),
            // A typing error opens nothing.
            (&[(ENROLL, "yes"), (FAIL, "opne")], &[], enrolled(enforce, FailMode::Closed)),
        ] {
            let pods = pods(own, namespace);
            assert_eq!(pods.class_at(Path::new(&at(UID))), Some(class), "{own:?} in {namespace:?}");
        }
        let misread = pods(&[(ENROLL, "yes")], &[(FAIL, "no")]).misread();
        assert_eq!(misread.len(), 2, "{misread:?}");
        assert!(misread[0].0 == "pod shop/web-0" && misread[0].1.contains("`yes`"), "{misread:?}");
        let misspelled = pods(&[("callgate.dev/enrol", "true")], &[("other.example/enrol", "x")]).misread();
        assert!(
            matches!(&misspelled[..], [(_, why)] if why.contains("`callgate.dev/enrol` means nothing")),
            "{misspelled:?}"
        );
    }

    #[test]
    fn a_pod_is_found_with_either_cgroup_driver_and_behind_any_prefix() {
        let pods = pods(&[(ENROLL, "true")], &[]);
        let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        for path in [at(UID), format!("kubepods.slice/kubepods-burstable.slice/{slice}"), format!("a/b/{}", at(UID))] {
            assert_eq!(pods.class_at(Path::new(&path)), Some(enrolled(Mode::Enforce, FailMode::Closed)), "{path}");
        }
        // Its containers are governed with it; what bears its name within another one is not it.
        for path in [
            format!("{}/{CONTAINER}", at(UID)),
            format!("{}/pod{UID}", at("11111111-1f0a-4c3e-9d56-0b3f5f7a9c11")),
            format!("system.slice/docker-{CONTAINER}.scope/kubepods/pod{UID}"),
            format!("user.slice/user-1000.slice/user@1000.service/pod{UID}"),
            "system.slice".to_owned(),
        ] {
            assert_eq!(pods.class_at(Path::new(&path)), None, "{path}");
        }
    }

    #[test]
    fn what_is_not_known_is_undecided_and_what_is_gone_stays_as_it_is() {
        let pods = Pods::new(Vec::new());
        let path = at(UID);
        let class = || pods.class_at(Path::new(&path));
        assert_eq!((class(), pods.are_known()), (Some(Class::Undecided), false));
        pods.replace(vec![pod(&[(ENROLL, "true")])]);
        assert_eq!((class(), pods.are_known()), (Some(Class::Undecided), false), "its namespace is not known");
        pods.replace_namespaces(BTreeMap::from([("shop".to_owned(), Labels::new())]));
        assert!(pods.are_known());
        assert_eq!(class(), Some(enrolled(Mode::Enforce, FailMode::Closed)));
        assert!(pods.take_change() && !pods.take_change());
        // A status alone is no news.
        pods.put(Seen { containers: BTreeMap::new(), ..pod(&[(ENROLL, "true")]) });
        pods.put_namespace("shop".into(), Some(Labels::new()));
        assert!(!pods.take_change());
        pods.put(pod(&[(ENROLL, "observe")]));
        assert!(pods.take_change());
        pods.put(pod(&[(ENROLL, "true")]));
        pods.put_namespace("shop".into(), None);
        assert_eq!(class(), Some(Class::Undecided));
        pods.put_namespace("shop".into(), Some(Labels::new()));
        // Deleted by force, or missing in a new list: the processes may still run.
        pods.remove(UID);
        assert_eq!(class(), Some(Class::Undecided));
        pods.replace(Vec::new());
        let placement = Placement::of_cgroup(Path::new(&format!("{path}/{CONTAINER}")));
        assert_eq!(pods.told(&placement).map(|pod| pod.name), Some("web-0".into()));
    }

    #[test]
    fn exempt_namespaces_are_left_alone_and_static_pods_found_by_their_hash() {
        let pods = pods(&[(ENROLL, "true")], &[]);
        let hash = "0123456789abcdef0123456789abcdef";
        let named = |uid: &str, hash: &str| Seen {
            uid: uid.into(),
            manifest_hash: Some(hash.into()),
            namespace: "kube-system".into(),
            labels: labels(&[(ENROLL, "true")]),
            ..Seen::default()
        };
        pods.put(named("22222222-1f0a-4c3e-9d56-0b3f5f7a9c11", hash));
        assert_eq!(pods.class_at(Path::new(&at(hash))), Some(Class::Exempt));
        // Whoever says that it is another pod is not believed.
        pods.put(named("33333333-1f0a-4c3e-9d56-0b3f5f7a9c11", UID));
        assert_eq!(pods.class_at(Path::new(&at(UID))), Some(enrolled(Mode::Enforce, FailMode::Closed)));
        pods.put(named("44444444-1f0a-4c3e-9d56-0b3f5f7a9c11", hash));
        assert_eq!(pods.class_at(Path::new(&at(hash))), Some(Class::Undecided));
    }

    #[test]
    fn a_process_is_told_its_pod_and_container() {
        let pods = pods(&[(POLICY, "payments")], &[]);
        let placement = Placement::of_cgroup(Path::new(&format!("{}/{CONTAINER}", at(UID))));
        let told = pods.told(&placement).unwrap();
        assert_eq!((told.container.as_str(), told.image.as_str()), ("app", "shop/web:7"));
        assert_eq!((told.namespace.as_str(), told.service_account.as_str()), ("shop", "web"));
        assert_eq!(told.group, "payments");
        assert_eq!(pods.told(&Placement::default()), None);
    }
}
