//! What a program reports to the agent.

use crate::Address;

/// A refusal, or what would have been one in observe mode. Ring buffer `EVENTS`: programs write, the agent reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// When, `CLOCK_MONOTONIC`. Unit: nanoseconds.
    pub at_ns: u64,
    /// Enrolled cgroup; 0 when unknown.
    pub enrolled: u64,
    /// The task's own cgroup; 0 when the program ran outside of a task.
    pub cgroup: u64,
    /// Cookie of the network namespace; 0 when unknown.
    pub netns: u64,
    /// Where to; all zero when there was none.
    pub destination: Address,
    /// A [`Refusal`](crate::Refusal).
    pub cause: u32,
    /// 1: let through, as the enrolment observes.
    pub observed: u32,
    /// Process (thread group) in the initial pid namespace; 0 when the program ran outside of a task.
    pub pid: u32,
    /// Its effective uid.
    pub uid: u32,
    /// Address family of the socket (`AF_…`).
    pub family: u32,
    /// Type of the socket (`SOCK_…`).
    pub socket_type: u32,
    /// Protocol of the socket (`IPPROTO_…`).
    pub protocol: u32,
    /// Port, in host order; 0 when there was none.
    pub port: u32,
}

const _: () = assert!(size_of::<Event>() == 80);
