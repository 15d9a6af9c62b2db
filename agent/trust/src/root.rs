//! The root directory of a process, and files below it: opened so that nothing in there leads out or hangs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::Errno;

/// Largest file that is read. Source: ours; bundles have 150 to 600 KiB.
pub(crate) const FILE_MAX: u64 = 4 << 20;

/// Largest label of SELinux. Source: ours; they have about 50 bytes.
const LABEL_MAX: usize = 512;

/// How often a path is tried again while directories in it are being renamed. Source: openat2(2), EAGAIN.
const TRIES: usize = 4;

/// A root directory.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// Whether symbolic links are followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Links {
    /// Within the root.
    Follow,
    /// What is behind one is not found.
    Refuse,
}

/// Something below a root, named by a descriptor that only stands for it.
#[derive(Debug)]
pub(crate) struct Target {
    pub descriptor: OwnedFd,
    /// Mount, device and inode.
    pub id: (u64, u64, u64),
    kind: FileType,
    /// As its file system last said. Unit: bytes.
    size: u64,
}

/// The content of a file.
#[derive(Debug)]
pub(crate) struct Content {
    pub bytes: Vec<u8>,
    /// Its label of SELinux, which the copy needs too.
    pub label: Option<Vec<u8>>,
}

impl Root {
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// What is at `path`; none where there is nothing, or only behind links that are refused.
    pub(crate) fn find(&self, path: &str, links: Links) -> Option<Target> {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if links == Links::Refuse {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let open = || openat2(&self.0, path, flags, Mode::empty(), resolve);
        let tried = (0..TRIES).map(|_| open()).find(|tried| !matches!(tried, Err(Errno::AGAIN)))?;
        Target::of(tried.ok()?).ok()
    }
}

impl Target {
    pub(crate) fn of(descriptor: OwnedFd) -> io::Result<Self> {
        // What the kernel knows already: whoever serves the file system need not answer.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let told = statx(&descriptor, "", flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
        let device = u64::from(told.stx_dev_major) << 32 | u64::from(told.stx_dev_minor);
        let kind = FileType::from_raw_mode(u32::from(told.stx_mode));
        Ok(Self { descriptor, id: (told.stx_mnt_id, device, told.stx_ino), kind, size: told.stx_size })
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The content of a regular file of at most [`FILE_MAX`] bytes; none of anything else. `left` is how many bytes may
    /// still be read, and becomes less by those that were.
    pub(crate) fn read(&self, left: &mut u64) -> Option<Content> {
        let max = FILE_MAX.min(*left);
        // A pipe or a device is never opened; nor a file of the kernel's (proc, cgroup, tracing), which says 0: to read
        // one may take something away from the host, as the log of the kernel, or change it.
        if self.kind != FileType::RegularFile || self.size == 0 || self.size > max {
            return None;
        }
        let file = self.reopen(OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
        let mut bytes = Vec::new();
        let read = File::from(file.try_clone().ok()?).take(max + 1).read_to_end(&mut bytes);
        *left = left.saturating_sub(bytes.len() as u64);
        if read.is_err() || bytes.len() as u64 > max {
            return None;
        }
        let mut label = vec![0; LABEL_MAX];
        let length = rustix::fs::fgetxattr(&file, "security.selinux", label.as_mut_slice());
        let label = length.ok().map(|length| {
            label.truncate(length);
            label
        });
        Some(Content { bytes, label })
    }

    /// The names in a directory, sorted; none if there are more than `max`.
    pub(crate) fn names(&self, max: usize) -> Option<Vec<(OsString, FileType)>> {
        if !self.is_directory() {
            return None;
        }
        let directory = self.reopen(OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        let mut all = Vec::new();
        for entry in Dir::read_from(&directory).ok()? {
            let entry = entry.ok()?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            // A path would be resolved outside of the container; kernels before 5.4 take one from who serves a file system.
            if all.len() == max || name.is_empty() || name.contains(&b'/') {
                return None;
            }
            all.push((OsString::from_vec(name.to_vec()), entry.file_type()));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        // A file system that a workload serves may say so: then one of the two would be written over the other.
        if all.windows(2).any(|two| two[0].0 == two[1].0) {
            return None;
        }
        Some(all)
    }

    /// What is `name` in this directory itself, which is no path and is not followed.
    pub(crate) fn entry(&self, name: &str) -> Option<Target> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Target::of(openat2(&self.descriptor, name, flags, Mode::empty(), resolve).ok()?).ok()
    }

    /// Where the symbolic link `name` in this directory leads.
    pub(crate) fn link(&self, name: &str) -> Option<OsString> {
        let text = rustix::fs::readlinkat(&self.descriptor, name, Vec::new()).ok()?;
        Some(OsString::from_vec(text.into_bytes()))
    }

    fn reopen(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // By our own link: opening by the path again might find something else.
        let own = format!("/proc/thread-self/fd/{}", self.descriptor.as_raw_fd());
        rustix::fs::open(own, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(directory: &std::path::Path) -> Root {
        Root::new(File::open(directory).unwrap().into())
    }

    #[test]
    fn links_lead_nowhere_but_within_the_root() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "out").unwrap();
        fs::create_dir_all(inside.path().join("etc")).unwrap();
        fs::write(inside.path().join("etc/real"), "in").unwrap();
        let at = |name: &str| inside.path().join(name);
        symlink("/etc/real", at("absolute")).unwrap();
        symlink(outside.path().join("secret"), at("out")).unwrap();
        symlink("../../../../../../etc/passwd", at("up")).unwrap();
        symlink(format!("/proc/{}/root/etc/passwd", std::process::id()), at("magic")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let root = root(inside.path());
        let read = |path: &str, links| root.find(path, links)?.read(&mut { FILE_MAX }).map(|content| content.bytes);
        assert_eq!(read("/absolute", Links::Follow).unwrap(), b"in");
        assert_eq!(read("/etc/../../../etc/real", Links::Follow).unwrap(), b"in");
        assert!(root.find("/absolute", Links::Refuse).is_none());
        for path in ["/out", "/up", "/magic", "/loop", "/nothing"] {
            assert!(root.find(path, Links::Follow).is_none(), "{path}");
        }
    }

    #[test]
    fn only_regular_files_of_a_bounded_size_are_read() {
        let inside = tempfile::tempdir().unwrap();
        let at = |name: &str| inside.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        File::create(at("huge")).unwrap().set_len(FILE_MAX + 1).unwrap();
        File::create(at("full")).unwrap().set_len(FILE_MAX).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("/dev/zero", at("device")).unwrap();
        let root = root(inside.path());
        for path in ["/pipe", "/huge", "/socket", "/device", "/"] {
            assert!(
                root.find(path, Links::Follow).is_none_or(|target| target.read(&mut { FILE_MAX }).is_none()),
                "{path}"
            );
        }
        let full = root.find("/full", Links::Follow).unwrap();
        let mut left = FILE_MAX + 1;
        assert_eq!((full.read(&mut left).unwrap().bytes.len() as u64, left), (FILE_MAX, 1));
        assert!(full.read(&mut left).is_none() && left == 1, "no more may be read than is left");
        assert!(root.find("/", Links::Follow).unwrap().names(4).is_none());
        assert_eq!(root.find("/", Links::Follow).unwrap().names(5).unwrap().len(), 5);
    }

    #[test]
    fn files_of_the_kernel_are_not_opened() {
        let proc = root(std::path::Path::new("/proc"));
        let target = proc.find("/version", Links::Follow).unwrap();
        assert!(fs::read("/proc/version").unwrap().len() > 10 && target.kind == FileType::RegularFile);
        assert!(target.read(&mut { FILE_MAX }).is_none());
    }
}
