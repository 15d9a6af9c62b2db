//! How we call the real host: verification always on, nothing resumed.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};

use crate::{IdentityError, provider, roots};

/// The TLS configuration for connections to upstreams: the system's roots and those of the PEM files `extra_roots`.
///
/// The certificate must be valid for the name given to the connector; there is no way to turn that off.
/// Sessions are never resumed (a ticket of one workload must not serve another), and there is no early data.
/// `alpn` is what is offered, the most wanted first; empty offers none.
///
/// Blocking: reads the system's certificate files, some milliseconds. Make it once, share it.
///
/// # Errors
/// [`IdentityError::Roots`] names a file of `extra_roots` that is unfit;
/// [`IdentityError::NoRoots`] when there is no root at all.
pub fn upstream_config(extra_roots: &[PathBuf], alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, IdentityError> {
    let mut store = RootCertStore::empty();
    for path in extra_roots {
        for certificate in roots::of_file(path)? {
            store.add(certificate).map_err(|e| IdentityError::Roots { path: path.clone(), detail: e.to_string() })?;
        }
    }
    match roots::system() {
        // Some systems carry certificates that are no CAs: those are skipped, not fatal.
        Ok(system) => drop(store.add_parsable_certificates(system)),
        Err(reasons) if store.is_empty() => return Err(IdentityError::NoRoots(reasons)),
        Err(_) => {}
    }
    let mut config = ClientConfig::builder_with_provider(provider::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_file_that_is_no_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent.pem");
        let text = upstream_config(&[absent], &[]).unwrap_err().to_string();
        assert!(text.contains("absent.pem"), "{text}");

        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "hello").unwrap();
        let text = upstream_config(&[empty], &[]).unwrap_err().to_string();
        assert!(text.contains("empty.pem") && text.contains("no certificate"), "{text}");

        let broken = dir.path().join("broken.pem");
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let text = upstream_config(&[broken], &[]).unwrap_err().to_string();
        assert!(text.contains("broken.pem"), "{text}");
    }

    #[test]
    fn offers_post_quantum_first_and_the_given_alpn() {
        let authority = crate::Authority::new("test").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, authority.ca_pem()).unwrap();
        let config = upstream_config(&[file], &[b"http/1.1"]).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        assert_eq!(config.crypto_provider().kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
