//! The file systems by which the kernel is steered: read-only, or gone.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::mounts;

/// File systems that hold our enforcement, look into the kernel, or make it start interpreters: covered, wherever they
/// are mounted.
const HIDDEN: &[&str] = &["binfmt_misc", "bpf", "debugfs", "tracefs"];

/// What root could write by its user id alone, without any capability. Source: the read-only paths of container
/// runtimes (OCI); `core_pattern` and `modprobe` below the first make the kernel start programs outside.
const ROOT_READ_ONLY: &[&str] = &["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];

/// Memory as a file.
const MEMORY: &[&str] = &["/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"];

/// Makes every cgroup tree read-only and hides bpffs and its like; for root also what root could write
/// without a capability: `/proc/sys`, `/sys`, disks and memory.
///
/// The latter is not done for other users: they cannot write it anyway, and a `/proc` that is partly covered keeps
/// programs from mounting one in a user namespace, as their own sandboxes do.
pub(super) fn protect(root: bool) -> Result<()> {
    for mount in mounts::table()? {
        let kind = mount.file_system.as_str();
        let steering = matches!(kind, "cgroup" | "cgroup2") || root && mount.target.starts_with("/sys");
        let done = match () {
            () if HIDDEN.contains(&kind) => mounts::empty(&mount.target),
            () if steering => mount.read_only(),
            () => Ok(()),
        };
        // Its directory was removed outside meanwhile, which takes the mount away here too.
        done.or_else(|error| if mount.target.exists() { Err(error) } else { Ok(()) })?;
    }
    if root {
        ROOT_READ_ONLY.iter().map(Path::new).filter(|p| p.exists()).try_for_each(mounts::read_only)?;
        MEMORY.iter().map(Path::new).filter(|p| p.exists()).try_for_each(mounts::null)?;
        disks(Path::new("/dev"), 3).iter().try_for_each(|disk| mounts::null(disk))?;
    }
    Ok(())
}

/// The block devices in `dir`, down to `depth` levels; symbolic links are not followed.
fn disks(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_block_device() => all.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => all.extend(disks(&entry.path(), depth - 1)),
            _ => {}
        }
    }
    all
}
