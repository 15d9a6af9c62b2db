//! Errors of this crate.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Trust cannot be delivered, or taken back.
#[derive(Debug, Error)]
pub enum TrustError {
    /// It is not a CA's certificate.
    #[error("no certificate of a CA: {0}")]
    Ca(String),
    /// A file of the node cannot be written.
    #[error("cannot write `{}`", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process is gone, or may not be looked at.
    #[error("process {pid} cannot be looked at")]
    Process {
        /// Which.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// A mount there would be seen outside of the workload.
    #[error(
        "process {0} lives in the mount namespace, or on the root directory, of the host or of the agent: nothing is \
         mounted there"
    )]
    OwnNamespace(u32),
    /// It was no longer wanted when it was done, and is undone.
    #[error("it is no longer asked for")]
    Unwanted,
    /// A step in the workload's namespace failed.
    #[error("cannot {what}")]
    Mount {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl TrustError {
    pub(crate) fn mount(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Mount { what, source: errno.into() }
    }
}
