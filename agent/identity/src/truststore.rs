//! The trust bundle as Java reads it: PKCS#12 with every certificate marked as trusted.

use p12_keystore::{Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm};
use rustls_pki_types::CertificateDer;

use crate::IdentityError;

/// Rounds of key derivation. The content is public and the password is too: Java only wants the form.
const ITERATIONS: u32 = 1_000;

/// A PKCS#12 trust store of `certificates`, the first under the alias `callgate`.
///
/// PBES2 with AES-256 and HMAC-SHA-256: what `keytool` writes since Java 17, read since 8u301.
/// Certificates that cannot be parsed are left out, as Java could not use them either.
///
/// # Errors
/// [`IdentityError::TrustStore`] when the first (ours) cannot be parsed, or encoding fails.
pub(crate) fn pkcs12<'a>(
    ours: &CertificateDer<'static>,
    others: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    password: &str,
) -> Result<Vec<u8>, IdentityError> {
    let fail = |e: p12_keystore::error::Error| IdentityError::TrustStore(e.to_string());
    let mut store = KeyStore::new();
    store.add_entry("callgate", KeyStoreEntry::Certificate(Certificate::from_der(ours).map_err(fail)?));
    for (n, other) in others.into_iter().enumerate() {
        if let Ok(certificate) = Certificate::from_der(other) {
            store.add_entry(&format!("system-{n}"), KeyStoreEntry::Certificate(certificate));
        }
    }
    store
        .writer(password)
        .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
        .encryption_iterations(ITERATIONS)
        .mac_algorithm(MacAlgorithm::HmacSha256)
        .mac_iterations(ITERATIONS)
        .write()
        .map_err(fail)
}
