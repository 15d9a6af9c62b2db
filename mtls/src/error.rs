//! Why certificates cannot be used. No text here ever holds a part of a file: one of them is a key.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why certificates cannot be used, or made.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is longer than any such file.
    #[error("`{0}` is longer than 1 MiB: it holds no certificates")]
    TooLong(PathBuf),
    /// A file is cut off, damaged, or of another kind.
    #[error("`{path}` holds no {what}, or is cut off: expected PEM")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// Certificate and key do not belong together.
    #[error("the key in `{key}` is not the one of the certificate in `{cert}`")]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate that TLS cannot use.
    #[error("`{path}`: {detail}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The text is no address of a collector with TLS.
    #[error("`{0}` is no address of a collector: expected `https://HOST:PORT`")]
    Address(String),
    /// A name that no certificate is made for.
    #[error("`{0}` is no name for a certificate: 1 to 240 of `a-z A-Z 0-9 . _ -` (a collector's may be an address)")]
    Name(String),
    /// A CA's key without its certificate.
    #[error("there is a key and no `{0}`: a CA is made where neither is")]
    Missing(PathBuf),
    /// What should be a CA is none.
    #[error("no certificate authority: {0}")]
    Authority(String),
    /// A request for a certificate that is not followed.
    #[error("the request is not signed: {0}")]
    Request(String),
    /// A file cannot be written.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Making a key or a certificate failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}
