//! Cgroups of a test's own, below `<cgroup2 mount>/callgate-test-<pid>/`.
//!
//! Tests never attach anything at the mount's root: every process of the machine lives below it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// Start of the name of each test process's directory.
const PREFIX: &str = "callgate-test-";
/// A killed cgroup empties within milliseconds; a stuck one must not hang the run.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A cgroup (v2); on drop its processes are killed and it is removed, children included.
#[derive(Debug)]
pub struct TestCgroup {
    path: PathBuf,
}

impl TestCgroup {
    /// Makes `<mount>/callgate-test-<pid>/<label><n>`.
    ///
    /// # Errors
    /// Without root, or when no cgroup2 file system is mounted.
    pub fn new(label: &str) -> Result<TestCgroup> {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = own_root()?.join(format!("{label}{n}"));
        // The parent may be removed by another test's drop between the two steps of one call.
        let mut made = fs::create_dir_all(&path);
        for _ in 0..10 {
            if made.is_ok() {
                break;
            }
            made = fs::create_dir_all(&path);
        }
        made.with_context(|| format!("create cgroup {}", path.display()))?;
        Ok(TestCgroup { path })
    }

    /// Makes a cgroup below this one; removed with it.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn child(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("create cgroup {}", path.display()))?;
        Ok(path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's id of it: the inode of the directory.
    ///
    /// # Errors
    /// When it was removed.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path).with_context(|| format!("stat {}", self.path.display()))?.ino())
    }

    /// Ids of the processes in it, those in its children not counted.
    ///
    /// # Errors
    /// When it was removed.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            eprintln!("harness: {error:#}");
        }
        if let Some(parent) = self.path.parent() {
            // Fails while other tests of this process have theirs in it; the last one succeeds.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Where the cgroup2 file system is mounted, from `/proc/mounts`: not always where one expects it.
///
/// # Errors
/// When none is mounted.
pub fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("read /proc/mounts")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let path = line.and_then(|line| line.split(' ').nth(1)).context("no cgroup2 file system is mounted")?;
    Ok(PathBuf::from(path))
}

/// Removes the cgroups of test processes that are gone.
pub(crate) fn sweep() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(cgroup2_mount()?)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if crate::tidy::is_orphan(&name, PREFIX) {
            remove(&entry.path())?;
            removed.push(format!("cgroup {name}"));
        }
    }
    Ok(removed)
}

fn own_root() -> Result<PathBuf> {
    Ok(cgroup2_mount()?.join(format!("{PREFIX}{}", std::process::id())))
}

/// Kills what lives in the cgroup at `path` and removes it, children first.
fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    // cgroup.kill takes the whole subtree (Linux 5.14).
    fs::write(path.join("cgroup.kill"), "1").with_context(|| format!("kill cgroup {}", path.display()))?;
    remove_tree(path)
}

fn remove_tree(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    let what = format!("remove cgroup {}", path.display());
    crate::eventually(&what, EMPTY_WITHIN, || match fs::remove_dir(path) {
        Ok(()) => Some(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(()),
        Err(_) => None,
    })
}
