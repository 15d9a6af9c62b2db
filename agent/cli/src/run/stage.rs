//! From a fresh, single-threaded process to CMD: the hidden command `callgate __stage`.
//!
//! The order matters. The cgroup comes first, before any socket could be made; mounts need privileges, so they come
//! before these are given up; the seccomp filter comes last. Whatever fails is reported to `run` by the
//! [channel](super::Channel), and CMD is not started: there is no half-locked CMD.

mod descriptors;
mod domain;
mod filter;
mod hide;
mod kernel_files;
mod mirror;
mod mounts;
mod privileges;
mod sockets;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use callgate_model::causes;

pub use domain::landlock_scopes;

use super::channel::{StageEnd, code};
use super::sandbox::{Order, Sandbox};

/// The hidden subcommand. Call [`main`] for it before anything starts a thread.
pub const SUBCOMMAND: &str = "__stage";

/// Locks this process in and becomes CMD; returns only when that failed.
///
/// `arguments` is what follows [`SUBCOMMAND`].
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let (channel, order) = match StageEnd::open(arguments) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("callgate: {}", causes(error.as_ref()));
            return ExitCode::from(code::STAGE_FAILED);
        }
    };
    let failed = |code, message| {
        channel.report(code, message);
        ExitCode::from(code)
    };
    if let Err(error) = descriptors::close_all_but(channel.descriptor()).and_then(|()| lock_in(&order.sandbox)) {
        return failed(code::STAGE_FAILED, format!("CMD was not started: {}", causes(error.as_ref())));
    }
    let error = execute(&order);
    let program = order.command.first().map(PathBuf::from).unwrap_or_default();
    let name = program.display();
    if error.kind() == io::ErrorKind::NotFound || !is_anywhere(&program) {
        return failed(code::NOT_FOUND, format!("`{name}`: command not found"));
    }
    failed(code::NOT_EXECUTABLE, format!("`{name}` cannot be executed: {error}"))
}

/// Whether a file of that name is there, for a bare name in `PATH`: one unreadable directory in `PATH` makes the
/// search end in "permission denied" although no such command exists.
fn is_anywhere(program: &Path) -> bool {
    if program.components().count() != 1 || program.is_absolute() {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

/// Everything but the exec.
fn lock_in(sandbox: &Sandbox) -> Result<()> {
    enter_cgroup(sandbox)?;
    let here = std::env::current_dir().ok();
    mounts::private_namespace()?;
    kernel_files::protect(sandbox.invoker.uid == 0)?;
    hide::apply(sandbox)?;
    reenter(here)?;
    if sandbox.landlock {
        domain::enter()?;
    }
    privileges::drop_to(&sandbox.invoker)?;
    if !sandbox.allow_setuid {
        rustix::thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
        filter::apply()?;
    }
    Ok(())
}

/// Moves this process, which never had a socket, into the enrolled cgroup: all that CMD does happens inside.
fn enter_cgroup(sandbox: &Sandbox) -> Result<()> {
    let procs = sandbox.cgroup.join("cgroup.procs");
    std::fs::write(&procs, "0").with_context(|| format!("cannot enter the cgroup by `{}`", procs.display()))
}

/// Walks to the working directory again: the one inherited would lead below what was hidden over it.
fn reenter(here: Option<PathBuf>) -> Result<()> {
    let Some(here) = here else {
        return std::env::set_current_dir("/").context("cannot change to `/`");
    };
    std::env::set_current_dir(&here).with_context(|| {
        format!("the working directory `{}` is hidden: start elsewhere or use `--expose`", here.display())
    })
}

fn execute(order: &Order) -> io::Error {
    let Some((program, arguments)) = order.command.split_first() else {
        return io::Error::from(io::ErrorKind::NotFound);
    };
    let mut command = Command::new(program);
    command.args(arguments);
    order.unset.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.envs(order.set.iter().map(|(name, value)| (name, value)));
    command.exec()
}
