//! What the agent does where it runs in a container itself.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Of the node's first process, which a container with `hostPID` sees.
const NODES: &str = "/proc/1/ns/cgroup";
const OURS: &str = "/proc/self/ns/cgroup";

/// Enters the cgroup namespace of the node, for this thread and those that it starts: from within a container's own the
/// cgroups of other processes read as `/../..`, and say nothing.
///
/// # Errors
/// If it is another one and cannot be entered.
pub fn see_the_nodes_cgroups() -> Result<()> {
    let inode = |path: &str| Path::new(path).metadata().map(|status| status.ino());
    // A kernel without such namespaces has one view.
    let (Ok(ours), Ok(nodes)) = (inode(OURS), inode(NODES)) else { return Ok(()) };
    if ours == nodes {
        return Ok(());
    }
    let nodes = File::open(NODES).with_context(|| format!("cannot open `{NODES}`"))?;
    move_into_link_name_space(nodes.as_fd(), Some(LinkNameSpaceType::ControlGroup))
        .context("cannot enter the node's cgroup namespace: CAP_SYS_ADMIN is missing")
}
