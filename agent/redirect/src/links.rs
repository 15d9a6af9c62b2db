//! Attaching the programs to a cgroup, and swapping them without a gap.
//!
//! aya cannot replace the program of a link. So the new link is attached and pinned beside the old one, which is then
//! removed: for a moment both run, which the programs know to bear, and never none.

use std::fs;
use std::io;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use aya_obj::generated::bpf_attach_type;

use crate::RedirectError;
use crate::cgroup::Cgroup;
use crate::pins::{remove_folder, remove_if_there};
use crate::syscall::detach_link;

/// One program and where it is attached.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Name of the program in the object, and of its pin.
    pub name: &'static str,
    /// The kernel's list that it stands in.
    pub kind: bpf_attach_type,
}

const fn hook(name: &'static str, kind: bpf_attach_type) -> Hook {
    Hook { name, kind }
}

/// The programs of a workload, in the order of attaching; detached in reverse.
///
/// `tcp_states` is there before anything can be redirected, and `egress` comes last: it drops the SYN of whatever was
/// not redirected.
pub const WORKLOAD: &[Hook] = &[
    hook("tcp_states", bpf_attach_type::BPF_CGROUP_SOCK_OPS),
    hook("getpeername4", bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME),
    hook("getpeername6", bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME),
    hook("recvmsg4", bpf_attach_type::BPF_CGROUP_UDP4_RECVMSG),
    hook("recvmsg6", bpf_attach_type::BPF_CGROUP_UDP6_RECVMSG),
    hook("connect4", bpf_attach_type::BPF_CGROUP_INET4_CONNECT),
    hook("connect6", bpf_attach_type::BPF_CGROUP_INET6_CONNECT),
    hook("sendmsg4", bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG),
    hook("sendmsg6", bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG),
    hook("create", bpf_attach_type::BPF_CGROUP_INET_SOCK_CREATE),
    hook("egress", bpf_attach_type::BPF_CGROUP_INET_EGRESS),
];

/// The programs of strict mode, at the cgroup below which it holds.
pub const STRICT: &[Hook] = &[
    hook("strict_conn4", bpf_attach_type::BPF_CGROUP_INET4_CONNECT),
    hook("strict_conn6", bpf_attach_type::BPF_CGROUP_INET6_CONNECT),
    hook("strict_send4", bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG),
    hook("strict_send6", bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG),
    hook("strict_create", bpf_attach_type::BPF_CGROUP_INET_SOCK_CREATE),
    hook("strict_egress", bpf_attach_type::BPF_CGROUP_INET_EGRESS),
];

/// Every program of the object.
pub fn all() -> impl Iterator<Item = Hook> {
    WORKLOAD.iter().chain(STRICT).copied()
}

/// Attached for good, but the old link is still there. Ends as [`PROGRAMS`]' name.
const NEW: &str = "_new";

/// Loads one program into the kernel, where its verifier judges it.
pub fn load(object: &mut Ebpf, name: &'static str) -> Result<(), RedirectError> {
    let done = match object.program_mut(name) {
        Some(Program::CgroupSockAddr(program)) => program.load(),
        Some(Program::CgroupSock(program)) => program.load(),
        Some(Program::CgroupSkb(program)) => program.load(),
        Some(Program::SockOps(program)) => program.load(),
        _ => Err(ProgramError::NotLoaded),
    };
    done.map_err(|source| RedirectError::Program { program: name, source: Box::new(source) })
}

/// Attaches `hooks` and pins them in `folder`, replacing what an earlier agent, or somebody else, left there.
pub fn attach(
    object: &mut Ebpf,
    folder: &Path,
    cgroup: &Cgroup,
    hooks: impl IntoIterator<Item = Hook> + Clone,
) -> Result<(), RedirectError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => settle(folder, hooks.clone())?,
        made => made.map_err(|source| RedirectError::Pin { path: folder.into(), source })?,
    }
    for Hook { name, .. } in hooks {
        let failed = |source: ProgramError| RedirectError::Program { program: name, source: Box::new(source) };
        let link = attach_one(object, name, cgroup).map_err(failed)?;
        let (old, new) = (folder.join(name), folder.join(format!("{name}{NEW}")));
        let pinned = link.pin(&new);
        pinned.map_err(|error| RedirectError::Pin { path: new.clone(), source: io::Error::other(error) })?;
        replace(&old, &new)?;
    }
    Ok(())
}

/// Detaches in reverse order and removes the folder.
///
/// Removing a pin alone detaches too, but some time later; then the programs would still run, and refuse, without an
/// enrolment to go by.
pub fn detach(folder: &Path, hooks: &[Hook]) -> Result<(), RedirectError> {
    for Hook { name, .. } in hooks.iter().rev() {
        for path in [folder.join(format!("{name}{NEW}")), folder.join(name)] {
            if path.exists() {
                detach_link(&path).map_err(|source| RedirectError::Pin { path: path.clone(), source })?;
            }
            remove_if_there(&path, |path| fs::remove_file(path))?;
        }
    }
    remove_folder(folder)
}

/// Ends swaps that a killed agent had begun: a `_new` without its old link is the only one, and must not be removed.
fn settle(folder: &Path, hooks: impl IntoIterator<Item = Hook>) -> Result<(), RedirectError> {
    for Hook { name, .. } in hooks {
        let (old, new) = (folder.join(name), folder.join(format!("{name}{NEW}")));
        if new.exists() {
            replace(&old, &new)?;
        }
    }
    Ok(())
}

fn replace(old: &Path, new: &Path) -> Result<(), RedirectError> {
    remove_if_there(old, |path| fs::remove_file(path))?;
    fs::rename(new, old).map_err(|source| RedirectError::Pin { path: new.into(), source })
}

/// Links made this way are "multi" whatever the mode says; `AllowMultiple` is refused with EINVAL by Linux 6.18.
fn attach_one(object: &mut Ebpf, name: &str, cgroup: &Cgroup) -> Result<FdLink, ProgramError> {
    let (folder, mode) = (&cgroup.folder, CgroupAttachMode::Single);
    let link: Result<FdLink, _> = match object.program_mut(name) {
        Some(Program::CgroupSockAddr(program)) => {
            let id = program.attach(folder, mode)?;
            program.take_link(id)?.try_into()
        }
        Some(Program::CgroupSock(program)) => {
            let id = program.attach(folder, mode)?;
            program.take_link(id)?.try_into()
        }
        Some(Program::CgroupSkb(program)) => {
            let id = program.attach(folder, CgroupSkbAttachType::Egress, mode)?;
            program.take_link(id)?.try_into()
        }
        Some(Program::SockOps(program)) => {
            let id = program.attach(folder, mode)?;
            program.take_link(id)?.try_into()
        }
        _ => return Err(ProgramError::NotLoaded),
    };
    // Kernels before 5.7 have no links: then nothing can be pinned, and nothing must be attached.
    link.map_err(|_| ProgramError::NotAttached)
}
