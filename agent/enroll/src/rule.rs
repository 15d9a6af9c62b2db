//! What the configuration enrols by itself, as cgroups come: one rule an entry, one kind of source a file.

use std::path::Path;
use std::sync::Arc;

use callgate_model::{FailMode, Mode, WorkloadName};

use crate::{Containers, EnrollError, NameTemplate, Pattern, Pods, Trust, UnitName};

/// One entry of the configuration.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which cgroups.
    pub source: Source,
    /// What the workload is called; none: as the source calls it.
    pub name: Option<NameTemplate>,
    /// Whether verdicts are enforced.
    pub mode: Mode,
    /// What holds while no agent is alive.
    pub fail: FailMode,
    /// How it comes to trust the node's CA.
    pub trust: Trust,
}

/// Where enrolments come from. A new kind is a file, a variant and its key in the configuration.
#[derive(Clone, Debug)]
pub enum Source {
    /// Every cgroup whose path below the mount matches: `cgroup/PATH`, or `cgroup/NAME`.
    Pattern(Pattern),
    /// The cgroup of a systemd unit: `unit/NAME`.
    Unit(UnitName),
    /// Containers with a label: `container/NAME`.
    Containers(Containers),
    /// Pods of a cluster, by their labels: `k8s/NAMESPACE/SERVICEACCOUNT`. They say themselves in which mode.
    Pods(Arc<Pods>),
}

/// What becomes of a cgroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Class {
    /// It is enrolled.
    Enrolled {
        /// The entity id of its workload.
        id: String,
        /// Whether verdicts are enforced.
        mode: Mode,
        /// What holds while no agent is alive.
        fail: FailMode,
        /// How it comes to trust the node's CA.
        trust: Trust,
    },
    /// It is left alone, also under strict mode.
    Exempt,
    /// Not known yet, or no more: it stays as it is.
    Undecided,
}

impl Rule {
    /// What this rule makes of the cgroup at `path`, below the cgroup v2 mount, which is `below_root` below the
    /// enforcement root; none if it says nothing of it.
    ///
    /// # Errors
    /// As [`Containers::name_at`].
    pub fn class(&self, path: &Path, below_root: &Path) -> Result<Option<Class>, EnrollError> {
        let named = |called: &str| match &self.name {
            Some(name) => name.fill(called, path),
            None => WorkloadName::near(called),
        };
        let id = match &self.source {
            Source::Pattern(pattern) => pattern.matches(path).then(|| match &self.name {
                Some(_) => format!("cgroup/{}", named(&last(path))),
                // A path is told from a name by its slash.
                None => format!("cgroup/{}", path.display()),
            }),
            Source::Unit(unit) => unit.is_at(below_root).then(|| format!("unit/{}", named(unit.as_str()))),
            Source::Containers(containers) => {
                containers.name_at(path)?.map(|called| format!("container/{}", named(&called)))
            }
            Source::Pods(pods) => return Ok(pods.class_at(path)),
        };
        Ok(id.map(|id| Class::Enrolled { id, mode: self.mode, fail: self.fail, trust: self.trust }))
    }
}

fn last(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_source_stands_before_the_name() {
        let named = |text: &str| Some(NameTemplate::try_from(text.to_owned()).unwrap());
        let pattern = || Source::Pattern(Pattern::parse("root/ci/*").unwrap());
        let unit = || Source::Unit(UnitName::try_from("nginx.service".to_owned()).unwrap());
        for (source, name, path, id) in [
            (pattern(), None, "ci/job1", Some("cgroup/root/ci/job1")),
            (pattern(), named("ci-{name}"), "ci/job1", Some("cgroup/ci-job1")),
            (pattern(), None, "other/job1", None),
            (unit(), None, "system.slice/nginx.service", Some("unit/nginx.service")),
            (unit(), named("web"), "system.slice/nginx.service", Some("unit/web")),
            (unit(), None, "system.slice/x.service/nginx.service", None),
        ] {
            let trust = Trust::Mount;
            let rule = Rule { source, name, mode: Mode::Enforce, fail: FailMode::Closed, trust };
            let told = rule.class(&Path::new("root").join(path), Path::new(path)).unwrap();
            let (mode, fail) = (Mode::Enforce, FailMode::Closed);
            assert_eq!(told, id.map(|id| Class::Enrolled { id: id.into(), mode, fail, trust }), "{path}");
        }
    }
}
