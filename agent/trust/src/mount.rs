//! Mounts in another mount namespace, and takes them away again: by descriptors alone, on threads that end with it.
//!
//! The content lies in a file system of its own in memory, made in a namespace that lives only meanwhile, then read-only
//! for everybody. What is moved into the workload's namespace was cut off from everything before.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, mount_remount,
    move_mount, open_tree, unmount,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::TrustError;
use crate::amend::Amendment;
use crate::root::Target;
use crate::table::{self, Mount, SOURCE};
use crate::tree::Node;

/// Size of the file system. Source: twice what `amend` makes at most, which is not taken before it is written.
const OPTIONS: &std::ffi::CStr = c"mode=0755,size=16m,nr_inodes=16384";

/// Why something was not mounted.
pub(crate) const SHARED: &str = "mounts there would be seen outside of the container";
pub(crate) const UNREACHABLE: &str = "it is in no mount of the container's namespace";
pub(crate) const UNWANTED: &str = "it is no longer asked for";

/// What became of one amendment.
pub(crate) type Outcome = Result<(), &'static str>;

/// Mounts every amendment in the namespace `space`, as long as they are `wanted`; `scratch` is a directory of ours, of
/// which nobody sees a change.
pub(crate) fn over(
    space: BorrowedFd<'_>,
    scratch: &Path,
    all: &[Amendment],
    wanted: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Outcome>, TrustError> {
    on_own_thread(|| {
        let proc = own_proc()?;
        let trees = detached(scratch, all.iter().map(|one| &one.node))?;
        enter(space)?;
        let mounts = mounts(&proc)?;
        let over = |(one, tree): (&Amendment, &OwnedFd)| {
            // Of what the workload changes meanwhile it can share nothing with the host again.
            match mounts.iter().find(|mount| mount.id == one.target.id.0) {
                None => Ok(Err(UNREACHABLE)),
                Some(mount) if mount.shared => Ok(Err(SHARED)),
                Some(_) if !wanted() => Ok(Err(UNWANTED)),
                Some(_) => attach(tree, &one.target.descriptor).map(Ok),
            }
        };
        all.iter().zip(&trees).map(over).collect()
    })
}

/// Takes every mount of ours out of the namespace `space`; how many they were.
pub(crate) fn away(space: BorrowedFd<'_>) -> Result<usize, TrustError> {
    on_own_thread(|| {
        let proc = own_proc()?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).map_err(|e| failed("part from the agent's root")(e))?;
        enter(space)?;
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(TrustError::mount("open the root of the container"))?;
        // Paths below are resolved by this: the container's own /proc may be anything.
        rustix::process::fchdir(&proc).map_err(TrustError::mount("go to the agent's own /proc"))?;
        let mut gone = 0;
        for mount in mounts(&proc)?.iter().rev().filter(|mount| mount.ours) {
            if leave(&root, mount)? {
                gone += 1;
            }
        }
        Ok(gone)
    })
}

/// Whether `mount`, which was seen at its path, is still there and is no more.
fn leave(root: &OwnedFd, mount: &Mount) -> Result<bool, TrustError> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let opened = openat2(root, &mount.target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    // Covered by another mount, or gone: then there is nothing that the workload sees of it.
    let Some(target) = opened.ok().and_then(|descriptor| Target::of(descriptor).ok()) else { return Ok(false) };
    if target.id.0 != mount.id {
        return Ok(false);
    }
    let link = format!("thread-self/fd/{}", target.descriptor.as_raw_fd());
    unmount(link, UnmountFlags::DETACH).map_err(TrustError::mount("take a mount away"))?;
    Ok(true)
}

/// A mount for each of `nodes` that is attached nowhere, read-only. Leaves this thread in a namespace of its own.
pub(crate) fn detached<'a>(scratch: &Path, nodes: impl Iterator<Item = &'a Node>) -> Result<Vec<OwnedFd>, TrustError> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|e| failed("make a mount namespace")(e))?;
    // What the host unmounts goes here too; what is mounted here, nobody sees.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(TrustError::mount("part from the host's mounts"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(SOURCE, scratch, "tmpfs", flags, OPTIONS).map_err(TrustError::mount("mount a file system in memory"))?;
    let mut paths = Vec::new();
    for (n, node) in nodes.enumerate() {
        let path = scratch.join(n.to_string());
        node.write(&path).map_err(|source| TrustError::Mount { what: "write an amended copy", source })?;
        paths.push(path);
    }
    // The file system itself, not this mount alone: there is no way to write to it again.
    mount_remount(scratch, flags | MountFlags::RDONLY, c"").map_err(TrustError::mount("make the copies read-only"))?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cut = |path| open_tree(rustix::fs::CWD, path, clone).map_err(TrustError::mount("cut a mount off (open_tree)"));
    paths.iter().map(cut).collect()
}

/// Attaches a detached mount over what `target` stands for, in this thread's namespace.
pub(crate) fn attach(tree: &OwnedFd, target: &OwnedFd) -> Result<(), TrustError> {
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", empty).map_err(TrustError::mount("mount over a CA file (move_mount)"))
}

/// Runs `work` on a thread that ends with it: the namespace of a pooled thread must never change.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T, TrustError> + Send) -> Result<T, TrustError> {
    let failed = |source| TrustError::Mount { what: "work on a thread of its own", source };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("trust-mounts".into()).spawn_scoped(scope, work);
        let joined = thread.map_err(failed)?.join();
        joined.unwrap_or_else(|_| Err(failed(std::io::Error::other("the thread panicked"))))
    })
}

fn enter(space: BorrowedFd<'_>) -> Result<(), TrustError> {
    move_into_link_name_space(space, Some(LinkNameSpaceType::Mount))
        .map_err(TrustError::mount("enter the mount namespace"))
}

/// Our own /proc: it shows this thread as long as that lives, wherever it is.
fn own_proc() -> Result<OwnedFd, TrustError> {
    rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(TrustError::mount("open /proc"))
}

/// The mounts of the namespace that this thread is in.
fn mounts(proc: &OwnedFd) -> Result<Vec<Mount>, TrustError> {
    let table = openat(proc.as_fd(), "thread-self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(TrustError::mount("open the mount table"))?;
    table::read(File::from(table)).map_err(|source| TrustError::Mount { what: "read the mount table", source })
}

fn failed(what: &'static str) -> impl FnOnce(nix::errno::Errno) -> TrustError {
    move |errno| TrustError::Mount { what, source: errno.into() }
}
