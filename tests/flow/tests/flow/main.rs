//! Whole calls through several crates, on loopback, without privileges.
//!
//! One binary for all (linking is the dear part); one file a subject.

mod calls;
mod coded;
mod dns;
mod gate;
mod grpc;
mod h2;
mod harness;
mod hidden;
mod orders;
mod rules;
mod traces;
mod unopened;
