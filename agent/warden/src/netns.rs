//! Network namespaces: those that a cgroup's tasks are in, and working inside of one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::WardenError;

/// An open network namespace, kept alive by this.
#[derive(Debug)]
pub struct Netns {
    file: File,
    inode: u64,
}

impl Netns {
    /// The one that a file stands for.
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    /// The one that a descriptor stands for.
    pub fn of(file: impl Into<OwnedFd>) -> io::Result<Self> {
        let file = File::from(file.into());
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }

    /// Its number in records.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` inside: here if this thread is there, else on a thread of its own, as the namespace of a pooled thread
    /// must never change.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T, WardenError> + Send) -> Result<T, WardenError> {
        let failed = |source: io::Error| WardenError::Netns { netns: self.inode.to_string(), source };
        // A thread more takes a turn more of a busy processor, and each one lengthens the life of a socket.
        if fs::metadata("/proc/thread-self/ns/net").is_ok_and(|own| own.ino() == self.inode) {
            return work();
        }
        std::thread::scope(|scope| {
            let inside = std::thread::Builder::new().name("warden-netns".into()).spawn_scoped(scope, || {
                let moved = move_into_thread_name_spaces(self.file.as_fd(), ThreadNameSpaceType::NETWORK);
                moved.map_err(|errno| failed(errno.into()))?;
                work()
            });
            let joined = inside.map_err(failed)?.join();
            joined.unwrap_or_else(|_| Err(failed(io::Error::other("the thread panicked"))))
        })
    }
}

/// Those of every thread in the cgroup at `path` and below: a thread may be in another one than its process.
///
/// A thread that ends meanwhile is left out.
pub fn of_cgroup(path: &Path) -> BTreeMap<u64, Netns> {
    let mut found = BTreeMap::new();
    collect(path, &mut found);
    found
}

fn collect(path: &Path, found: &mut BTreeMap<u64, Netns>) {
    let threads = fs::read_to_string(path.join("cgroup.threads")).unwrap_or_default();
    for thread in threads.lines() {
        if let Ok(netns) = Netns::at(Path::new(&format!("/proc/{thread}/ns/net"))) {
            found.entry(netns.inode).or_insert(netns);
        }
    }
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect(&entry.path(), found);
    }
}
