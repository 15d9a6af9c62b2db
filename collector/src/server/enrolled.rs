//! Which cgroups of this host are enrolled, as the kernel's own table of pins has it.
//!
//! Every instance of the agent, alive or not, keeps the links of an enrolment below bpffs, in a folder that is named by
//! the cgroup's id: `callgate/v<schema>/<instance>/links/<id>`. What is enforced is there, what is not is not.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Whether the cgroup at `path` (below the cgroup v2 mount), or one above it, is enrolled by anybody on this host.
///
/// # Errors
/// When it cannot be told: bpffs is another user's, or the cgroup is gone.
pub(super) fn covers(bpffs: &Path, path: &str) -> io::Result<bool> {
    let folders = folders(bpffs)?;
    if folders.is_empty() {
        return Ok(false);
    }
    let mut cgroup = mount()?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        // Outside of our own cgroup namespace, nothing can be told.
        if part == ".." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        cgroup.push(part);
        let id = fs::metadata(&cgroup)?.ino().to_string();
        for folder in &folders {
            if folder.join(&id).try_exists()? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The folders of links of all instances; none where no agent ever ran.
fn folders(bpffs: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for schema in children(&bpffs.join("callgate"))? {
        for instance in children(&schema)? {
            found.push(instance.join("links"));
        }
    }
    Ok(found)
}

fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// The first cgroup v2 mount.
fn mount() -> io::Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts = table.lines().map(|line| line.split(' ').skip(1));
    let found =
        mounts.find_map(|mut words| Some((words.next()?, words.next()?)).filter(|(_, kind)| *kind == "cgroup2"));
    let (path, _) = found.ok_or(io::ErrorKind::NotFound)?;
    Ok(path.replace("\\040", " ").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::peer_cgroup;

    #[test]
    fn what_is_pinned_for_a_cgroup_counts_for_all_below_it() {
        let bpffs = tempfile::tempdir().unwrap();
        let own = peer_cgroup(std::process::id()).unwrap();
        assert!(!covers(bpffs.path(), &own).unwrap(), "no agent ever ran");
        let links = bpffs.path().join("callgate/v2/agent/links");
        fs::create_dir_all(links.join("1")).unwrap();
        assert!(!covers(bpffs.path(), &own).unwrap());
        // Any cgroup will do: what is looked at is its id, and those above.
        let (mount, parent) = (mount().unwrap(), own.trim_matches('/'));
        let Some(cgroup) = fs::read_dir(mount.join(parent)).unwrap().flatten().find(|entry| entry.path().is_dir())
        else {
            return;
        };
        let below = format!("{parent}/{}", cgroup.file_name().to_string_lossy());
        fs::create_dir(links.join(cgroup.metadata().unwrap().ino().to_string())).unwrap();
        assert!(covers(bpffs.path(), &below).unwrap());
        assert!(!covers(bpffs.path(), &own).unwrap(), "the one above is not");
        assert!(covers(bpffs.path(), "/no/such/cgroup").is_err());
        assert!(covers(bpffs.path(), "/../outside").is_err());
    }
}
