//! Configurations of rustls from what is in the files.
//!
//! Nothing is resumed: a resumed connection would skip the verification, and so outlive a certificate or a CA.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig, version::TLS13};

use crate::files::Material;
use crate::{TlsError, TlsFiles};

/// The only protocol spoken within.
pub(crate) const HTTP2: &[u8] = b"h2";

/// The collector's: every client must show a certificate that a CA of ours vouches for.
pub(crate) fn server(files: &TlsFiles, material: &Material) -> Result<ServerConfig, TlsError> {
    let roots = roots(files, material)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
    let verifier =
        verifier.map_err(|error| TlsError::Unusable { path: files.ca.clone(), detail: error.to_string() })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit(files, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|error| unfit(files, error))?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The agent's: shows its certificate, trusts our CAs and no others.
pub(crate) fn client(files: &TlsFiles, material: &Material) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit(files, error))?
        .with_root_certificates(roots(files, material)?)
        .with_client_auth_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|error| unfit(files, error))?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(files: &TlsFiles, material: &Material) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in &material.ca {
        let added = roots.add(ca.clone());
        added.map_err(|error| TlsError::Unusable { path: files.ca.clone(), detail: error.to_string() })?;
    }
    Ok(Arc::new(roots))
}

fn unfit(files: &TlsFiles, error: Error) -> TlsError {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone() }
        }
        error => TlsError::Unusable { path: files.cert.clone(), detail: error.to_string() },
    }
}

/// AWS-LC with the hybrid post-quantum key exchange first, whatever features other crates of the build set.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups =
        vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    Arc::new(provider)
}
