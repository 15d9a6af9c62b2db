//! What a certificate says: until when, and whom it names.
//!
//! A client is one or more of: a node, which writes the streams `NODE/…`; a reader, who asks for records.
//! Names are URIs (`callgate://node/NODE`, `callgate://reader/NAME`) in the subject's alternative names. A certificate
//! without any such URI names nodes by its DNS names, so that what other tools issue to hosts can be used. Compared byte
//! by byte, and a wildcard names nobody: no agent writes into another's chain by a spelling.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

/// What precedes a node's name in a URI.
pub(crate) const NODE: &str = "callgate://node/";
/// What precedes a reader's.
pub(crate) const READER: &str = "callgate://reader/";

/// A certificate that ends within this time is warned of, once a day.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 3_600);

/// A leaf certificate, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// End of its validity.
    pub expires: SystemTime,
    /// How long it is valid in all.
    life: Duration,
    /// Whom it names, as a client.
    pub client: Client,
    /// Whether it may sign others.
    pub(crate) authority: bool,
    /// DER of its subject's public key.
    key: Vec<u8>,
}

/// Whom a client's certificate names, and so what it may do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Client {
    nodes: Vec<String>,
    readers: Vec<String>,
}

impl Certificate {
    /// Reads a certificate; none if it is not one.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let seconds = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let (from, until) = (seconds(parsed.validity().not_before), seconds(parsed.validity().not_after));
        let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until))?;
        let (mut names, mut client, mut ours) = (Vec::new(), Client::default(), false);
        // An error is an extension that stands twice: whoever made that must not name anybody.
        for name in parsed.subject_alternative_name().ok()?.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) if !name.contains(['*', '/']) => names.push((*name).to_owned()),
                GeneralName::URI(uri) => {
                    ours |= uri.starts_with("callgate://");
                    client.nodes.extend(named(uri, NODE));
                    client.readers.extend(named(uri, READER));
                }
                _ => {}
            }
        }
        if !ours {
            client.nodes = names;
        }
        let key = parsed.public_key().raw.to_vec();
        let life = Duration::from_secs(until.saturating_sub(from));
        Some(Self { expires, life, client, authority: parsed.is_ca(), key })
    }

    /// The first certificate in a text in PEM; none if there is none.
    #[must_use]
    pub fn from_pem(pem: &str) -> Option<Self> {
        Self::read(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
    }

    /// Whether one of the CAs in `bundle` has signed the first certificate in `pem`. Says nothing of their validity in time.
    #[must_use]
    pub fn is_signed_by(pem: &str, bundle: &str) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return false };
        let Ok((_, leaf)) = X509Certificate::from_der(&der) else { return false };
        let signs = |ca: CertificateDer<'_>| {
            let read = X509Certificate::from_der(&ca);
            read.is_ok_and(|(_, ca)| leaf.verify_signature(Some(ca.public_key())).is_ok())
        };
        CertificateDer::pem_slice_iter(bundle.as_bytes()).flatten().any(signs)
    }

    /// The certificates in a text in PEM, each as a text of its own; what is damaged is left out.
    #[must_use]
    pub fn split(pem: &str) -> Vec<String> {
        const END: &str = "-----END CERTIFICATE-----";
        let parts = pem.split_inclusive(END).filter(|part| part.ends_with(END));
        parts.map(|part| format!("{}\n", part.trim_start())).collect()
    }

    /// When whoever issued it is to be asked for another: when a third of its life is left.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        self.expires - self.life / 3
    }

    /// Whether it should have been replaced by now: a quarter of its life is left, and less than [`EXPIRY_WARNING`].
    #[must_use]
    pub fn ends_soon(&self) -> bool {
        self.expires <= SystemTime::now() + EXPIRY_WARNING.min(self.life / 4)
    }

    /// Whether it is about this public key (DER of a SubjectPublicKeyInfo).
    pub(crate) fn is_of(&self, key: &[u8]) -> bool {
        self.key == key
    }
}

fn named(uri: &str, prefix: &str) -> Option<String> {
    let name = uri.strip_prefix(prefix)?;
    (!name.is_empty() && !name.contains(['*', '/', '?', '#', '%'])).then(|| name.to_owned())
}

impl Client {
    /// Whether it may write the streams of `node`.
    #[must_use]
    pub fn is_node(&self, node: &str) -> bool {
        self.nodes.iter().any(|name| name == node)
    }

    /// Whether it may ask for records.
    #[must_use]
    pub fn is_reader(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Every name, for a log or a refusal: `node/NAME` and `reader/NAME`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let nodes = self.nodes.iter().map(|name| format!("node/{name}"));
        nodes.chain(self.readers.iter().map(|name| format!("reader/{name}"))).collect()
    }

    /// Leaves the names that one of `patterns` matches: `node/shop-*`, `reader/*`.
    pub(crate) fn keep(&mut self, patterns: &[String]) {
        let listed = |name: String| patterns.iter().any(|pattern| matches(pattern, &name));
        self.nodes.retain(|name| listed(format!("node/{name}")));
        self.readers.retain(|name| listed(format!("reader/{name}")));
    }
}

/// Whether `text` fits `pattern`, in which `*` is any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn read(names: &[&str], uris: &[&str]) -> Client {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::read(made.der()).unwrap().client
    }

    #[test]
    fn nodes_by_uri_or_else_by_dns_name() {
        let client = read(&["node-1", "node-1.example"], &[]);
        assert!(client.is_node("node-1") && client.is_node("node-1.example") && !client.is_reader());
        for other in ["node-2", "node", "NODE-1", "node-1.", "", "node-1/agent"] {
            assert!(!client.is_node(other), "{other}");
        }
        // A reader's host name makes no node of it.
        let client = read(&["laptop"], &["callgate://reader/kim"]);
        assert!(client.is_reader() && !client.is_node("laptop"));
        let client = read(&["x"], &["callgate://node/a", "callgate://node/b", "https://c"]);
        assert_eq!(client.names(), ["node/a", "node/b"]);
    }

    #[test]
    fn wildcards_and_odd_uris_name_nobody() {
        let client = read(&["*.example"], &[]);
        assert!(client.names().is_empty() && !client.is_node("*.example") && !client.is_node("a.example"));
        for uri in
            ["callgate://node/", "callgate://node/*", "callgate://node/a/b", "callgate://node/a?b", "callgate://x/y"]
        {
            assert_eq!(read(&["dns"], &[uri]), Client::default(), "{uri}");
        }
        assert!(read(&[], &[]).names().is_empty());
        assert_eq!(Certificate::read(&CertificateDer::from_slice(b"no certificate")), None);
    }

    #[test]
    fn patterns_leave_the_names_that_they_match() {
        let mut client = read(&[], &["callgate://node/shop-1", "callgate://node/bank-1", "callgate://reader/kim"]);
        client.keep(&["node/shop-*".into(), "reader/*".into()]);
        assert_eq!(client.names(), ["node/shop-1", "reader/kim"]);
        client.keep(&["node/shop-2".into()]);
        assert!(client.names().is_empty() && !client.is_reader());
        for (pattern, text, fits) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
