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

/// An open folder of cgroup v2 that is not the mount's root.
#[derive(Debug)]
pub struct Cgroup {
    /// Without links.
    pub path: PathBuf,
    pub folder: File,
    pub id: CgroupId,
    /// Ids of the cgroups above it, nearest first, without the root.
    pub above: Vec<CgroupId>,
}

impl Cgroup {
    /// One that does not hold this process.
    ///
    /// # Errors
    /// [`RedirectError::Cgroup`], [`RedirectError::NotCgroup2`], [`RedirectError::RootCgroup`],
    /// [`RedirectError::OwnCgroup`].
    pub fn open(path: &Path) -> Result<Self, RedirectError> {
        let found = Self::look(path)?;
        if own_line(&found.path)
            .map_err(|source| RedirectError::Cgroup { path: path.into(), source })?
            .contains(&found.id)
        {
            return Err(RedirectError::OwnCgroup(found.path));
        }
        Ok(found)
    }

    /// One that may hold this process.
    ///
    /// # Errors
    /// As [`Cgroup::open`], without [`RedirectError::OwnCgroup`].
    pub fn look(path: &Path) -> Result<Self, RedirectError> {
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
        Ok(Self { path: path.clone(), folder, id: CgroupId(status.ino()), above })
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

/// The cgroup of this process, unless that is the root, or there is none.
pub fn own() -> Option<CgroupId> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' ').skip(1));
    let mount =
        fields.find_map(|mut words| Some((words.next()?, words.next()?)).filter(|(_, kind)| *kind == "cgroup2"))?;
    own_line(Path::new(mount.0)).ok()?.first().copied()
}

/// Ids of this process's cgroup and those above it, as far as they are below the mount that `path` is in.
pub fn own_line(path: &Path) -> io::Result<Vec<CgroupId>> {
    let dev = path.metadata()?.dev();
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mount = path.ancestors().take_while(|folder| folder.metadata().is_ok_and(|status| status.dev() == dev)).last();
    let Some(mount) = mount else { return Ok(Vec::new()) };
    let own: PathBuf = mount.join(own);
    let line = own.ancestors().take_while(|folder| *folder != mount);
    Ok(line.filter_map(|folder| folder.metadata().ok()).map(|status| CgroupId(status.ino())).collect())
}
