//! What can go wrong, each with the next step.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use callgate_model::CgroupId;
use thiserror::Error;

/// Why something with the kernel did not work.
#[derive(Debug, Error)]
pub enum RedirectError {
    /// Not usable as a name in a path of bpffs.
    #[error("`{0}` is not the name of an instance: 1 to 64 of `a-z 0-9 - _`")]
    Instance(String),
    /// The maps' file system is not there and cannot be mounted.
    #[error("no bpffs at `{path}` ({source}): run as root, or mount it with `mount -t bpf bpf {path}`")]
    Bpffs {
        /// Where it should be.
        path: PathBuf,
        /// Why it is not.
        source: io::Error,
    },
    /// Another process has loaded this instance and lives.
    #[error("instance `{0}` is in use by another process: stop that one, or choose another instance")]
    InUse(String),
    /// A file or folder on bpffs.
    #[error("cannot work with the pin `{path}`: {source}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pinned maps have another layout than this build's.
    #[error(
        "pinned map `{map}` of instance `{instance}` is of another build: end its enrolments (`callgate unenroll`), then remove its pins"
    )]
    Layout {
        /// Name of the map.
        map: &'static str,
        /// Whose pins.
        instance: String,
    },
    /// The object with all programs was refused.
    #[error("the kernel took none of the programs ({0}): run `callgate doctor`")]
    Object(#[source] Box<EbpfError>),
    /// One program was refused.
    #[error("the kernel did not take program `{program}` ({}): run `callgate doctor`", brief(source))]
    Program {
        /// Name of the program.
        program: &'static str,
        /// Why; with the whole of the verifier's log.
        source: Box<ProgramError>,
    },
    /// A map could not be read or written.
    #[error("kernel map `{map}`: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// The cgroup cannot be opened.
    #[error("cannot open cgroup `{path}`: {source}")]
    Cgroup {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a folder of cgroup v2.
    #[error("`{0}` is not in a cgroup v2 mount: `callgate doctor` shows where that is")]
    NotCgroup2(PathBuf),
    /// Everything on the host would be enrolled.
    #[error("`{0}` is the root of the cgroup v2 mount: enrol a cgroup below it")]
    RootCgroup(PathBuf),
    /// The agent would redirect itself.
    #[error("`{0}` holds this process itself: start it outside of the cgroup that it enrols")]
    OwnCgroup(PathBuf),
    /// Two agents would redirect to each other.
    #[error("`{path}` is enrolled already, by itself or within a cgroup above it, by instance `{instance}`")]
    Nested {
        /// The cgroup asked for.
        path: PathBuf,
        /// Who enrolled it.
        instance: String,
    },
    /// Not one of ours.
    #[error("cgroup {0} is not enrolled: `callgate workloads` lists those that are")]
    NotEnrolled(CgroupId),
    /// A network namespace cannot be entered, or nothing can be opened there.
    #[error("network namespace `{netns}`: {source}")]
    Netns {
        /// As it was named.
        netns: String,
        /// Why.
        source: io::Error,
    },
    /// The ring buffer cannot be waited for.
    #[error("cannot wait for the kernel's events: {0}")]
    Events(#[source] io::Error),
}

/// The end of the verifier's log is where it says what is wrong; the whole is thousands of lines.
fn brief(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return error.to_string() };
    let log = verifier_log.to_string();
    let end: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let end = end.get(end.len().saturating_sub(5)..).unwrap_or_default().join("; ");
    if end.is_empty() { io_error.to_string() } else { format!("{io_error}; the verifier says: {end}") }
}
