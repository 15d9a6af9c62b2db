//! Who calls, and who we are towards them: workload attestation, our certificate authority, TLS configurations.
//!
//! - [`Authority`] makes a CA in memory and a server configuration for each host that a workload calls.
//! - [`upstream_config`] is how we call the real host: always verified, never resumed.
//! - [`Attestor`] turns the kernel's record of a connection into a [`Process`](callgate_model::Process) with the
//!   digest of its executable.
//!
//! This crate never dials, never decides, and never writes a key to disk.

mod attest;
mod authority;
mod error;
mod generations;
mod key;
mod provider;
mod roots;
mod truststore;
mod upstream;

pub use attest::{Attestor, uid_of};
pub use authority::Authority;
pub use error::IdentityError;
pub use upstream::upstream_config;
