//! Cgroups of version 2: where they are, making, emptying and removing them.
//!
//! Paths are absolute directories below the cgroup v2 mount unless said otherwise. Nothing here looks at version 1.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use callgate_model::CgroupId;

use crate::EnrollError;

/// Magic number of cgroup v2 in `statfs`. Source: linux/magic.h.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// How long [`remove`] waits for killed processes to be gone.
const REMOVE_WAIT: Duration = Duration::from_secs(5);

/// Deepest tree that is walked. Source: kernels allow more (`cgroup.max.depth`), nobody uses it.
const DEPTH_MAX: usize = 32;

/// The first cgroup v2 mount of this process's mount namespace: `/sys/fs/cgroup`, or elsewhere beside version 1.
///
/// # Errors
/// [`EnrollError::NoCgroup2`] when there is none.
pub fn cgroup2_mount() -> Result<PathBuf, EnrollError> {
    let path = Path::new("/proc/self/mounts");
    let table = fs::read_to_string(path).map_err(EnrollError::io("read", path))?;
    mount_in(&table).ok_or(EnrollError::NoCgroup2)
}

fn mount_in(table: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(unescape(target)))
    })
}

/// Undoes the octal escapes of mount tables: blank, tab, newline, backslash.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Makes the cgroup and the missing ones above it; one that exists is fine.
///
/// # Errors
/// [`EnrollError::Io`]; [`EnrollError::NotCgroup`] when the path is outside of cgroup v2.
pub fn create(path: &Path) -> Result<CgroupId, EnrollError> {
    fs::create_dir_all(path).map_err(EnrollError::io("create the cgroup", path))?;
    id_of(path)
}

/// The id of a cgroup: the inode of its directory.
///
/// # Errors
/// [`EnrollError::Io`] when it does not exist; [`EnrollError::NotCgroup`] when it is something else.
pub fn id_of(path: &Path) -> Result<CgroupId, EnrollError> {
    let stat = rustix::fs::statfs(path).map_err(|e| EnrollError::io("look at", path)(e.into()))?;
    let meta = fs::metadata(path).map_err(EnrollError::io("look at", path))?;
    if stat.f_type.unsigned_abs() != CGROUP2_MAGIC || !meta.is_dir() {
        return Err(EnrollError::NotCgroup(path.to_owned()));
    }
    Ok(CgroupId(meta.ino()))
}

/// The path, relative to `root`, of the cgroup `id` at or below `root`; none when there is none.
///
/// Walks the tree: some milliseconds on a large host, so not for the data path.
#[must_use]
pub fn path_of(id: CgroupId, root: &Path) -> Option<PathBuf> {
    fn find(id: CgroupId, dir: &Path, depth: usize) -> Option<PathBuf> {
        if fs::metadata(dir).ok()?.ino() == id.0 {
            return Some(dir.to_owned());
        }
        if depth == 0 {
            return None;
        }
        children(dir).iter().find_map(|child| find(id, child, depth - 1))
    }
    find(id, root, DEPTH_MAX)?.strip_prefix(root).ok().map(Path::to_owned)
}

/// Whether a process lives in the cgroup or below it. One that is gone is not populated.
///
/// # Errors
/// [`EnrollError::Io`] when `cgroup.events` cannot be read although the cgroup exists.
pub fn populated(path: &Path) -> Result<bool, EnrollError> {
    match fs::read_to_string(path.join("cgroup.events")) {
        Ok(events) => Ok(events.lines().any(|line| line == "populated 1")),
        Err(e) if is_gone(&e) => Ok(false),
        Err(e) => Err(EnrollError::io("read `cgroup.events` of", path)(e)),
    }
}

/// The process ids in the cgroup and below it, sorted. A snapshot: processes may come and go meanwhile.
///
/// # Errors
/// [`EnrollError::Io`] when `cgroup.procs` cannot be read although the cgroup exists.
pub fn processes(path: &Path) -> Result<Vec<u32>, EnrollError> {
    let mut all = Vec::new();
    for dir in tree(path) {
        match fs::read_to_string(dir.join("cgroup.procs")) {
            Ok(text) => all.extend(text.lines().filter_map(|l| l.parse::<u32>().ok())),
            Err(e) if is_gone(&e) => {}
            Err(e) => return Err(EnrollError::io("read `cgroup.procs` of", &dir)(e)),
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Kills every process in the cgroup and below it, at once (`cgroup.kill`, Linux 5.14). They die a little later.
///
/// # Errors
/// [`EnrollError::Io`] when the kernel refuses; a cgroup that is gone is fine.
pub fn kill(path: &Path) -> Result<(), EnrollError> {
    match fs::write(path.join("cgroup.kill"), "1") {
        Err(e) if !is_gone(&e) => Err(EnrollError::io("kill the processes of", path)(e)),
        _ => Ok(()),
    }
}

/// Removes the cgroup and those below it, waiting up to 5 s for processes that are dying. One that is gone is fine.
///
/// Blocking. Kills nothing itself: call [`kill`] first.
///
/// # Errors
/// [`EnrollError::Busy`] when processes remain; [`EnrollError::Io`] otherwise.
pub fn remove(path: &Path) -> Result<(), EnrollError> {
    let deadline = Instant::now() + REMOVE_WAIT;
    let mut pause = Duration::from_millis(1);
    loop {
        let Err(error) = remove_once(path) else { return Ok(()) };
        if error.kind() != io::ErrorKind::ResourceBusy {
            return Err(EnrollError::io("remove the cgroup", path)(error));
        }
        if Instant::now() >= deadline {
            return Err(EnrollError::Busy { path: path.to_owned(), waited_s: REMOVE_WAIT.as_secs() });
        }
        // No event tells when the last dying process has left: zombies leave `populated` before rmdir succeeds.
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn remove_once(path: &Path) -> io::Result<()> {
    // Deepest first.
    for dir in tree(path).iter().rev() {
        match fs::remove_dir(dir) {
            Err(e) if !is_gone(&e) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// The cgroup and those below it, each before its children.
fn tree(path: &Path) -> Vec<PathBuf> {
    fn collect(dir: &Path, depth: usize, all: &mut Vec<PathBuf>) {
        all.push(dir.to_owned());
        if depth > 0 {
            children(dir).iter().for_each(|child| collect(child, depth - 1, all));
        }
    }
    let mut all = Vec::new();
    collect(path, DEPTH_MAX, &mut all);
    all
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// A removed cgroup gives ENOENT, or ENODEV through a file that was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// The path of process `pid` below the cgroup v2 mount, without a leading slash.
///
/// As seen from the cgroup namespace of the caller, which must be the initial one.
///
/// # Errors
/// [`EnrollError::Process`] when it cannot be told: the process is gone, or outside of the caller's view.
pub fn of_process(pid: u32) -> Result<PathBuf, EnrollError> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|_| EnrollError::Process(pid))?;
    parse_membership(&table).ok_or(EnrollError::Process(pid))
}

/// The version 2 line is `0::PATH`, with ` (deleted)` behind it when the cgroup was removed.
pub(crate) fn parse_membership(table: &str) -> Option<PathBuf> {
    let path = table.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = PathBuf::from(path.strip_suffix(" (deleted)").unwrap_or(path));
    // `/..` leads out of the reader's own cgroup namespace: such a path compares with nothing.
    path.components().all(|c| matches!(c, Component::Normal(_))).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn finds_the_mount_beside_version_1() {
        let table = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                     cgroup2 /sys/fs/cgroup/my\\040unified cgroup2 rw 0 0\ncgroup2 /other cgroup2 rw 0 0\n";
        assert_eq!(mount_in(table), Some("/sys/fs/cgroup/my unified".into()));
        assert_eq!(mount_in("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn reads_the_version_2_line_alone() {
        assert_eq!(parse_membership("9:memory:/a\n0::/b/c\n"), Some("b/c".into()));
        assert_eq!(parse_membership("0::/\n"), Some("".into()));
        assert_eq!(parse_membership("0::/gone (deleted)\n"), Some("gone".into()));
        assert_eq!(parse_membership("0::/../outside\n"), None);
        assert_eq!(parse_membership("9:memory:/a\n"), None);
    }

    #[test]
    fn refuses_a_directory_that_is_no_cgroup() {
        assert!(matches!(id_of(Path::new("/tmp")), Err(EnrollError::NotCgroup(_))));
        assert!(matches!(id_of(Path::new("/no/such")), Err(EnrollError::Io { .. })));
    }

    #[test]
    fn makes_fills_kills_and_removes_a_tree() {
        let mount = cgroup2_mount().unwrap();
        let root = mount.join(format!("callgate-test-{}-cgroup", std::process::id()));
        let inner = root.join("a/b");
        let id = create(&inner).unwrap();
        assert_eq!(create(&inner).unwrap(), id);
        assert_eq!(path_of(id, &root).unwrap(), Path::new("a/b"));
        assert_eq!(path_of(CgroupId(u64::MAX), &root), None);
        assert!(!populated(&root).unwrap());

        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        fs::write(inner.join("cgroup.procs"), child.id().to_string()).unwrap();
        assert!(populated(&root).unwrap());
        assert_eq!(processes(&root).unwrap(), [child.id()]);
        assert_eq!(of_process(child.id()).unwrap(), inner.strip_prefix(&mount).unwrap());

        kill(&root).unwrap();
        child.wait().unwrap();
        remove(&root).unwrap();
        assert!(!root.exists());
        assert!(!populated(&root).unwrap());
        kill(&root).unwrap();
        remove(&root).unwrap();
    }
}
