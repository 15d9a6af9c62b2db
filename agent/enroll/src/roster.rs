//! The enrolled workloads: an immutable snapshot, replaced whole at each change, read without a lock.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use callgate_model::{CgroupId, Workload};

type Snapshot = HashMap<CgroupId, Arc<Workload>>;

/// From a cgroup's id to its workload. Clones share their content.
#[derive(Clone, Default, Debug)]
pub struct Roster(Arc<ArcSwap<Snapshot>>);

impl Roster {
    /// An empty roster.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The workload of an enrolled cgroup.
    #[must_use]
    pub fn get(&self, id: CgroupId) -> Option<Arc<Workload>> {
        self.0.load().get(&id).cloned()
    }

    /// Adds a workload, or replaces the one of the same cgroup, which is returned.
    pub fn insert(&self, workload: impl Into<Arc<Workload>>) -> Option<Arc<Workload>> {
        let workload = workload.into();
        let before = self.0.rcu(|now| {
            let mut next = Snapshot::clone(now);
            next.insert(workload.cgroup, workload.clone());
            next
        });
        before.get(&workload.cgroup).cloned()
    }

    /// Takes a workload away, and returns it.
    pub fn remove(&self, id: CgroupId) -> Option<Arc<Workload>> {
        let before = self.0.rcu(|now| {
            let mut next = Snapshot::clone(now);
            next.remove(&id);
            next
        });
        before.get(&id).cloned()
    }

    /// The workload whose cgroup is the one at `path`, given below the cgroup v2 mount.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<Arc<Workload>> {
        self.0.load().values().find(|workload| workload.cgroup_path == path).cloned()
    }

    /// All workloads, sorted by id, then by cgroup.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Workload>> {
        let mut all: Vec<_> = self.0.load().values().cloned().collect();
        all.sort_by(|a, b| (&a.id, a.cgroup).cmp(&(&b.id, b.cgroup)));
        all
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The workload whose cgroup is at or above `path`, given below the cgroup v2 mount; the deepest, if several are.
    #[must_use]
    pub fn covering(&self, path: &Path) -> Option<Arc<Workload>> {
        let all = self.0.load();
        let covers = all.values().filter(|w| path.starts_with(&w.cgroup_path));
        covers.max_by_key(|w| w.cgroup_path.components().count()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use callgate_model::{FailMode, Mode};

    use super::*;

    fn workload(id: &str, cgroup: u64, path: &str) -> Workload {
        Workload {
            id: id.into(),
            cgroup: CgroupId(cgroup),
            cgroup_path: path.into(),
            mode: Mode::Enforce,
            fail: FailMode::Closed,
            session: None,
            weakened: Vec::new(),
        }
    }

    #[test]
    fn holds_what_was_inserted_until_it_is_removed() {
        let roster = Roster::new();
        assert_eq!(roster.insert(workload("run/b", 7, "b")), None);
        assert_eq!(roster.clone().insert(workload("run/a", 8, "a")), None);
        assert_eq!(roster.insert(workload("run/c", 7, "b")).unwrap().id, "run/b");
        assert_eq!(roster.list().iter().map(|w| w.id.as_str()).collect::<Vec<_>>(), ["run/a", "run/c"]);
        assert_eq!(roster.remove(CgroupId(7)).unwrap().id, "run/c");
        assert_eq!(roster.remove(CgroupId(7)), None);
        assert_eq!((roster.len(), roster.get(CgroupId(8)).unwrap().id.as_str()), (1, "run/a"));
    }

    #[test]
    fn covers_whole_components_and_prefers_the_deepest() {
        let roster = Roster::new();
        roster.insert(workload("outer", 1, "a/b"));
        roster.insert(workload("inner", 2, "a/b/c"));
        let covering = |p: &str| roster.covering(Path::new(p)).map(|w| w.id.clone());
        assert_eq!(covering("a/b").as_deref(), Some("outer"));
        assert_eq!(covering("a/b/c/d").as_deref(), Some("inner"));
        assert_eq!(covering("a/bc"), None);
        assert_eq!(covering(""), None);
    }
}
