//! Integer types that the kernel programs and the agent share.
//!
//! Every type here crosses the boundary through a pinned map or the ring buffer, so its layout is part of
//! [`SCHEMA`]: integers and arrays alone, explicit padding, a size assertion, and a line on who writes and who reads.
//! Nothing here does anything; the programs are in `ebpf/redirect`, their owner is `agent/redirect`.
#![no_std]

mod address;
mod event;
mod maps;
mod origin;
mod refusal;
mod stats;

pub use address::Address;
pub use event::Event;
pub use maps::{
    Enrolment, FAIL_CLOSED, FAIL_OBSERVE, FAIL_OPEN, MODE_ENFORCE, MODE_EXEMPT, MODE_OBSERVE, MODE_STRICT, Marker,
    Past, Ports, Settings, Window,
};
pub use origin::{Executed, OriginRecord, Phase, SocketState, TupleKey};
pub use refusal::Refusal;
pub use stats::{STATS, Stat};

/// Version of the layout of all maps together; part of the path of the pins.
///
/// Raise it when any type of this crate, or the meaning of a map, changes: a newer agent then never reads an older
/// agent's maps, and enrols beside it instead.
pub const SCHEMA: u32 = 2;

/// How many levels of the cgroup tree below its root the programs look at. Unit: levels.
/// Source: Kubernetes with systemd in a nested container runtime reaches 11; the verifier would accept more.
pub const CGROUP_DEPTH_MAX: u32 = 24;
