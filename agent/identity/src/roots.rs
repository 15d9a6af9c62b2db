//! The CA certificates that the system trusts, and those that the operator adds for upstreams.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};
use tracing::warn;

use crate::IdentityError;

/// The system's own roots. Files that could not be read are logged and left out; the rest counts.
///
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` apply, as everywhere.
///
/// # Errors
/// The reasons, in one text, when not one certificate was found.
pub(crate) fn system() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        warn!(%error, "a CA certificate of this system could not be read");
    }
    if !found.certs.is_empty() {
        return Ok(found.certs);
    }
    let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    Err(if reasons.is_empty() { "none found".into() } else { reasons.join("; ") })
}

/// The certificates of a PEM file, in order.
///
/// # Errors
/// [`IdentityError::Roots`] when it cannot be read, is malformed, or holds no certificate.
pub(crate) fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let unfit = |detail: String| IdentityError::Roots { path: path.to_owned(), detail };
    let text = |e: pem::Error| match e {
        pem::Error::Io(e) => unfit(e.to_string()),
        e => unfit(e.to_string()),
    };
    let found = CertificateDer::pem_file_iter(path).map_err(text)?.collect::<Result<Vec<_>, _>>().map_err(text)?;
    if found.is_empty() { Err(unfit("no certificate in it".into())) } else { Ok(found) }
}

/// The certificates as PEM text, one after the other.
pub(crate) fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let config = pem_encoder::EncodeConfig::new().set_line_ending(pem_encoder::LineEnding::LF);
    let mut all = String::new();
    for certificate in certificates {
        all += &pem_encoder::encode_config(&pem_encoder::Pem::new("CERTIFICATE", certificate.as_ref()), config);
    }
    all
}

/// Replaces the file at `path`, which everybody may read, by `pem`; a reader finds the old or the new one.
pub(crate) fn write(path: &Path, pem: &str) -> std::io::Result<()> {
    let new = path.with_extension("pem.new");
    std::fs::write(&new, pem)?;
    std::fs::rename(new, path)
}
