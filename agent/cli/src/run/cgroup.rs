//! The cgroup that a run is born in: made for it, emptied and removed with it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use callgate_enroll::{EnrollError, cgroup};
use callgate_model::CgroupId;
use tracing::warn;

/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// `CGROUP_ROOT/callgate/INSTANCE`. Dropping it kills what is left inside and removes it.
#[derive(Debug)]
pub struct RunCgroup {
    path: PathBuf,
    id: CgroupId,
}

impl RunCgroup {
    /// Makes it, empty, below `root` (the cgroup v2 mount when none).
    ///
    /// # Errors
    /// When there is no cgroup v2, or it cannot be written.
    pub fn create(root: Option<&Path>, instance: &str) -> Result<Self> {
        let path = cgroup::cgroup2_mount()?.join(root.unwrap_or(Path::new(""))).join("callgate").join(instance);
        let id = cgroup::create(&path)?;
        Ok(Self { path, id })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> CgroupId {
        self.id
    }

    /// Kills every process in it and waits until they are gone, 5 s at most. Blocking.
    ///
    /// # Errors
    /// When some remain: then its enrolment must stay.
    pub fn kill(&self) -> Result<()> {
        cgroup::kill(&self.path)?;
        let deadline = Instant::now() + KILL_WAIT;
        while cgroup::populated(&self.path)? {
            if Instant::now() >= deadline {
                return Err(EnrollError::Busy { path: self.path.clone(), waited_s: KILL_WAIT.as_secs() }.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        let removed = self.kill().and_then(|()| Ok(cgroup::remove(&self.path)?));
        if let Err(error) = removed {
            warn!(%error, "the cgroup of this run stays");
        }
        // The parent that all runs share goes with the last of them.
        let _ = self.path.parent().map(std::fs::remove_dir);
    }
}
