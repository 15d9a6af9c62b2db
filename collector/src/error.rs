//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use callgate_proto::ProtoError;
use callgate_seal::Fault;
use thiserror::Error;

/// Why the store refused or failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or directory of the store cannot be used.
    #[error("store `{path}`: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no store to read.
    #[error(
        "no store in `{0}`: nothing was recorded there yet, or the path is another (`--store DIR`, `--collector URL`)"
    )]
    Absent(PathBuf),
    /// SQLite failed.
    #[error("store `{path}`: {source}")]
    Sqlite {
        /// Database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file was written by another version.
    #[error(
        "store `{path}` has schema {found}, this version reads {expected}: use the version that wrote it, or a directory of its own"
    )]
    Schema {
        /// Database file.
        path: PathBuf,
        /// Schema number in the file.
        found: i64,
        /// Schema number of this version.
        expected: i64,
    },
    /// Records of a batch belong to two streams, or the name is not one.
    #[error("`{0}` is not the stream of this batch")]
    Stream(String),
    /// A record came again with another content.
    #[error(
        "stream `{stream}`: record {seq} is stored already with another hash; two writers share one stream, or one was altered"
    )]
    Conflict {
        /// Stream.
        stream: String,
        /// The record.
        seq: u64,
    },
    /// A record does not follow the one before it.
    #[error("stream `{stream}`: {source}")]
    Seal {
        /// Stream.
        stream: String,
        /// What is wrong.
        source: Fault,
    },
    /// A sealed body that this version cannot read.
    #[error("stream `{stream}`, record {seq}: {source}; upgrade the collector before its agents")]
    Body {
        /// Stream.
        stream: String,
        /// The record.
        seq: u64,
        /// What is wrong.
        source: ProtoError,
    },
    /// A number that does not fit into the database.
    #[error("stream `{0}`: a sequence number beyond 2^63")]
    Overflow(String),
    /// A cursor that this store did not give.
    #[error("`{0}` is not a cursor of this store")]
    Cursor(String),
}

impl StoreError {
    /// Whether the sender is at fault: sending the same again will fail again.
    #[must_use]
    pub fn is_chain(&self) -> bool {
        matches!(
            self,
            Self::Stream(_) | Self::Conflict { .. } | Self::Seal { .. } | Self::Body { .. } | Self::Overflow(_)
        )
    }
}

/// Adds the file to an error of SQLite.
pub(crate) trait At<T> {
    /// Names the file.
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T> At<T> for Result<T, rusqlite::Error> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sqlite { path: path.into(), source })
    }
}

impl<T> At<T> for Result<T, io::Error> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { path: path.into(), source })
    }
}
