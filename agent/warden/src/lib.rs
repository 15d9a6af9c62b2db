//! User half of the warden: what the hooks of the redirect cannot see, because it was there before or came from outside.
//!
//! [`Warden`] owns the kernel programs of `ebpf/warden` for one instance. They do five things:
//!
//! | part | what |
//! | --- | --- |
//! | `sockets` | finds and destroys sockets that are older than an enrolment, or were made elsewhere and are held inside |
//! | `guard` | refuses `connect()` and `sendmsg()` of an enrolled task on a socket of another cgroup |
//! | `arrivals` | tells at once when an enrolled task may have been given a socket, so that `sockets` looks |
//! | `exec` | notes which program a task executes as it connects, and which program executed which ([`Lineages`]) |
//! | `calls`, `lsm` | families of sockets that have no hook, netlink beyond routes: refused by LSM, or else their task is ended |
//!
//! It decides nothing by policy, and knows the enrolments by the map of `callgate-redirect` alone, found by its pin.
//! What does not load on a kernel is told ([`Warden::features`], [`probe`]); the other parts work without it.
//! Links are pinned beside those of the redirect: guard and calls hold while no agent lives. Looking for sockets is
//! this process's work, and rests with it.
#![allow(
    unsafe_code,
    reason = "bpf(2), setns(2), netlink and pidfd_getfd(2) have no safe interface; each block says why it holds"
)]

mod config;
mod diag;
mod error;
mod foreign;
mod held;
mod kernel;
mod lineage;
mod look;
mod netns;
mod older;
mod parts;
mod pins;
pub mod probe;
mod sockets;
mod told;
mod warden;

pub use config::{Answer, Config, Means, Older};
pub use error::WardenError;
pub use foreign::Swept;
pub use lineage::Lineages;
pub use older::Severed;
pub use parts::Feature;
pub use warden::{Events, Warden};
