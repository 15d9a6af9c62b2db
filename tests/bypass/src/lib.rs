//! The bypass exam: everything a hostile workload could try to reach something without passing the gate, tried.
//!
//! Two programs. `callgate-hostile` is born in an enrolled cgroup, as a container's or a user's process, and tries one
//! row of [`VECTORS`]. `callgate-bypass` sets the scene (namespaces, an agent, canaries, helpers outside), has every row
//! tried outside the enrolled cgroup first (a vector that reaches nothing there proves nothing) and then inside, and
//! tells from what arrived at the canaries what came of it. Nothing here is part of Callgate, nothing of it is trusted.
//! Start with [`vectors`] (what is tried) and [`exam`] (how it is judged); [`outside`] lists what
//! gets through for who is root of the host, which is outside of the threat model.

pub mod exam;
pub mod helper;
pub mod hostile;
pub mod order;
pub mod outside;
pub mod sys;
pub mod vector;
pub mod vectors;

pub use order::{Order, Seen};
pub use vector::{Said, Vector, Way};
pub use vectors::VECTORS;
