//! What is to be enrolled and is not: its cgroup is not there yet, or any more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use callgate_enroll::{Enrolment, cgroup};
use callgate_model::{CgroupId, FailMode, Mode, Workload};

/// What is to be enrolled and is not, by the cgroup's directory.
pub(super) type Wanted = BTreeMap<PathBuf, Want>;

/// One enrolment that waits for its cgroup.
#[derive(Debug)]
pub(super) struct Want {
    pub id: String,
    pub mode: Mode,
    pub fail: FailMode,
    pub weakened: Vec<String>,
    /// When it is tried again.
    pub next: Instant,
}

impl Want {
    pub(super) fn kept(enrolment: &Enrolment) -> (PathBuf, Self) {
        let Enrolment { cgroup_path, workload, mode, fail, weakened, .. } = enrolment.clone();
        (cgroup_path, Self { id: workload, mode, fail, weakened, next: Instant::now() })
    }

    /// Whether that is what is enrolled.
    pub(super) fn is(&self, known: &Workload) -> bool {
        known.id == self.id && (known.mode, known.fail) == (self.mode, self.fail)
    }

    pub(super) fn workload(&self, path: &Path) -> Result<Workload> {
        Ok(self.workload_of(path, cgroup::id_of(path)?, &cgroup::cgroup2_mount()?))
    }

    pub(super) fn workload_of(&self, path: &Path, cgroup: CgroupId, mount: &Path) -> Workload {
        Workload {
            id: self.id.clone(),
            cgroup,
            cgroup_path: path.strip_prefix(mount).unwrap_or(path).to_owned(),
            mode: self.mode,
            fail: self.fail,
            session: None,
            weakened: self.weakened.clone(),
        }
    }
}
