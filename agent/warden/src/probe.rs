//! What this kernel takes of the warden, found out by loading and attaching it: for `callgate doctor`.
//!
//! The programs that are tried have maps of their own, in which nobody is enrolled, and go again at once.

use std::io;

use crate::diag::Diag;
use crate::kernel::{Record, TCP};
use crate::parts::{Feature, PARTS, Part};
use crate::{WardenError, warden};

/// Tries every part. Needs root; changes nothing that stays. Programs of cgroups are loaded alone: there is no cgroup
/// to attach them to.
#[must_use]
pub fn probe_all() -> Vec<Feature> {
    let mut features: Vec<Feature> = PARTS.iter().map(|part| part.feature(&tried(part))).collect();
    // Either one does.
    let by_lsm = features.iter().any(|feature| feature.name == "lsm" && feature.ok);
    features.retain(|feature| !(by_lsm && feature.name == "calls"));
    features.push(diag());
    features
}

fn tried(part: &'static Part) -> Result<String, WardenError> {
    let loaded = part.load(None)?;
    // Iterators are attached when they are read.
    if part.name != "sockets" {
        warden::links(&loaded, None)?;
    }
    Ok(loaded.shown())
}

/// Asks for a socket that nobody has: the answer tells whether the kernel would have destroyed it.
fn diag() -> Feature {
    let nobody = Record {
        cookie: u64::MAX,
        enrolled: 0,
        cgroup: 0,
        holder: 0,
        netns_cookie: 0,
        observed: 0,
        netns: 0,
        pid: 0,
        fd: 0,
        family: libc::AF_INET.cast_unsigned(),
        socket_type: libc::SOCK_STREAM.cast_unsigned(),
        protocol: TCP,
        state: 0,
        device: 0,
        port_locked: 0,
        source_port: 1,
        destination_port: 1,
        source: [0; 4],
        destination: [0; 4],
    };
    let (ok, detail) = match Diag::open().and_then(|diag| diag.destroy(&nobody)) {
        Ok(()) => (true, "works".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (true, "works".to_owned()),
        Err(error) => (false, error.to_string()),
    };
    let degrades = "nothing, where `bpf_sock_destroy` is there; else older sockets stay";
    Feature { name: "sock_diag destroy", ok, detail, degrades }
}
