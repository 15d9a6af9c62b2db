//! A certificate authority for tests, and server certificates from it, good and bad ones.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// HTTP/1.1 by its name in ALPN.
pub const HTTP1: &[u8] = b"http/1.1";
/// HTTP/2 by its name in ALPN.
pub const HTTP2: &[u8] = b"h2";

/// An authority that nobody but the test trusts. Its key lives in memory unless [`TestCa::at`] is asked to keep it.
#[derive(Debug)]
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl TestCa {
    /// Makes a new authority.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn new() -> Result<TestCa> {
        let key = KeyPair::generate()?;
        let params = ca_params();
        let pem = params.self_signed(&key)?.pem();
        Ok(TestCa { issuer: Issuer::new(params, key), pem })
    }

    /// The authority kept in `directory` as `ca.pem` and `ca.key`, made there if absent: for servers in several processes.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub fn at(directory: &Path) -> Result<TestCa> {
        let (pem, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        if !key.exists() {
            let made = TestCa::new()?;
            std::fs::create_dir_all(directory)?;
            std::fs::write(&pem, &made.pem).with_context(|| format!("write {}", pem.display()))?;
            std::fs::write(&key, made.issuer.key().serialize_pem())?;
        }
        let key = KeyPair::from_pem(&std::fs::read_to_string(&key)?)?;
        Ok(TestCa { issuer: Issuer::new(ca_params(), key), pem: std::fs::read_to_string(pem)? })
    }

    /// Its certificate, as clients want it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// TLS for a server that is called `names` (host names and addresses).
    ///
    /// # Errors
    /// When a name is none.
    pub fn server(&self, names: &[&str]) -> Result<Arc<ServerConfig>> {
        self.server_with(names, &[HTTP2, HTTP1], |_| ())
    }

    /// The same for one protocol alone.
    ///
    /// # Errors
    /// When a name is none.
    pub fn server_of(&self, names: &[&str], protocol: &[u8]) -> Result<Arc<ServerConfig>> {
        self.server_with(names, &[protocol], |_| ())
    }

    /// The same with a certificate that ran out in 2020.
    ///
    /// # Errors
    /// When a name is none.
    pub fn expired_server(&self, names: &[&str]) -> Result<Arc<ServerConfig>> {
        self.server_with(names, &[HTTP2, HTTP1], |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// TLS for a client that trusts this authority and no other.
    ///
    /// # Errors
    /// None that a test could cause.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        client(&self.pem)
    }

    fn server_with(
        &self,
        names: &[&str],
        protocols: &[&[u8]],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Arc<ServerConfig>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nameless"));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// TLS for a client of HTTP/1.1 that trusts the certificates in `roots_pem` and no others.
///
/// # Errors
/// When it holds no certificate.
pub fn client(roots_pem: &str) -> Result<Arc<ClientConfig>> {
    client_of(roots_pem, HTTP1)
}

/// The same for a client of one protocol.
///
/// # Errors
/// As [`client`].
pub fn client_of(roots_pem: &str, protocol: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(root?)?;
    }
    anyhow::ensure!(!roots.is_empty(), "no certificate in the roots given");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// `name` as a URL shows it: an IPv6 address in brackets.
pub fn url_host(name: &str) -> String {
    match name.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => name.to_owned(),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Callgate test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
