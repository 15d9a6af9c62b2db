//! `/run` as CMD sees it: a copy made of binds, without what starts processes.
//!
//! The copy is a file system of its own, so a socket that a daemon makes there later, or makes again, does not appear.
//! Left out: every starter of the table, and every socket and pipe except the log's. What cannot be shown is hidden.

use std::cell::Cell;
use std::fs::{self, FileType};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags};

use super::hide::{self, View};
use super::mounts;

/// Deepest directory that is looked into; what lies deeper is hidden.
const DEPTH: usize = 12;

/// Most entries that are looked at. A directory that holds more than are left is hidden.
const ENTRIES: u32 = 200_000;

/// Magic numbers of the file systems in memory, where sockets are. Source: linux/magic.h (tmpfs, ramfs).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Replaces the directory `root` by its mirror.
pub(super) fn make(root: &Path, view: &View) -> Result<()> {
    let old = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open `{}`", root.display()))?;
    mounts::empty(root)?;
    // Leads to the directory below the cover.
    let below = PathBuf::from(format!("/proc/self/fd/{}", old.as_raw_fd()));
    let home = rustix::fs::fstat(&old).with_context(|| format!("cannot look at `{}`", root.display()))?.st_dev;
    let mirror = Mirror { root, below: &below, view, home, left: Cell::new(ENTRIES) };
    mirror.fill(Path::new(""), DEPTH, false);
    Ok(())
}

struct Mirror<'a> {
    root: &'a Path,
    below: &'a Path,
    view: &'a View,
    /// Device of the root directory.
    home: u64,
    /// Entries that may still be looked at.
    left: Cell<u32>,
}

impl Mirror<'_> {
    /// Shows the entries of the directory `inside`, which exists in the mirror.
    fn fill(&self, inside: &Path, depth: usize, only_exposed: bool) {
        for entry in fs::read_dir(self.below.join(inside)).into_iter().flatten().flatten() {
            if let Ok(kind) = entry.file_type() {
                self.entry(&inside.join(entry.file_name()), kind, depth, only_exposed);
            }
        }
    }

    fn entry(&self, inside: &Path, kind: FileType, depth: usize, only_exposed: bool) {
        let path = self.root.join(inside);
        if self.view.exposed(&path) {
            return self.show(inside, kind);
        }
        let hidden = only_exposed || self.view.is_starter(&path);
        if hidden && !self.view.holds_exposed(&path) {
            return;
        }
        if kind.is_dir() {
            // Shown whole when nothing in it is to be hidden; else entry by entry.
            let whole = !hidden && !self.view.holds_starter(&path) && !self.has_sockets(inside, depth);
            if whole {
                return self.show(inside, kind);
            }
            if depth > 0 && mirror_directory(&self.below.join(inside), &path) {
                self.fill(inside, depth - 1, hidden);
            }
        } else if kind.is_file() || kind.is_symlink() || hide::is_harmless(&path) {
            self.show(inside, kind);
        }
    }

    fn show(&self, inside: &Path, kind: FileType) {
        let path = self.root.join(inside);
        if kind.is_symlink() {
            if let Ok(target) = fs::read_link(self.below.join(inside)) {
                let _ = symlink(target, &path);
            }
            return;
        }
        if mounts::place(&path, kind.is_dir()).is_ok() && mounts::bind(&self.below.join(inside), &path).is_err() {
            let _ = if kind.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        }
    }

    /// Whether a socket or pipe is somewhere in the directory, or that cannot be told.
    fn has_sockets(&self, inside: &Path, depth: usize) -> bool {
        let dir = self.below.join(inside);
        let Ok(meta) = fs::metadata(&dir) else { return true };
        if meta.dev() != self.home && !in_memory(&dir) {
            // A disk mounted below `/run`: not searched; a socket in use there is covered by itself.
            return false;
        }
        let Ok(entries) = fs::read_dir(&dir) else { return true };
        depth == 0
            || entries.flatten().any(|entry| {
                let left = self.left.get().saturating_sub(1);
                self.left.set(left);
                match entry.file_type() {
                    _ if left == 0 => true,
                    Ok(kind) if kind.is_dir() => self.has_sockets(&inside.join(entry.file_name()), depth - 1),
                    Ok(kind) => kind.is_socket() || kind.is_fifo(),
                    Err(_) => true,
                }
            })
    }
}

fn in_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|stat| IN_MEMORY.contains(&stat.f_type.unsigned_abs()))
}

/// Makes a directory like `original`; whether that worked.
fn mirror_directory(original: &Path, path: &Path) -> bool {
    let Ok(meta) = fs::metadata(original) else { return false };
    mounts::directory(path, meta.mode() & 0o7777, meta.uid(), meta.gid()).is_ok()
}
