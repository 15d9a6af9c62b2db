//! Keeps what is in this process's memory, the CA's key first of all, out of files and of other processes' reach.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dump of this process, and no look into it without `CAP_SYS_PTRACE`.
///
/// Ends with exec: a program that this process starts is as dumpable as any.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_memory_private() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// No core dumps by limit either, for a process that starts no other: children would inherit it.
///
/// # Errors
/// When the kernel refuses.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}
