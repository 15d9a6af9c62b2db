//! What can go wrong, each with the next step.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why something of the warden did not work.
#[derive(Debug, Error)]
pub enum WardenError {
    /// A file or folder on bpffs.
    #[error("cannot work with the pin `{path}`: {source}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The enforcement root.
    #[error("cannot open the enforcement root `{path}`: {source}")]
    Root {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel did not take a program.
    #[error("the kernel did not take `{what}` of the warden ({source}): run `callgate doctor`")]
    Load {
        /// The part or program.
        what: &'static str,
        /// Why; the verifier's log is at debug level.
        source: libbpf_rs::Error,
    },
    /// A map could not be read or written.
    #[error("kernel map `{map}`: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// Why.
        source: libbpf_rs::Error,
    },
    /// Sockets cannot be looked at, as the iterators did not load.
    #[error("this kernel shows no sockets to the warden: those older than an enrolment stay as they are")]
    Blind,
    /// Reading an iterator.
    #[error("cannot read the iterator `{iterator}`: {source}")]
    Iterator {
        /// Its program.
        iterator: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A network namespace cannot be entered.
    #[error("network namespace {netns}: {source}")]
    Netns {
        /// Its inode, or the file that names it.
        netns: String,
        /// Why.
        source: io::Error,
    },
    /// The thread that looks cannot be started.
    #[error("cannot start the warden's thread: {0}")]
    Thread(#[source] io::Error),
}
