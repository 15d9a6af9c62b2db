//! Where things are pinned, and taking pins away.
//!
//! `<bpffs>/callgate/v<schema>/<instance>/maps/<map>`, `…/links/<cgroup id>/<program>`, and for strict mode
//! `…/strict/<cgroup id>/<program>`; `…/warden` is the warden's. The schema's version is in
//! the path since aya opens a pinned map without comparing its layout. bpffs takes no dots in names.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use callgate_ebpf_common::SCHEMA;
use callgate_model::CgroupId;
use rustix::fs::{FlockOperation, Mode, OFlags, statfs};
use rustix::mount::MountFlags;

use crate::cgroup::Cgroup;
use crate::object::forget_enrolment;
use crate::{RedirectError, links};

/// Magic number of bpffs. Source: uapi/linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Folders of links.
const LINKS: &str = "links";
const STRICT: &str = "strict";

/// How long a lock that another process has is asked for again. A child of a process that has just ended keeps it
/// between its fork and its exec, where the descriptor is closed.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// How often folders are made again that a sweep removed meanwhile. Source: one sweep removes them once.
const OWN_TRIES: usize = 8;

/// Paths of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    instance: String,
    root: PathBuf,
}

/// Proof that no other process has this instance; ends with the process, however it ends.
#[derive(Debug)]
pub struct Owned(OwnedFd);

impl Owned {
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Whether the folder that is locked is the one at `path`, not one that was removed meanwhile.
    fn is(&self, path: &Path) -> bool {
        let inode = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let (locked, there) = (rustix::fs::fstat(&self.0), rustix::fs::stat(path));
        matches!((locked, there), (Ok(locked), Ok(there)) if inode(locked) == inode(there))
    }
}

impl Pins {
    /// # Errors
    /// [`RedirectError::Instance`].
    pub fn new(bpffs: &Path, instance: &str) -> Result<Self, RedirectError> {
        let fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if instance.is_empty() || instance.len() > 64 || !instance.bytes().all(fit) {
            return Err(RedirectError::Instance(instance.into()));
        }
        Ok(Self { instance: instance.into(), root: schema_root(bpffs).join(instance) })
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub fn links(&self, cgroup: CgroupId) -> PathBuf {
        self.root.join(LINKS).join(cgroup.to_string())
    }

    /// Links of strict mode at a cgroup.
    pub fn strict(&self, cgroup: CgroupId) -> PathBuf {
        self.root.join(STRICT).join(cgroup.to_string())
    }

    /// Where the warden of this instance has its own: removed with the rest.
    pub fn warden(&self) -> PathBuf {
        self.root.join("warden")
    }

    /// Makes the folders and takes the lock.
    pub fn own(&self) -> Result<Owned, RedirectError> {
        for _ in 0..OWN_TRIES {
            for folder in [self.maps(), self.root.join(LINKS)] {
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
                made.map_err(|source| RedirectError::Pin { path: folder, source })?;
            }
            match self.lock() {
                // A sweep may have removed between the two what it took for left behind.
                Ok(owned) if owned.is(&self.root) && self.maps().is_dir() && self.root.join(LINKS).is_dir() => {
                    return Ok(owned);
                }
                Err(RedirectError::Pin { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Err(RedirectError::InUse(self.instance.clone()))
    }

    /// Goes on with the lock of the process before, which handed it over: two descriptors, one lock.
    pub fn owned_by(&self, lock: OwnedFd) -> Result<Owned, RedirectError> {
        let owned = Owned(lock);
        let in_use = || RedirectError::InUse(self.instance.clone());
        // Asked for through the same descriptor, a lock that is held is granted; one that is another's is not.
        rustix::fs::flock(&owned.0, FlockOperation::NonBlockingLockExclusive).map_err(|_| in_use())?;
        if owned.is(&self.root) { Ok(owned) } else { Err(in_use()) }
    }

    fn lock(&self) -> Result<Owned, RedirectError> {
        self.lock_within(LOCK_PATIENCE)
    }

    /// Without patience: for one who comes again.
    fn lock_at_once(&self) -> Result<Owned, RedirectError> {
        self.lock_within(Duration::ZERO)
    }

    fn lock_within(&self, patience: Duration) -> Result<Owned, RedirectError> {
        let pin = |source: rustix::io::Errno| RedirectError::Pin { path: self.root.clone(), source: source.into() };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.root, flags, Mode::empty()).map_err(pin)?;
        let deadline = Instant::now() + patience;
        loop {
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Owned(folder)),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(RedirectError::InUse(self.instance.clone())),
                Err(errno) => return Err(pin(errno)),
            }
        }
    }

    /// Cgroups with links of an enrolment.
    pub fn enrolled(&self) -> Result<Vec<CgroupId>, RedirectError> {
        self.cgroups(LINKS)
    }

    /// Cgroups with links of strict mode.
    pub fn guarded(&self) -> Result<Vec<CgroupId>, RedirectError> {
        self.cgroups(STRICT)
    }

    fn cgroups(&self, kind: &str) -> Result<Vec<CgroupId>, RedirectError> {
        let mut ids = Vec::new();
        for name in names(&self.root.join(kind))? {
            ids.extend(name.parse().ok().map(CgroupId));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes every pin: links first, so that no program runs with half of its maps.
    pub fn remove(&self) -> Result<(), RedirectError> {
        remove_folder(&self.warden())?;
        for id in self.enrolled()? {
            // Detached by name: a link whose pin alone is removed goes some time later.
            links::detach(&self.links(id), links::WORKLOAD)?;
        }
        for id in self.guarded()? {
            links::detach(&self.strict(id), links::STRICT)?;
        }
        for folder in [self.root.join(LINKS), self.root.join(STRICT), self.maps(), self.root.clone()] {
            remove_folder(&folder)?;
        }
        Ok(())
    }

    /// Two instances on one line of cgroups would redirect to each other. Within one instance nesting is fine: the
    /// deepest enrolment counts.
    ///
    /// # Errors
    /// [`RedirectError::Nested`] where another instance in `bpffs` has enrolled the cgroup at `path`, or one above.
    pub fn refuse_nested(&self, bpffs: &Path, path: &Path, cgroup: &Cgroup) -> Result<(), RedirectError> {
        for instance in instances(bpffs)? {
            if instance == self.instance {
                continue;
            }
            let Ok(other) = Pins::new(bpffs, &instance) else { continue };
            if cgroup.above.iter().chain([&cgroup.id]).any(|id| other.links(*id).is_dir()) {
                return Err(RedirectError::Nested { path: path.into(), instance });
            }
        }
        Ok(())
    }
}

/// Removes every pin of an instance whose process is gone: its enrolments end, its cgroups are free.
///
/// # Errors
/// [`RedirectError::InUse`] while a process has it loaded.
pub fn remove_pins(bpffs: &Path, instance: &str) -> Result<(), RedirectError> {
    let pins = Pins::new(bpffs, instance)?;
    if !pins.root.is_dir() {
        return Ok(());
    }
    let _owned = pins.lock()?;
    pins.remove()
}

/// Removes the pins of an instance whose process is gone and that enrols nothing; whether it did.
///
/// Links are what enforces: where there is one, whatever it is of, nothing is removed.
///
/// # Errors
/// [`RedirectError::Pin`].
pub fn remove_idle_pins(bpffs: &Path, instance: &str) -> Result<bool, RedirectError> {
    let pins = Pins::new(bpffs, instance)?;
    let _owned = match pins.lock_at_once() {
        Ok(owned) => owned,
        Err(RedirectError::InUse(_)) => return Ok(false),
        Err(RedirectError::Pin { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !names(&pins.root.join(LINKS))?.is_empty() || !names(&pins.root.join(STRICT))?.is_empty() {
        return Ok(false);
    }
    pins.remove()?;
    Ok(true)
}

/// Ends one enrolment of an instance whose process is gone; whether there was one.
///
/// # Errors
/// [`RedirectError::InUse`] while a process has the instance loaded: then it is that one's to end it.
pub fn end_enrolment(bpffs: &Path, instance: &str, cgroup: CgroupId) -> Result<bool, RedirectError> {
    let pins = Pins::new(bpffs, instance)?;
    if !pins.root.is_dir() {
        return Ok(false);
    }
    let _owned = pins.lock()?;
    if !pins.links(cgroup).is_dir() {
        return Ok(false);
    }
    links::detach(&pins.links(cgroup), links::WORKLOAD)?;
    forget_enrolment(&pins, cgroup)?;
    Ok(true)
}

/// Instances that have pins, alive or not, sorted.
///
/// # Errors
/// [`RedirectError::Pin`] when `bpffs` cannot be read.
pub fn instances(bpffs: &Path) -> Result<Vec<String>, RedirectError> {
    let mut found = names(&schema_root(bpffs))?;
    found.sort_unstable();
    Ok(found)
}

/// Mounts bpffs unless it is there.
pub fn mount_bpffs(path: &Path) -> Result<(), RedirectError> {
    let failed = |source: io::Error| RedirectError::Bpffs { path: path.into(), source };
    if is_bpffs(path) {
        return Ok(());
    }
    if !shares_mounts_with_the_first() {
        return Err(failed(io::Error::other("here it would be mounted for this container alone, and end with it")));
    }
    fs::create_dir_all(path).map_err(failed)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("bpf", path, "bpf", flags, Some(c"mode=0700")).map_err(|errno| failed(errno.into()))
}

/// Whether what is mounted here is seen by the first process that we see, and so outlives this one: not in a container
/// that sees its node's processes. Where it cannot be told it is taken to be so.
fn shares_mounts_with_the_first() -> bool {
    let namespace = |path: &str| fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
    match (namespace("/proc/1/ns/mnt"), namespace("/proc/self/ns/mnt")) {
        (Ok(first), Ok(ours)) => first == ours,
        _ => true,
    }
}

/// Whether bpffs is mounted at `path`, or a folder of it is.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type.cast_unsigned() == BPF_FS_MAGIC)
}

fn schema_root(bpffs: &Path) -> PathBuf {
    bpffs.join("callgate").join(format!("v{SCHEMA}"))
}

/// Names in a folder; none when it is missing.
pub fn names(folder: &Path) -> Result<Vec<String>, RedirectError> {
    let failed = |source| RedirectError::Pin { path: folder.into(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

/// Removes the pins in a folder, and the folder; what is gone already is fine.
pub fn remove_folder(folder: &Path) -> Result<(), RedirectError> {
    for name in names(folder)? {
        remove_if_there(&folder.join(name), |path| fs::remove_file(path))?;
    }
    remove_if_there(folder, |path| fs::remove_dir(path))
}

pub fn remove_if_there(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<(), RedirectError> {
    match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|source| RedirectError::Pin { path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_plain_names() {
        for good in ["agent", "run-0193", "a_b"] {
            assert!(Pins::new(Path::new("/sys/fs/bpf"), good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "../x", "a/b", "A", "é", &"x".repeat(65)] {
            assert!(matches!(Pins::new(Path::new("/x"), bad), Err(RedirectError::Instance(_))), "{bad}");
        }
    }

    #[test]
    fn the_schema_is_in_the_path() {
        let pins = Pins::new(Path::new("/sys/fs/bpf"), "agent").unwrap();
        assert_eq!(pins.map("STATS"), Path::new("/sys/fs/bpf/callgate/v2/agent/maps/STATS"));
        assert_eq!(pins.links(CgroupId(7)), Path::new("/sys/fs/bpf/callgate/v2/agent/links/7"));
    }
}
