//! The one error of this crate.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why an enrolment, or a cgroup, could not be handled.
#[derive(Debug, Error)]
pub enum EnrollError {
    /// There is no cgroup v2 mount.
    #[error(
        "no cgroup v2 file system is mounted: boot with `systemd.unified_cgroup_hierarchy=1`, or mount `cgroup2` somewhere"
    )]
    NoCgroup2,
    /// The path is not a directory of cgroup v2.
    #[error("`{}` is not a cgroup v2 directory", .0.display())]
    NotCgroup(PathBuf),
    /// Processes stay in the cgroup although they were killed (uninterruptible sleep, as a rule).
    #[error("`{}` still holds processes after {waited_s} s; remove it later with `rmdir`", path.display())]
    Busy {
        /// The cgroup.
        path: PathBuf,
        /// How long was waited. Unit: seconds.
        waited_s: u64,
    },
    /// A file operation failed.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A state file holds something else than an enrolment.
    #[error("`{}` is not an enrolment: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A container runtime's file holds something else than was expected of it.
    #[error("`{}` is no file of a container runtime that can be read: {detail}", path.display())]
    Runtime {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The instance's name cannot be part of a file name.
    #[error("`{0}` is no name of an instance: 1 to 64 of `a-z A-Z 0-9 - _`")]
    Instance(String),
    /// The process could not be looked at: gone, most likely.
    #[error("cannot tell in which cgroup process {0} is")]
    Process(u32),
}

impl EnrollError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
