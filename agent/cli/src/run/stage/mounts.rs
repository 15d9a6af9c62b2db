//! The private mount namespace, and the few things done to mounts in it.
//!
//! CMD has no SYS_ADMIN here. In a user namespace of its own it gets a copy of these mounts, locked together by the
//! kernel: what was covered cannot be uncovered there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};

/// One line of the mount table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub target: PathBuf,
    pub file_system: String,
    flags: MountFlags,
}

/// Enters a mount namespace of this process's own; nothing passes between it and the system's from now on.
pub(super) fn private_namespace() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("cannot make mounts private")
}

/// The mounts of this process's namespace, in order of mounting.
pub(super) fn table() -> Result<Vec<Mount>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read `/proc/self/mountinfo`")?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Mount> {
    // 36 35 98:0 /root /target rw,noatime shared:1 - ext4 /dev/sda rw
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ').skip(4);
    let (target, options) = (fields.next()?, fields.next()?);
    Some(Mount {
        target: unescape(target),
        file_system: right.split(' ').next()?.to_owned(),
        flags: options.split(',').map(flag).fold(MountFlags::empty(), MountFlags::union),
    })
}

/// The options that a remount would otherwise clear.
fn flag(option: &str) -> MountFlags {
    match option {
        "ro" => MountFlags::RDONLY,
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        _ => MountFlags::empty(),
    }
}

fn unescape(field: &str) -> PathBuf {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\").into()
}

impl Mount {
    /// Makes this one mount read-only, here alone.
    pub fn read_only(&self) -> Result<()> {
        mount_remount(&self.target, MountFlags::BIND | MountFlags::RDONLY | self.flags, "")
            .with_context(|| format!("cannot make `{}` read-only", self.target.display()))
    }
}

/// Makes the directory or file at `path` read-only, here alone, as a mount of its own.
pub(super) fn read_only(path: &Path) -> Result<()> {
    bind(path, path)?;
    // The new mount has the options of the one around it.
    let flags = table()?.iter().rev().find(|m| m.target == path).map_or(MountFlags::empty(), |m| m.flags);
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | flags, "")
        .with_context(|| format!("cannot make `{}` read-only", path.display()))
}

/// Shows `source`, with what is mounted below it, at `target`, which exists.
pub(super) fn bind(source: &Path, target: &Path) -> Result<()> {
    mount_bind_recursive(source, target)
        .with_context(|| format!("cannot show `{}` at `{}`", source.display(), target.display()))
}

/// Covers a directory by an empty file system that root alone may write.
pub(super) fn empty(path: &Path) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("callgate", path, "tmpfs", flags, c"mode=0755,size=16m")
        .with_context(|| format!("cannot cover `{}`", path.display()))
}

/// Covers a file, socket or device by `/dev/null`.
pub(super) fn null(path: &Path) -> Result<()> {
    mount_bind("/dev/null", path).with_context(|| format!("cannot cover `{}`", path.display()))
}

/// Makes what `source` can be bound onto: a directory for a directory, an empty file for anything else.
pub(super) fn place(target: &Path, directory: bool) -> Result<()> {
    let made = if directory { fs::create_dir_all(target) } else { fs::write(target, "") };
    made.with_context(|| format!("cannot make `{}`", target.display()))
}

/// Makes a directory with exactly these rights and owner.
pub(super) fn directory(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .and_then(|()| std::os::unix::fs::chown(path, Some(uid), Some(gid)))
        .with_context(|| format!("cannot make `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_the_mount_table() {
        let line = "36 35 98:0 /a /mnt\\040x rw,nosuid,relatime shared:1 master:2 - cgroup2 cgroup2 rw,nsdelegate";
        let mount = parse(line).unwrap();
        assert_eq!(mount.target, Path::new("/mnt x"));
        assert_eq!(mount.file_system, "cgroup2");
        assert_eq!(mount.flags, MountFlags::NOSUID | MountFlags::RELATIME);
        assert_eq!(parse("nonsense"), None);
    }
}
