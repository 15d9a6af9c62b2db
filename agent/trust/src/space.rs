//! The mount namespace of a process: where its CA files are amended, and shown as they were.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

use crate::amend::{self, Looked};
use crate::root::{Root, Target};
use crate::{Ca, TrustError, mount, table};

/// Tells namespaces apart, and one root in a namespace from another: a container changes it while it is being made. The
/// default is no process's.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SpaceId {
    namespace: u64,
    root: (u64, u64, u64),
}

/// The mount namespace and the root of one process. Not to be kept: it holds the container's file system.
#[derive(Debug)]
pub struct Space {
    pid: u32,
    process: OwnedFd,
    namespace: File,
    root: Root,
    id: SpaceId,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delivered {
    /// Mounted now.
    pub mounted: Vec<String>,
    /// Our CA was there already.
    pub already: Vec<String>,
    /// Not mounted, and why.
    pub left: Vec<(String, &'static str)>,
}

impl Space {
    /// That of process `pid`.
    ///
    /// # Errors
    /// [`TrustError::Process`] when it is gone or may not be looked at; [`TrustError::OwnNamespace`] when it lives in the
    /// mount namespace of this process or of the first one, where a mount would be everybody's, or still on the root
    /// directory of one of them, as a container does that is being made.
    pub fn of(pid: u32) -> Result<Self, TrustError> {
        let failed = |source: io::Error| TrustError::Process { pid, source };
        let open = || -> io::Result<Self> {
            let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // What is opened through one descriptor belongs to one process, whoever gets its number later.
            let process = rustix::fs::open(format!("/proc/{pid}"), directory, Mode::empty())?;
            let file = OFlags::RDONLY | OFlags::CLOEXEC;
            let namespace = File::from(openat(&process, "ns/mnt", file, Mode::empty())?);
            let target = Target::of(openat(&process, "root", directory, Mode::empty())?)?;
            let id = SpaceId { namespace: namespace.metadata()?.ino(), root: target.id };
            Ok(Self { pid, process, namespace, root: Root::new(target.descriptor), id })
        };
        let space = open().map_err(failed)?;
        for own in ["/proc/self", "/proc/1"] {
            match space.is_of(own) {
                Ok(false) => {}
                Ok(true) => return Err(TrustError::OwnNamespace(pid)),
                // It belongs to a user namespace above ours, where this process cannot mount either.
                Err(error) if own == "/proc/1" && error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(space)
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> SpaceId {
        self.id
    }

    /// Whether the process that it was found by is still there, and so has had its number all the time.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.file("stat").is_ok_and(|mut file| io::copy(&mut file, &mut io::sink()).is_ok())
    }

    /// Mounts amended copies over the CA files in it that lack `ca`. `scratch` is a directory of ours; nothing of what
    /// is done in it is seen by others.
    ///
    /// Blocking; a file system in the container that does not answer holds it up. So it asks, also when all is done,
    /// whether that is `wanted` still: who first has it say no and then takes back what is there, leaves no mount.
    ///
    /// # Errors
    /// [`TrustError::Unwanted`] when it is not, and nothing of ours is mounted there any more; another one when nothing
    /// can be mounted there at all.
    pub fn deliver(
        &self,
        ca: &Ca,
        scratch: &Path,
        wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Delivered, TrustError> {
        let mut looked = amend::look(&self.root, ca);
        if self.is_stale(&looked)? {
            // Mounted for another CA than the one that is in force now.
            mount::away(self.namespace.as_fd())?;
            looked = amend::look(&self.root, ca);
        }
        let outcomes = match looked.amendments.as_slice() {
            [] => Ok(Vec::new()),
            some => mount::over(self.namespace.as_fd(), scratch, some, wanted),
        };
        if !wanted() {
            // Also where it failed half-way. Who ended it may have looked for mounts before there were any.
            mount::away(self.namespace.as_fd())?;
            return Err(TrustError::Unwanted);
        }
        let mut delivered = Delivered { already: looked.already, ..Delivered::default() };
        for (one, outcome) in looked.amendments.into_iter().zip(outcomes?) {
            match outcome {
                Ok(()) => delivered.mounted.push(one.path),
                Err(why) => delivered.left.push((one.path, why)),
            }
        }
        Ok(delivered)
    }

    /// Takes away what was mounted here, also by an earlier process; how many mounts that were.
    ///
    /// # Errors
    /// [`TrustError::Mount`].
    pub fn take_back(&self) -> Result<usize, TrustError> {
        // Once its process is gone the table cannot be read here; others may live in the namespace.
        if self.ours().is_ok_and(|ours| ours.is_empty()) {
            return Ok(0);
        }
        mount::away(self.namespace.as_fd())
    }

    /// Whether the process whose directory is `own` is in this namespace, or on this root.
    fn is_of(&self, own: &str) -> io::Result<bool> {
        let root = rustix::fs::open(format!("{own}/root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let (_, device, inode) = Target::of(root)?.id;
        let namespace = std::fs::metadata(format!("{own}/ns/mnt"))?.ino();
        Ok(namespace == self.id.namespace || (device, inode) == (self.id.root.1, self.id.root.2))
    }

    fn is_stale(&self, looked: &Looked) -> Result<bool, TrustError> {
        let ours = self.ours()?;
        Ok(looked.amendments.iter().any(|one| ours.contains(&one.target.id.0)))
    }

    /// Ids of our mounts.
    fn ours(&self) -> Result<Vec<u64>, TrustError> {
        let mounts = self.file("mountinfo").and_then(table::read);
        let mounts = mounts.map_err(|source| TrustError::Process { pid: self.pid, source })?;
        Ok(mounts.iter().filter(|mount| mount.ours).map(|mount| mount.id).collect())
    }

    fn file(&self, name: &str) -> io::Result<File> {
        Ok(openat(&self.process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
    }
}
