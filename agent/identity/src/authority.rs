//! Our certificate authority: made in memory for each `run` and gone with it; kept on disk for the agent of a host.
//!
//! It signs what a workload sees of a host that it calls. The upstream's own certificate is verified elsewhere
//! ([`upstream_config`](crate::upstream_config)) before a workload gets an answer.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::generations::Generations;
use crate::key::Key;
use crate::{IdentityError, provider, roots, truststore};

/// How long the CA is valid. That of a run dies with its process long before.
const CA_LIFE: Duration = Duration::from_secs(5 * 365 * 24 * 3600);

/// A kept certificate that ends sooner than this is made anew at the next start, with the same name and key: who trusts
/// the old one has a year to see the new one.
const CA_RENEW: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a leaf is valid.
const LEAF_LIFE: Duration = Duration::from_secs(48 * 3600);

/// A leaf older than this is made anew, so that a long connection that starts now stays valid for a day.
const LEAF_RENEW: Duration = Duration::from_secs(24 * 3600);

/// How far validity reaches back, for clients whose clock was set meanwhile.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Most hosts whose configuration is kept; one costs about 2 KiB. Further ones are made anew at each connection.
const KEPT: usize = 4096;

/// Longest common name (RFC 5280, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// A certificate authority; its key never leaves the memory of this process, unless it is [`kept`](Self::kept).
///
/// All leaves share one key: it is the signature of a leaf that takes time (19 µs), not its key's secrecy that
/// differs from host to host.
pub struct Authority {
    issuer: Issuer<'static, Key>,
    certificate: CertificateDer<'static>,
    leaf_key: Key,
    provider: Arc<CryptoProvider>,
    configs: Generations<Host, Arc<Minted>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Host {
    name: String,
    alpn: Vec<Vec<u8>>,
}

struct Minted {
    at: SystemTime,
    config: Result<Arc<ServerConfig>, String>,
}

impl Authority {
    /// Makes a CA called `name` (cut to 64 characters).
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        Self::of(name, Key::generate()?)
    }

    /// A CA called `name` whose key is kept in `file` (PKCS#8, mode 0600), and made there when it is first asked for.
    ///
    /// For a daemon: processes that trusted the CA before a restart still trust the leaves made after it.
    /// The certificate is kept beside the key (`.pem`), so that what was written of it elsewhere stays the same; one that
    /// is not of this name and key, or ends within a year, is made anew.
    ///
    /// # Errors
    /// [`IdentityError::KeyFile`] when the file cannot be read, written or understood.
    pub fn kept(name: &str, file: &Path) -> Result<Self, IdentityError> {
        let key = Key::kept(file)?;
        let mut authority = Self::of(name, key)?;
        let beside = file.with_extension("pem");
        let fit = CertificateDer::from_pem_file(&beside).ok().filter(|kept| authority.is_renewed_by(kept));
        match fit {
            Some(kept) => authority.certificate = kept,
            None => roots::write(&beside, &authority.ca_pem())
                .map_err(|error| IdentityError::KeyFile { path: beside, detail: error.to_string() })?,
        }
        Ok(authority)
    }

    /// Whether `kept` is a certificate of this CA that lasts.
    fn is_renewed_by(&self, kept: &CertificateDer<'_>) -> bool {
        let parse = |der| X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
        let (Some(kept), Some(new)) = (parse(kept.as_ref()), parse(self.certificate.as_ref())) else { return false };
        let left = kept.validity().time_to_expiration().map(|left| left.unsigned_abs());
        kept.subject() == new.subject()
            && kept.public_key().raw == new.public_key().raw
            && left.is_some_and(|left| left > CA_RENEW)
    }

    fn of(name: &str, key: Key) -> Result<Self, IdentityError> {
        let now = SystemTime::now();
        let mut params = blank(now, CA_LIFE)?;
        params.distinguished_name = subject(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.into();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
            leaf_key: Key::generate()?,
            provider: provider::provider(),
            configs: Generations::new(KEPT),
        })
    }

    /// The CA's certificate alone, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        roots::to_pem([&self.certificate])
    }

    /// What a workload should trust, as PEM: the CA's certificate, then the system's roots.
    ///
    /// Extra roots for upstreams are not in it: the workload never sees a certificate of theirs.
    /// A system without roots gives the CA alone. Blocking: reads files.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        roots::to_pem(std::iter::once(&self.certificate).chain(&roots::system().unwrap_or_default()))
    }

    /// The same certificates as a PKCS#12 trust store for Java. Blocking: reads files.
    ///
    /// # Errors
    /// [`IdentityError::TrustStore`] when encoding fails.
    pub fn truststore_p12(&self, password: &str) -> Result<Vec<u8>, IdentityError> {
        truststore::pkcs12(&self.certificate, &roots::system().unwrap_or_default(), password)
    }

    /// The configuration to serve TLS as `host`, a DNS name or an address (IPv6 with or without brackets).
    ///
    /// `alpn` lists the protocols that may be chosen, the most wanted first.
    /// Sessions are neither stored nor ticketed, and there is no early data: nothing of one connection serves another.
    /// Cached by host and `alpn`; making one takes a fraction of a millisecond.
    ///
    /// # Errors
    /// [`IdentityError::Host`] when `host` cannot stand in a certificate.
    pub fn server_config(&self, host: &str, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, IdentityError> {
        let name = canonical(host)?;
        let key = Host { name: name.to_string(), alpn: alpn.iter().map(|p| p.to_vec()).collect() };
        let now = SystemTime::now();
        // Wall time, not a monotonic clock: certificates go by the wall clock, and suspend stops the other one.
        let fresh = |minted: &Arc<Minted>| {
            minted.config.is_ok() && now.duration_since(minted.at).is_ok_and(|age| age < LEAF_RENEW)
        };
        let minted = self.configs.get_or(&key, fresh, || {
            let config = self.mint(&name, now, &key.alpn).map_err(|e| e.to_string());
            Arc::new(Minted { at: now, config })
        });
        match &minted.config {
            Ok(config) => Ok(config.clone()),
            Err(detail) => Err(IdentityError::Leaf(detail.clone())),
        }
    }

    fn mint(&self, name: &Name, now: SystemTime, alpn: &[Vec<u8>]) -> Result<Arc<ServerConfig>, IdentityError> {
        let mut params = blank(now, LEAF_LIFE)?;
        let text = name.to_string();
        // A name too long for a CN stands in the SAN alone, where clients look anyway.
        params.distinguished_name = subject(if text.len() <= COMMON_NAME_MAX { &text } else { "Callgate" });
        params.subject_alt_names = vec![name.san()?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?.into();

        let certified = CertifiedKey::new(vec![leaf], Arc::new(self.leaf_key.clone()));
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = alpn.to_vec();
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("key", &"redacted").finish_non_exhaustive()
    }
}

enum Name {
    Dns(String),
    Ip(IpAddr),
}

impl Name {
    fn san(&self) -> Result<SanType, IdentityError> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Ip(ip) => SanType::IpAddress(*ip),
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

fn canonical(host: &str) -> Result<Name, IdentityError> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Name::Ip(ip.to_canonical()));
    }
    // The vocabulary's own check of names: what cannot be a service cannot have a certificate.
    match callgate_model::Service::new(host, 0) {
        Ok(service) => Ok(Name::Dns(service.host().to_owned())),
        Err(_) => Err(IdentityError::Host(host.to_owned())),
    }
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Callgate");
    name.push(DnType::CommonName, common_name.chars().take(COMMON_NAME_MAX).collect::<String>());
    name
}

/// Parameters with a validity around now and a random serial number.
///
/// rcgen would derive the serial from the key, which all leaves share, and NSS refuses two certificates of one issuer
/// with the same serial.
fn blank(now: SystemTime, life: Duration) -> Result<CertificateParams, IdentityError> {
    let mut serial = [0u8; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| IdentityError::Crypto("random numbers"))?;
    // Positive, and of full length: DER drops leading zeros.
    serial[0] = serial[0] & 0x7f | 0x40;
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = |d: Duration| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(d.as_secs());
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = at(since_epoch.saturating_sub(BACKDATED));
    params.not_after = at(since_epoch + life);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_stand_in_a_certificate() {
        let authority = Authority::new("test").unwrap();
        for host in ["", "a b", "*.example.com", "a..b", "exa\0mple", "[10.0.0.1", "é.example"] {
            assert!(matches!(authority.server_config(host, &[]), Err(IdentityError::Host(_))), "{host}");
        }
    }

    #[test]
    fn caches_by_host_and_alpn() {
        let authority = Authority::new("test").unwrap();
        let one = authority.server_config("API.example", &[b"http/1.1"]).unwrap();
        assert!(Arc::ptr_eq(&one, &authority.server_config("api.example.", &[b"http/1.1"]).unwrap()));
        assert!(!Arc::ptr_eq(&one, &authority.server_config("api.example", &[]).unwrap()));
        assert!(!Arc::ptr_eq(&one, &authority.server_config("b.example", &[b"http/1.1"]).unwrap()));
    }

    #[test]
    fn what_is_kept_stays_the_same_until_name_or_key_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.key");
        let kept = |name: &str| Authority::kept(name, &file).unwrap().ca_pem();
        let first = kept("a");
        assert_eq!(kept("a"), first);
        assert!(!std::fs::read_to_string(file.with_extension("pem")).unwrap().contains("KEY"));
        let other = kept("b");
        assert_ne!(other, first);
        assert_eq!(kept("b"), other);
        std::fs::write(file.with_extension("pem"), Authority::new("b").unwrap().ca_pem()).unwrap();
        assert_ne!(kept("b"), other, "of another key");
        let again = kept("b");
        std::fs::write(file.with_extension("pem"), "broken").unwrap();
        assert_ne!(kept("b"), again);
        std::fs::remove_file(&file).unwrap();
        let rotated = kept("b");
        assert_eq!(kept("b"), rotated);
    }

    #[test]
    fn says_nothing_of_its_key() {
        let authority = Authority::new("test").unwrap();
        assert_eq!(format!("{authority:?}"), "Authority { key: \"redacted\", .. }");
        assert_eq!(format!("{:?}", authority.leaf_key), "Key(redacted)");
    }

    #[test]
    fn keeps_nothing_to_resume_from() {
        let config = Authority::new("test").unwrap().server_config("a.example", &[]).unwrap();
        assert_eq!(config.send_tls13_tickets, 0);
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.ticketer.enabled());
        assert!(!config.session_storage.can_cache());
    }
}
