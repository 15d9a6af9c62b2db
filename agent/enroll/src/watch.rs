//! Which cgroups come and go below one, as it happens, by inotify.
//!
//! Directories alone are watched for. Not by the `notify` crate: it also asks for every open, read and write of the
//! files in them, which monitoring reads all the time, and it says nothing of directories that were made between a
//! directory's birth and its watch. Here the watch comes first and the look into the directory second.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::EnrollError;

/// Deepest tree that is watched. Source: as deep as the kernel programs look.
const DEPTH_MAX: usize = 32;

/// Room for events of one read. Unit: bytes. Source: some hundreds of short names.
const BUFFER: usize = 16 << 10;

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The directory was made, or found. It may be gone again.
    Came(PathBuf),
    /// The directory was removed. There may be another one in its place.
    Went(PathBuf),
    /// Some of what happened is not told: look at everything, with [`TreeWatch::look`].
    Lost,
}

/// Watches a directory and all below it.
#[derive(Debug)]
pub struct TreeWatch {
    inotify: OwnedFd,
    root: PathBuf,
    paths: HashMap<i32, PathBuf>,
    watches: HashMap<PathBuf, i32>,
    whole: bool,
}

impl TreeWatch {
    /// Watches nothing yet: [`TreeWatch::look`] begins.
    ///
    /// # Errors
    /// [`EnrollError::Io`] when there is no room for an inotify object.
    pub fn new(root: &Path) -> Result<Self, EnrollError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| EnrollError::io("watch", root)(error.into()))?;
        let (paths, watches) = (HashMap::new(), HashMap::new());
        Ok(Self { inotify, root: root.to_owned(), paths, watches, whole: true })
    }

    /// Every directory below the root, each before its children; all of them are watched from now on.
    pub fn look(&mut self) -> Vec<PathBuf> {
        self.whole = true;
        let mut found = Vec::new();
        let root = self.root.clone();
        self.add(&root, 0, &mut found);
        // Whose end was not told.
        let there: HashSet<&PathBuf> = found.iter().chain([&root]).collect();
        let gone: Vec<PathBuf> = self.watches.keys().filter(|path| !there.contains(path)).cloned().collect();
        gone.iter().for_each(|path| self.forget(path));
        found
    }

    /// Whether everything is watched; else there was no room (`fs.inotify.max_user_watches`), and only
    /// [`TreeWatch::look`] finds what comes.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// How many directories are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// What happened since the last call; waits up to `patience` for something. Blocking.
    ///
    /// # Errors
    /// [`EnrollError::Io`] when the kernel's queue cannot be read.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Change>, EnrollError> {
        let failed = |errno: Errno| EnrollError::io("watch", &self.root)(errno.into());
        let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            ready => ready.map_err(failed)?,
        };
        let mut told = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    told.push((event.wd(), event.events(), event.file_name().map(|name| name.to_bytes().to_owned())));
                }
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        let mut changes = Vec::new();
        for (watch, events, name) in told {
            self.take(watch, events, name.as_deref(), &mut changes);
        }
        Ok(changes)
    }

    fn take(&mut self, watch: i32, events: ReadFlags, name: Option<&[u8]>, changes: &mut Vec<Change>) {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            changes.push(Change::Lost);
            return;
        }
        let (Some(name), true) = (name, events.contains(ReadFlags::ISDIR)) else { return };
        let Some(path) = self.paths.get(&watch).map(|folder| folder.join(OsStr::from_bytes(name))) else { return };
        if events.contains(ReadFlags::DELETE) {
            // cgroupfs keeps the inode, and with it the watch. Where another directory is there by now, the event of
            // its birth is still to come.
            self.forget(&path);
            changes.push(Change::Went(path));
        } else if events.contains(ReadFlags::CREATE) {
            let depth = path.strip_prefix(&self.root).map_or(0, |below| below.iter().count());
            let mut found = Vec::new();
            self.add(&path, depth, &mut found);
            // What is gone already came nevertheless, so that each `Went` has its `Came`.
            if found.is_empty() {
                found.push(path);
            }
            changes.extend(found.into_iter().map(Change::Came));
        }
    }

    /// Watches `folder`, then looks into it: what is made meanwhile is told twice rather than not at all.
    fn add(&mut self, folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        let wanted = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(&self.inotify, folder, wanted) {
            Ok(watch) => {
                // The path of a directory that was removed is another one's now.
                if let Some(before) = self.watches.insert(folder.to_owned(), watch)
                    && before != watch
                {
                    self.paths.remove(&before);
                }
                self.paths.insert(watch, folder.to_owned());
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV) => return,
            Err(_) => self.whole = false,
        }
        if depth > 0 {
            found.push(folder.to_owned());
        }
        if depth == DEPTH_MAX {
            return;
        }
        for child in folders(folder).unwrap_or_default() {
            self.add(&child, depth + 1, found);
        }
    }

    fn forget(&mut self, path: &Path) {
        if let Some(watch) = self.watches.remove(path) {
            self.paths.remove(&watch);
            let _gone_already = inotify::remove_watch(&self.inotify, watch);
        }
    }
}

fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Instant;

    use super::*;
    use crate::cgroup;

    const SOON: Duration = Duration::from_secs(5);

    /// A cgroup of the test's own; removed also when the test fails.
    struct Own(PathBuf);

    impl Own {
        fn new(name: &str) -> Self {
            let mount = cgroup::cgroup2_mount().unwrap();
            let root = mount.join(format!("callgate-test-{}-{name}", std::process::id()));
            cgroup::create(&root).unwrap();
            Self(root)
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            let _gone = cgroup::remove(&self.0);
        }
    }

    fn until(watch: &mut TreeWatch, wanted: &[Change]) -> Vec<Change> {
        let (mut all, since) = (Vec::new(), Instant::now());
        while !wanted.iter().all(|change| all.contains(change)) {
            assert!(since.elapsed() < SOON, "{wanted:?} was not told: {all:?}");
            all.extend(watch.wait(Duration::from_millis(100)).unwrap());
        }
        all
    }

    #[test]
    fn cgroups_are_told_as_they_come_and_go() {
        let own = Own::new("watch");
        let (a, b) = (own.0.join("a"), own.0.join("a/b"));
        fs::create_dir(&a).unwrap();
        let mut watch = TreeWatch::new(&own.0).unwrap();
        assert_eq!(watch.look(), std::slice::from_ref(&a));
        fs::create_dir(&b).unwrap();
        until(&mut watch, &[Change::Came(b.clone())]);
        // Reading and writing their files is no news.
        fs::read_to_string(b.join("cgroup.procs")).unwrap();
        fs::write(b.join("cgroup.max.depth"), "3").unwrap();
        assert_eq!(watch.wait(Duration::ZERO).unwrap(), []);
        fs::remove_dir(&b).unwrap();
        fs::remove_dir(&a).unwrap();
        until(&mut watch, &[Change::Went(b.clone()), Change::Went(a.clone())]);
        // Another one in the same place.
        fs::create_dir_all(&b).unwrap();
        until(&mut watch, &[Change::Came(a), Change::Came(b)]);
        assert!(watch.is_whole());
    }

    #[test]
    fn whole_trees_made_at_once_are_told_and_leave_nothing() {
        let own = Own::new("trees");
        let mut watch = TreeWatch::new(&own.0).unwrap();
        watch.look();
        let mut wanted = BTreeSet::new();
        for tree in 0..50 {
            let leaf = own.0.join(format!("t{tree}/x/y"));
            fs::create_dir_all(&leaf).unwrap();
            wanted.extend(leaf.ancestors().take(3).map(Path::to_owned));
        }
        let came: Vec<_> = wanted.iter().cloned().map(Change::Came).collect();
        until(&mut watch, &came);
        assert_eq!(watch.len(), 151);
        for path in wanted.iter().rev() {
            fs::remove_dir(path).unwrap();
        }
        let went: Vec<_> = wanted.into_iter().map(Change::Went).collect();
        until(&mut watch, &went);
        let since = Instant::now();
        while watch.len() > 1 {
            assert!(since.elapsed() < SOON, "{} are still watched", watch.len());
            watch.wait(Duration::from_millis(100)).unwrap();
        }
        assert_eq!(watch.watches.len(), 1);
    }
}
