//! User half of the kernel redirect: load, attach, pin, listeners per network namespace, original destination.
//!
//! [`Redirect`] owns the kernel programs of one instance (the agent, or one `callgate run`). Its maps and links are
//! pinned, so that enforcement outlives the process: with no agent, connections are refused. Only
//! [`Redirect::unenrol`], [`Redirect::teardown`], [`end_enrolment`] and [`remove_pins`] take enforcement away;
//! [`Redirect::attest`] puts back what others took. It never decides by policy and never reads payload. The programs
//! themselves are in `ebpf/redirect`.
//!
//! Datagrams to port 53 of any address come to [`Listeners::dns4`] and [`Listeners::dns6`], and [`Redirect::asker`]
//! tells who sent one. The workload sees the answer come from the address that it asked.
//!
//! The order that leaves no gap: [`Redirect::load`], [`Redirect::listen`] for the namespaces to come, accept loops,
//! [`Redirect::beat`], and then [`Redirect::enrol`]. The kernel refuses whatever comes before its turn:
//!
//! | refused | errno |
//! | --- | --- |
//! | no heartbeat for [`Config::stale_after`] | `EHOSTUNREACH` |
//! | no living listener in the socket's namespace | `ECONNREFUSED` |
//! | UDP other than DNS, DNS over TLS (TCP port 853) | `EACCES` |
//! | `socket()` of anything but TCP and UDP | `EPROTONOSUPPORT` |
//! | our own listener as destination | `EADDRNOTAVAIL` |
//! | a task outside of the enrolled cgroup using a socket from inside | `EPERM` |
//! | below [`Redirect::guard`], and neither enrolled nor exempt | `ENETUNREACH` |
//!
//! Of an enrolment that fails open, TCP and DNS go where they were going instead, once the heartbeat is stale:
//! [`Redirect::take_past`] tells how much of it did.
#![allow(
    unsafe_code,
    reason = "bpf(2), setns(2) and the ring buffer have no safe interface; each block says why it holds"
)]

mod askers;
mod attest;
mod cgroup;
mod config;
mod error;
mod events;
mod links;
mod listen;
mod logs;
mod maps;
mod netns;
mod object;
mod origins;
mod past;
mod pins;
pub mod probe;
mod redirect;
mod stats;
mod strict;
mod syscall;

pub use attest::{Attached, ENTRY, Repair};
pub use callgate_ebpf_common::{Refusal, SCHEMA};
pub use config::{Config, LogLevel, UnknownLogLevel};
pub use error::RedirectError;
pub use events::Events;
pub use listen::{Bound, Listeners, NetnsSockets};
pub use logs::KernelLogs;
pub use netns::NetnsRef;
pub use past::PastTheGate;
pub use pins::{end_enrolment, instances, remove_idle_pins, remove_pins};
pub use redirect::Redirect;
pub use stats::Stats;
