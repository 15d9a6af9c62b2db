//! In which cgroup the process was when it connected, and what that cgroup's path tells.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use callgate_model::{CgroupId, Origin, Placement};
use rustix::fs::{Mode, OFlags, openat};

/// Longest `/proc/PID/cgroup` that is read. Unit: bytes. Source: PATH_MAX, and version 1's lines before it.
const TABLE_MAX: u64 = 64 << 10;

/// Most cgroups that are looked at for one that no process names. Source: ours; a pod has one for each container, and
/// who may make cgroups of its own may make any number.
const FOUND_AMONG: usize = 64;

/// What is told of the process whose proc directory is `process`; `enrolled` is the enrolled cgroup above it, below
/// the cgroup v2 mount.
///
/// The kernel named the cgroup by its id, which is looked for below the enrolled one where the process is gone, or has
/// left it since; what is not found is told as in the enrolled one.
pub(super) fn of(process: Option<&OwnedFd>, origin: &Origin, enrolled: &Path, mount: Option<&Path>) -> Placement {
    let known = Placement::of_cgroup(enrolled);
    if origin.cgroup == origin.enrolled {
        return known;
    }
    let Some(mount) = mount else { return known };
    let task = process.and_then(membership).filter(|path| path.starts_with(enrolled));
    let task = task.filter(|path| id_of(&mount.join(path)) == Some(origin.cgroup));
    let Some(task) = task.or_else(|| find(mount, enrolled, origin.cgroup)) else { return known };
    let told = Placement::of(enrolled, &named_by_root(mount, enrolled, &task));
    Placement { cgroup_path: task, ..told }
}

/// The cgroup `id` among those below `enrolled`, nearest first, as far as there are not too many.
fn find(mount: &Path, enrolled: &Path, id: CgroupId) -> Option<PathBuf> {
    let mut looked_at = 0;
    let mut level = vec![enrolled.to_owned()];
    while !level.is_empty() {
        let mut next = Vec::new();
        for above in level {
            for entry in fs::read_dir(mount.join(&above)).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                looked_at += 1;
                if looked_at > FOUND_AMONG {
                    return None;
                }
                let path = above.join(entry.file_name());
                if id_of(&mount.join(&path)) == Some(id) {
                    return Some(path);
                }
                next.push(path);
            }
        }
        level = next;
    }
    None
}

/// `task` without what lies below a directory that belongs to somebody else than root: whoever may make cgroups there
/// may call them what they like.
fn named_by_root(mount: &Path, enrolled: &Path, task: &Path) -> PathBuf {
    let mut path = enrolled.to_owned();
    for part in task.strip_prefix(enrolled).unwrap_or(Path::new("")) {
        if !fs::metadata(mount.join(&path)).is_ok_and(|found| found.uid() == 0) {
            break;
        }
        path.push(part);
    }
    path
}

fn membership(process: &OwnedFd) -> Option<PathBuf> {
    let file = openat(process, "cgroup", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut table = String::new();
    fs::File::from(file).take(TABLE_MAX).read_to_string(&mut table).ok()?;
    let path = PathBuf::from(table.lines().find_map(|line| line.strip_prefix("0::/"))?);
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

fn id_of(path: &Path) -> Option<CgroupId> {
    fs::metadata(path).ok().map(|found| CgroupId(found.ino()))
}

/// The first cgroup v2 mount, as the agent's own table of mounts has it.
pub(super) fn mount() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = table.lines().map(|line| line.split(' ').skip(1));
    let found =
        mounts.find_map(|mut words| Some((words.next()?, words.next()?)).filter(|(_, kind)| *kind == "cgroup2"));
    found.map(|(path, _)| PathBuf::from(path.replace("\\040", " ")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_id_among_a_few() {
        let mount = tempfile::tempdir().unwrap();
        let (pod, container) = (Path::new("kubepods/pod1"), Path::new("kubepods/pod1/c2"));
        fs::create_dir_all(mount.path().join("kubepods/pod1/c1/nested")).unwrap();
        fs::create_dir_all(mount.path().join(container)).unwrap();
        fs::create_dir_all(mount.path().join("kubepods/pod2")).unwrap();
        let id = |path: &str| id_of(&mount.path().join(path)).unwrap();
        assert_eq!(find(mount.path(), pod, id("kubepods/pod1/c2")).as_deref(), Some(container));
        assert_eq!(find(mount.path(), pod, id("kubepods/pod1/c1/nested")), Some("kubepods/pod1/c1/nested".into()));
        // Of another pod.
        assert_eq!(find(mount.path(), pod, id("kubepods/pod2")), None);
        for number in 0..FOUND_AMONG {
            fs::create_dir(mount.path().join(format!("kubepods/pod1/made-{number}"))).unwrap();
        }
        assert_eq!(find(mount.path(), pod, CgroupId(u64::MAX)), None);
    }

    #[test]
    fn what_a_user_may_name_is_not_believed() {
        let mount = tempfile::tempdir().unwrap();
        let id = "6f8c1e2d3b4a59687f8e9d0c1b2a39485766758493a2b1c0dfeecdbcab9a8978";
        let (enrolled, task) = (Path::new("user.slice"), format!("user.slice/u.service/docker-{id}.scope"));
        fs::create_dir_all(mount.path().join(&task)).unwrap();
        let told = || Placement::of(enrolled, &named_by_root(mount.path(), enrolled, Path::new(&task)));
        assert_eq!((told().unit, told().container_id), ("u.service".into(), id.into()));
        chown(mount.path().join("user.slice/u.service"), Some(1000), None).unwrap();
        assert_eq!((told().unit, told().container_id), ("u.service".into(), String::new()));
    }
}
