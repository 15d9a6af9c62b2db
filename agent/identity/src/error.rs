//! The one error of this crate.

use std::path::PathBuf;

use thiserror::Error;

/// Why an identity, a certificate or a TLS configuration could not be made.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file that keeps the CA's key.
    #[error("the CA's key in `{path}` cannot be used: {detail}; remove the file to have a new CA made")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The host is neither a DNS name nor an address.
    #[error("no certificate for `{0}`: it is neither a DNS name nor an IP address")]
    Host(String),
    /// Certificate generation failed; never caused by what a workload sends.
    #[error("could not make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A leaf could not be made or configured; never caused by what a workload sends.
    #[error("could not make a leaf certificate: {0}")]
    Leaf(String),
    /// The cryptographic library refused; never caused by what a workload sends.
    #[error("the cryptographic library failed at {0}")]
    Crypto(&'static str),
    /// rustls refused a configuration.
    #[error("could not make a TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    /// A file of extra roots could not be read or holds something else than certificates.
    #[error("`{}` in `upstream_ca` is not a PEM file of CA certificates: {detail}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// There is nothing to verify an upstream against.
    #[error("this system has no CA certificates ({0}): install `ca-certificates` or name files in `upstream_ca`")]
    NoRoots(String),
    /// The PKCS#12 trust store could not be written.
    #[error("could not make the trust store for Java: {0}")]
    TrustStore(String),
}
