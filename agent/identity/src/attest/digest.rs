//! SHA-256 of an executable, computed once for each version of the file.
//!
//! A version is told by mount, device, inode, change time and size: none of them can be set by the file's owner on a
//! file system of the kernel's own, and files on FUSE are refused before they are asked for anything.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, SHA256};
use callgate_model::Executed;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, openat, statx};

use crate::generations::Generations;

/// Most digests kept; one costs about 200 bytes.
const KEPT: usize = 4096;

/// Largest file that is hashed. Unit: bytes. Source: four times the largest browser or runtime seen.
pub(super) const HASHED_MAX: u64 = 1 << 30;

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a mount's id that is never given again. rustix has no name for it yet.
const MOUNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// One version of one file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub device: u64,
    pub inode: u64,
    changed: (i64, u32),
    size: u64,
    /// Where the kernel knows unique ids: device numbers of anonymous file systems are given again after unmount.
    mount: Option<u64>,
}

/// Set when the digest is known; none inside when the file could not be hashed.
type Slot = Arc<OnceLock<Option<Arc<str>>>>;

/// The digests computed so far.
pub(super) struct Digests(Generations<FileId, Slot>);

impl Digests {
    pub fn new() -> Self {
        Self(Generations::new(KEPT))
    }

    /// Identity and digest (64 hex digits) of `file`, opened with O_PATH, of the process whose directory is `process`.
    ///
    /// Several callers for the same file wait for one computation. A file that was not seen before is taken from
    /// `budget`, in bytes; one that is larger than what is left of it has no digest.
    pub fn of(&self, file: &OwnedFd, process: &OwnedFd, budget: &mut u64) -> Option<(FileId, Arc<str>)> {
        let id = identify(file)?;
        if id.mount.is_none() && !on_kernel_file_system(file, process) {
            return None;
        }
        let slot = self.0.get_or(&id, |_| true, Slot::default);
        if slot.get().is_none() {
            *budget = budget.checked_sub(id.size)?;
        }
        let digest = slot.get_or_init(|| {
            let known_good = id.mount.is_none() || on_kernel_file_system(file, process);
            if known_good { hash(file, &id) } else { None }
        });
        match digest {
            Some(digest) => Some((id, digest.clone())),
            None => {
                // Try again next time: an I/O error or a write in the middle may pass.
                self.0.remove(&id);
                None
            }
        }
    }
}

/// What the kernel has cached of the file: no server of a network or FUSE file system is asked.
fn cached(file: impl AsFd, flags: StatxFlags) -> Option<Statx> {
    statx(file, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, flags).ok()
}

fn identify(file: impl AsFd) -> Option<FileId> {
    let stat = cached(file, StatxFlags::BASIC_STATS | MOUNT_ID_UNIQUE)?;
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile || stat.stx_size > HASHED_MAX {
        return None;
    }
    Some(FileId {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        size: stat.stx_size,
        mount: (stat.stx_mask & MOUNT_ID_UNIQUE.bits() != 0).then_some(stat.stx_mnt_id),
    })
}

/// Whether `file`, opened with O_PATH, is what the kernel noted of the process whose directory is `process`.
///
/// Some file systems (btrfs, overlayfs over several) show another device number than the kernel has inside; the table
/// of mounts shows that one.
pub(super) fn is(file: &OwnedFd, process: &OwnedFd, noted: &Executed) -> bool {
    let Some(id) = identify(file).filter(|id| id.inode == noted.inode) else { return false };
    id.device == noted.device || mounted(file, process, |mount| mount.device) == Some(noted.device)
}

/// Whether the file lies on a mount that the process itself sees and that is not FUSE.
///
/// Asked of the mount table, since `statfs` would be answered by the FUSE server: the workload itself, perhaps never.
fn on_kernel_file_system(file: &OwnedFd, process: &OwnedFd) -> bool {
    mounted(file, process, |mount| !mount.kind.starts_with("fuse")).unwrap_or(false)
}

/// What `told` makes of the mount that the file lies on, as the process sees it.
fn mounted<T>(file: &OwnedFd, process: &OwnedFd, told: impl FnOnce(Mount<'_>) -> T) -> Option<T> {
    let stat = cached(file, StatxFlags::MNT_ID)?;
    let mut table = String::new();
    let open = openat(process, "mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    File::from(open).take(MOUNT_TABLE_MAX).read_to_string(&mut table).ok()?;
    mount(&table, stat.stx_mnt_id).map(told)
}

/// Longest mount table read. Unit: bytes. A file on a mount behind it counts as unknown.
const MOUNT_TABLE_MAX: u64 = 4 << 20;

/// A line of a `mountinfo` table.
struct Mount<'table> {
    /// The file system's type.
    kind: &'table str,
    device: u64,
}

/// The mount `id`.
fn mount(table: &str, id: u64) -> Option<Mount<'_>> {
    let line = table.lines().find(|l| l.split(' ').next().is_some_and(|first| first.parse() == Ok(id)))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    Some(Mount { kind: line.split_once(" - ")?.1.split(' ').next()?, device })
}

fn hash(file: &OwnedFd, id: &FileId) -> Option<Arc<str>> {
    // Opens the very file behind the descriptor, not whatever stands at its path now.
    let mut opened = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER];
    let mut total = 0u64;
    loop {
        let n = opened.read(&mut buffer).ok()?;
        if n == 0 {
            break;
        }
        total += n as u64;
        if total > id.size {
            return None;
        }
        context.update(&buffer[..n]);
    }
    if identify(&opened)? != *id {
        return None;
    }
    Some(context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_type_of_a_mount() {
        let table = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/a rw\n\
                     30 21 0:40 / /mnt rw - fuse.sshfs x rw\n31 21 0:41 /a\\040-\\040b /m2 rw - fuse y rw\n";
        let found = |id| mount(table, id).map(|mount| (mount.kind, mount.device));
        assert_eq!(found(21), Some(("ext4", rustix::fs::makedev(8, 1))));
        assert_eq!(found(30), Some(("fuse.sshfs", rustix::fs::makedev(0, 40))));
        assert_eq!(found(31), Some(("fuse", rustix::fs::makedev(0, 41))));
        assert_eq!(found(2), None);
    }
}
