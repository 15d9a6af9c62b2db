//! Why something could not be recorded or read back.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use callgate_model::Reason;
use thiserror::Error;

/// Why something could not be recorded or read back.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The spool's own bound is reached. Passes when the collector acknowledges.
    #[error("the audit spool is full ({max_bytes} bytes): is the collector reachable?")]
    Full {
        /// The bound. Unit: bytes.
        max_bytes: u64,
    },
    /// The disk is full. Passes when there is room.
    #[error("the disk of the audit spool is full: make room in its file system")]
    DiskFull,
    /// The disk failed, or a bug of ours did; the spool refuses until the agent is restarted.
    #[error("the audit spool failed and refuses until the agent is restarted: {cause}")]
    Failed {
        /// What happened first.
        cause: Arc<str>,
    },
    /// Another process has the spool open.
    #[error("the audit spool `{}` is in use by another process", dir.display())]
    Locked {
        /// Its directory.
        dir: PathBuf,
    },
    /// What is on disk is not what was written.
    #[error("the audit spool is damaged: `{}`: {detail}; keep its directory as evidence and start a stream of another name", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The directory holds another stream.
    #[error("the audit spool holds stream `{found}`, not `{expected}`")]
    WrongStream {
        /// The stream asked for.
        expected: String,
        /// The one that is there.
        found: String,
    },
    /// The stream's name cannot be one.
    #[error("`{0}` is no name for a stream: expected printable ASCII without spaces, at most 256 characters")]
    BadStream(String),
    /// A single record larger than a spool takes.
    #[error("a record of {bytes} bytes is larger than a record may be")]
    TooLarge {
        /// Its size. Unit: bytes.
        bytes: usize,
    },
    /// Records that were freed already, or never written, are asked for or acknowledged.
    #[error("record {seq} is not in the audit spool, which holds {first} to {last}")]
    NotHeld {
        /// The record.
        seq: u64,
        /// First that is held.
        first: u64,
        /// Last that is held and on disk.
        last: u64,
    },
    /// The file system refused.
    #[error("audit spool: cannot {}: {source}", at)]
    Io {
        /// What was tried.
        at: At,
        /// Why it failed.
        source: io::Error,
    },
}

impl AuditError {
    /// The reason that a caller, the logs and the metrics are given.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::AuditUnavailable
    }

    /// Makes the error of trying to `action` on `path`; for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { at: At { action, path }, source }
    }
}

/// What was tried, on which file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At {
    action: &'static str,
    path: PathBuf,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.action, self.path.display())
    }
}
