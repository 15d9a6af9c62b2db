//! What the kernel attests of one connection, captured at `connect()`.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{CgroupId, NetnsCookie};

/// A reading of `CLOCK_MONOTONIC`, as the kernel programs stamp it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Monotonic(pub Duration);

/// Where a redirected connection was going, and who opened it.
///
/// Made from the kernel's record alone: nothing in it comes from bytes that the workload sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The address that the workload dialled. A v4-mapped address arrives as plain v4.
    pub destination: SocketAddr,
    /// The enrolled cgroup whose hooks ran: the key into the roster.
    pub enrolled: CgroupId,
    /// The task's own cgroup: `enrolled` or one below it.
    pub cgroup: CgroupId,
    /// The network namespace of the socket.
    pub netns: NetnsCookie,
    /// Process id (thread group) in the initial pid namespace.
    pub pid: u32,
    /// Effective uid at `connect()`, in the initial user namespace.
    pub uid: u32,
    /// Effective gid at `connect()`, in the initial user namespace.
    pub gid: u32,
    /// When `connect()` ran. A process that started later than this is not the one that connected.
    pub connected_at: Monotonic,
    /// What the process executed at `connect()`; none when the kernel did not note it.
    pub executed: Option<Executed>,
}

/// One execution of a program, as the kernel noted it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executed {
    /// When the process started, since boot.
    pub start: Duration,
    /// Device number of the executable's file system, as the kernel has it inside.
    pub device: u64,
    /// Inode of the executable.
    pub inode: u64,
}
