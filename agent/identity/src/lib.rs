//! Who calls, and who we are towards them: workload attestation, our certificate authority, TLS configurations.
//!
//! - [`Authority`] makes a CA in memory and a server configuration for each host that a workload calls.
//! - [`upstream_config`] is how we call the real host: always verified, never resumed.
//! - [`Attestor`] turns the kernel's record of a connection into a [`Process`](callgate_model::Process) with the
//!   digest of its executable, and the programs that started it.
//! - [`callers::Issuers`] turns the token of a request into the [`Caller`](callgate_model::Caller) on whose behalf it is.
//!
//! This crate never decides, and never dials but for the keys of configured issuers.

mod attest;
mod authority;
pub mod callers;
mod error;
mod generations;
mod key;
mod provider;
mod roots;
mod truststore;
mod upstream;

pub use attest::{Attestor, Executions, uid_of};
pub use authority::Authority;
pub use error::IdentityError;
pub use upstream::upstream_config;
