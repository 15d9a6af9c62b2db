//! TLS between agent and collector: certificates from files, their rotation without a restart, and whom they name.
//!
//! [`ClientTls`] is the agent's (and the command line's) side, [`ServerTls`] the collector's. Both read PEM files
//! ([`TlsFiles`]), look at them each second, and swap the whole configuration when they changed: a new connection uses
//! the new one, an open one goes on with what it began with. What cannot be used leaves the last good one in place and
//! shows as a fault ([`Condition`]). TLS 1.3 and HTTP/2 alone, both sides show a certificate, nothing is resumed: each
//! connection is verified anew. [`Client`] says what a client's certificate lets it do. [`Authority`] makes certificates
//! and signs requests; [`Issuing`] is one in files, for first steps and tests.
//!
//! Never decides where plain text may be spoken: that is with the addresses, in uplink and collector.

mod authority;
mod certificate;
mod client;
mod config;
mod endpoint;
mod error;
mod files;
mod issue;
mod rotation;
mod server;

pub use authority::{Authority, Issued, request};
pub use certificate::{Certificate, Client};
pub use client::{ClientStream, ClientTls};
pub use endpoint::TlsEndpoint;
pub use error::TlsError;
pub use files::TlsFiles;
pub use issue::{Issuing, Role, write};
pub use rotation::{Condition, days_until};
pub use server::{HandshakeError, ServerStream, ServerTls};
