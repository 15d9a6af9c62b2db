//! How the proxy learns where a redirected connection was going, and who opened it.

use crate::Address;

/// How a redirected connection, or a question of DNS, is found from its accepting end. Key of maps `ORIGINS`, `ASKERS`.
///
/// The programs write (sockops before the SYN leaves, egress before a datagram does), the agent reads: a peer address
/// in one network namespace, as the accepting socket shows it. The listener's own address is left out: there is one
/// per namespace and family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TupleKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Source address.
    pub source: Address,
    /// Source port, in host order.
    pub port: u32,
    /// Zero.
    pub padding: u32,
}

/// What `connect()` or `sendmsg()` knew. Value of maps `ORIGINS` and `ASKERS`, and part of [`SocketState`].
///
/// connect4/6 and sendmsg4/6 write, sockops and egress copy it into the maps, the agent takes it from there;
/// getpeername4/6 and recvmsg4/6 read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginRecord {
    /// Address dialled.
    pub destination: Address,
    /// Deepest enrolled cgroup above the task: key of map `ENROLMENTS`.
    pub enrolled: u64,
    /// The task's own cgroup.
    pub cgroup: u64,
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Cookie of the socket.
    pub socket: u64,
    /// When `connect()` or `sendmsg()` ran, `CLOCK_MONOTONIC`. Unit: nanoseconds.
    pub connected_ns: u64,
    /// When it was put into a map, `CLOCK_MONOTONIC`. Unit: nanoseconds.
    pub stored_ns: u64,
    /// Process (thread group) in the initial pid namespace.
    pub pid: u32,
    /// Effective uid in the initial user namespace.
    pub uid: u32,
    /// Effective gid in the initial user namespace.
    pub gid: u32,
    /// Port dialled, in host order.
    pub port: u16,
    /// Not 0: another socket's record with the same key was still waiting, so this one may not be believed.
    pub contested: u16,
    /// How many datagrams the record stands for; 0 for a connection.
    pub pending: u32,
    /// Zero.
    pub padding: u32,
    /// What the task executed then.
    pub executed: Executed,
}

/// What a task executes as it connects or sends: the warden's programs write. Must be `struct executed` of ebpf/warden.
///
/// All zero: not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// When the process started, since boot. Unit: nanoseconds.
    pub start_ns: u64,
    /// Inode of the executable.
    pub inode: u64,
    /// Device of its file system, as the kernel has it: 12 bits of major number, 20 of minor.
    pub device: u32,
    /// Process (thread group) in the initial pid namespace.
    pub pid: u32,
}

/// What is remembered with a client's socket. Map `SOCKETS` (socket storage): programs alone read and write. Must be
/// `struct socket_state` of ebpf/warden.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketState {
    /// Of the last `connect()`, or datagram of DNS, that was redirected.
    pub origin: OriginRecord,
    /// Where a datagram socket was connected to, as the application asked for it.
    pub peer: Address,
    /// Its port, in host order.
    pub peer_port: u32,
    /// A [`Phase`].
    pub phase: u32,
}

/// How far a client's socket has come.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was allowed yet.
    New = 0,
    /// connect4/6 rewrote the destination; the proxy cannot know of it yet.
    Rewritten = 1,
    /// The record is in `ORIGINS`: packets may leave.
    Recorded = 2,
    /// A datagram socket that asks our resolver: egress lets nothing else of it leave.
    Dns = 3,
    /// Let through and reported, as its enrolment observes: egress need not report each packet of it.
    Observed = 4,
    /// connect4/6 let it go where it was going, as the heartbeat is stale and its enrolment fails open; not counted yet.
    Past = 5,
    /// The same, counted: packets may leave.
    PastCounted = 6,
    /// A datagram socket that asks the resolver of its choice, as its enrolment fails open: egress lets questions leave
    /// while the heartbeat is stale.
    PastDns = 7,
}

const _: () = assert!(size_of::<TupleKey>() == 32);
const _: () = assert!(size_of::<Executed>() == 24);
const _: () = assert!(size_of::<OriginRecord>() == 112);
const _: () = assert!(size_of::<SocketState>() == 136);

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya's marker for plain data")]
mod user {
    // SAFETY: integers alone, repr(C), padding explicit.
    unsafe impl aya::Pod for super::TupleKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::OriginRecord {}
}
