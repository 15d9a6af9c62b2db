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
use callgate_model::CgroupId;

use crate::RedirectError;
use crate::cgroup::Cgroup;
use crate::pins::{Pins, remove_folder, remove_if_there};
use crate::syscall::detach_link;

/// Every program, in the order of attaching; detached in reverse.
///
/// `tcp_states` is there before anything can be redirected, and `egress` comes last: it drops the SYN of whatever was
/// not redirected.
pub const PROGRAMS: [&str; 11] = [
    "tcp_states",
    "getpeername4",
    "getpeername6",
    "recvmsg4",
    "recvmsg6",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "create",
    "egress",
];

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

/// Attaches and pins every program, replacing what an earlier agent had pinned for this cgroup.
pub fn attach(object: &mut Ebpf, pins: &Pins, cgroup: &Cgroup) -> Result<(), RedirectError> {
    let folder = pins.links(cgroup.id);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => settle(&folder)?,
        made => made.map_err(|source| RedirectError::Pin { path: folder.clone(), source })?,
    }
    for name in PROGRAMS {
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
pub fn detach(pins: &Pins, cgroup: CgroupId) -> Result<(), RedirectError> {
    let folder = pins.links(cgroup);
    for name in PROGRAMS.iter().rev() {
        for path in [folder.join(format!("{name}{NEW}")), folder.join(name)] {
            if path.exists() {
                detach_link(&path).map_err(|source| RedirectError::Pin { path: path.clone(), source })?;
            }
            remove_if_there(&path, |path| fs::remove_file(path))?;
        }
    }
    remove_folder(&folder)
}

/// Ends swaps that a killed agent had begun: a `_new` without its old link is the only one, and must not be removed.
fn settle(folder: &Path) -> Result<(), RedirectError> {
    for name in PROGRAMS {
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
