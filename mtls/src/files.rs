//! The files of one side, read as a whole.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use crate::{Certificate, TlsError};

/// Longest file read. Unit: bytes. Source: a bundle of all public CAs has 220 KiB.
const FILE_MAX: u64 = 1 << 20;

/// The files of one side, all PEM.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// CAs that vouch for the other side: one or more certificates, two of them during a change.
    pub ca: PathBuf,
    /// This side's certificate, and what leads from it to the CA.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What was in the files at one moment. No `Debug`: it holds the key.
pub(crate) struct Material {
    pub ca: Vec<CertificateDer<'static>>,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub leaf: Certificate,
}

/// The contents, and their digest.
pub(crate) struct Contents {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
    pub digest: Vec<u8>,
}

impl TlsFiles {
    /// Reads the files' bytes.
    pub(crate) fn contents(&self) -> Result<Contents, TlsError> {
        let (ca, cert, key) = (read(&self.ca)?, read(&self.cert)?, read(&self.key)?);
        let mut digest = Context::new(&SHA256);
        for part in [&ca, &cert, &key] {
            // With its length, so that a byte that moves from one file to the next is a change.
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest = digest.finish().as_ref().to_vec();
        Ok(Contents { ca, cert, key, digest })
    }

    /// Makes certificates and a key of the bytes.
    pub(crate) fn material(&self, contents: &Contents) -> Result<Material, TlsError> {
        let malformed = |path: &Path, what| TlsError::Malformed { path: path.into(), what };
        let ca = certificates(&contents.ca).ok_or_else(|| malformed(&self.ca, "CA certificate"))?;
        let chain = certificates(&contents.cert).ok_or_else(|| malformed(&self.cert, "certificate"))?;
        // The reader's error is dropped: it may quote a line of the key.
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| malformed(&self.key, "private key"))?;
        let leaf = chain.first().and_then(Certificate::read).ok_or_else(|| malformed(&self.cert, "certificate"))?;
        Ok(Material { ca, chain, key, leaf })
    }
}

/// All certificates of a PEM file; none if there is none, or one of them is damaged.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(TlsError::TooLong(path.into()));
    }
    Ok(bytes)
}
