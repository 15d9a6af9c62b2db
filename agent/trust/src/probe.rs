//! Whether trust can be mounted on this kernel, found out by doing it: for `callgate doctor`.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::TrustError;
use crate::mount::{attach, detached, on_own_thread};
use crate::tree::Node;

/// Makes two mounts in a namespace that ends with this call, and moves one over the other. `scratch` is any directory.
///
/// # Errors
/// [`TrustError::Mount`] with the step that failed.
pub fn probe(scratch: &Path) -> Result<String, TrustError> {
    let nodes = [Node::File(b"new".to_vec(), None), Node::File(b"old".to_vec(), None)];
    on_own_thread(|| {
        let trees = detached(scratch, nodes.iter())?;
        let (path, failed) = (scratch.join("1"), |source| TrustError::Mount { what: "read what was mounted", source });
        let target = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        if let Some(tree) = trees.first() {
            attach(tree, &target)?;
        }
        match std::fs::read(&path).map_err(failed)?.as_slice() {
            b"new" => Ok("mounts can be made".into()),
            _ => Err(failed(std::io::Error::other("it shows the old content"))),
        }
    })
}
