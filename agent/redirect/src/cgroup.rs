//! Opening a cgroup that may be enrolled.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use callgate_model::CgroupId;
use rustix::fs::fstatfs;

use crate::RedirectError;

/// Magic number of cgroup v2. Source: uapi/linux/magic.h.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// An open folder of cgroup v2 that is not the mount's root and does not hold this process.
#[derive(Debug)]
pub struct Cgroup {
    pub folder: File,
    pub id: CgroupId,
    /// Ids of the cgroups above it, nearest first, without the root.
    pub above: Vec<CgroupId>,
}

impl Cgroup {
    /// # Errors
    /// [`RedirectError::Cgroup`], [`RedirectError::NotCgroup2`], [`RedirectError::RootCgroup`],
    /// [`RedirectError::OwnCgroup`].
    pub fn open(path: &Path) -> Result<Self, RedirectError> {
        let failed = |source: io::Error| RedirectError::Cgroup { path: path.into(), source };
        let path = &path.canonicalize().map_err(failed)?;
        let folder = File::open(path).map_err(failed)?;
        let status = folder.metadata().map_err(failed)?;
        let kind = fstatfs(&folder).map_err(|errno| failed(errno.into()))?;
        if kind.f_type.cast_unsigned() != CGROUP2_MAGIC || !status.is_dir() {
            return Err(RedirectError::NotCgroup2(path.into()));
        }
        let Some(above) = above(path, status.dev()).map_err(failed)? else {
            return Err(RedirectError::RootCgroup(path.into()));
        };
        let id = CgroupId(status.ino());
        if own_line(path, status.dev()).map_err(failed)?.contains(&id) {
            return Err(RedirectError::OwnCgroup(path.into()));
        }
        Ok(Self { folder, id, above })
    }
}

/// Ids above `path` on device `dev`, without the mount's root; none when `path` is that root.
fn above(path: &Path, dev: u64) -> io::Result<Option<Vec<CgroupId>>> {
    let mut ids = Vec::new();
    for ancestor in path.ancestors().skip(1) {
        let status = ancestor.metadata()?;
        if status.dev() != dev {
            // The last one pushed was the root.
            return Ok(ids.pop().map(|_root| ids));
        }
        ids.push(CgroupId(status.ino()));
    }
    Ok(None)
}

/// Ids of this process's cgroup and those above it, as far as they are below the mount that `path` is in.
fn own_line(path: &Path, dev: u64) -> io::Result<Vec<CgroupId>> {
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mount = path.ancestors().take_while(|folder| folder.metadata().is_ok_and(|status| status.dev() == dev)).last();
    let Some(mount) = mount else { return Ok(Vec::new()) };
    let own: PathBuf = mount.join(own);
    let line = own.ancestors().take_while(|folder| *folder != mount);
    Ok(line.filter_map(|folder| folder.metadata().ok()).map(|status| CgroupId(status.ino())).collect())
}
