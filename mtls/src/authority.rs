//! A certificate authority in memory: makes certificates with keys of its own, and signs the requests of others.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::{Certificate, Role, TlsError};

/// A certificate is valid from this long ago, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(3_600);
/// Longest common name. Source: RFC 5280, appendix A, `ub-common-name`.
const COMMON_NAME_MAX: usize = 64;
/// Longest request. Unit: bytes. Source: one with a key of 4,096 bits has 2 KiB.
const REQUEST_MAX: usize = 16 << 10;

/// A CA: its certificate and its key. Shows nothing of the key.
pub struct Authority {
    pem: String,
    expires: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM. Shows nothing of the key.
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one, valid for `life` from now.
    ///
    /// # Errors
    /// [`TlsError`] if no key can be made.
    pub fn make(name: &str, life: Duration) -> Result<Self, TlsError> {
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (SystemTime::now() - BACKDATED).into();
        params.not_after = (SystemTime::now() + life).into();
        let pem = params.self_signed(&pair)?.pem();
        let expires = params.not_after.into();
        Ok(Self { pem, expires, issuer: Issuer::new(params, pair) })
    }

    /// The one whose certificate and key these are, PEM; of several certificates the first.
    ///
    /// # Errors
    /// [`TlsError`] if they are none, or do not belong together.
    pub fn from_pem(cert: &str, key: &str) -> Result<Self, TlsError> {
        let unfit = |what: &str| TlsError::Authority(what.into());
        let pair = KeyPair::from_pem(key).map_err(|_| unfit("its key is no private key in PEM"))?;
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).map_err(|_| unfit("it is no certificate in PEM"))?;
        let read = Certificate::read(&der).ok_or_else(|| unfit("its certificate cannot be read"))?;
        if !read.is_of(&pair.subject_public_key_info()) {
            return Err(unfit("its key is not the certificate's"));
        }
        if !read.authority {
            return Err(unfit("its certificate is no CA's"));
        }
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|_| unfit("its certificate cannot be read"))?;
        Ok(Self { pem: cert.to_owned(), expires: read.expires, issuer })
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key, PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// End of its validity.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// Makes a certificate with a new key, valid until `until`, which may have passed, and no longer than the CA.
    ///
    /// # Errors
    /// [`TlsError`] if a name cannot be in a certificate.
    pub fn issue(&self, role: &Role, until: SystemTime) -> Result<Issued, TlsError> {
        let pair = KeyPair::generate()?;
        let cert = self.params(role, until)?.signed_by(&pair, &self.issuer)?.pem();
        Ok(Issued { cert, key: pair.serialize_pem() })
    }

    /// Signs a request in PEM for `role`: its key, the names of `role`, and nothing else of what it asks for.
    ///
    /// # Errors
    /// [`TlsError`] if it is no request that its key has signed, or asks for other names than those of `role`.
    pub fn sign(&self, request: &str, role: &Role, until: SystemTime) -> Result<String, TlsError> {
        let refused = |why: &str| TlsError::Request(why.into());
        if request.len() > REQUEST_MAX {
            return Err(refused("it is too long"));
        }
        let read = CertificateSigningRequestParams::from_pem(request);
        let mut read = read.map_err(|_| refused("it is no request in PEM that its own key has signed"))?;
        let params = self.params(role, until)?;
        if read.params.subject_alt_names != params.subject_alt_names {
            return Err(refused("it asks for other names"));
        }
        read.params = params;
        Ok(read.signed_by(&self.issuer)?.pem())
    }

    fn params(&self, role: &Role, until: SystemTime) -> Result<CertificateParams, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name(role)?);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = (until.min(SystemTime::now()) - BACKDATED).into();
        params.not_after = until.min(self.expires).into();
        params.extended_key_usages = vec![match role {
            Role::Collector(_) => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Node(_) | Role::Reader(_) => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.subject_alt_names = role.names()?;
        Ok(params)
    }
}

/// Makes a key and a request in PEM for a certificate of `role`.
///
/// # Errors
/// [`TlsError`] if a name cannot be in a certificate.
pub fn request(role: &Role) -> Result<Issued, TlsError> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name(role)?);
    params.subject_alt_names = role.names()?;
    let cert = params.serialize_request(&pair)?.pem()?;
    Ok(Issued { cert, key: pair.serialize_pem() })
}

/// For people: the names that count are alternative names.
fn common_name(role: &Role) -> Result<String, TlsError> {
    Ok(role.stem()?.chars().take(COMMON_NAME_MAX).collect())
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("cert", &self.cert).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn authority() -> Authority {
        Authority::make("a", DAY).unwrap()
    }

    fn read(pem: &str) -> Certificate {
        Certificate::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_was_kept_signs_as_before() {
        let made = authority();
        let kept = Authority::from_pem(made.pem(), &made.key_pem()).unwrap();
        // A certificate has whole seconds.
        assert!(made.expires().duration_since(kept.expires()).unwrap() < Duration::from_secs(1));
        let issued = kept.issue(&Role::Reader("ops".into()), SystemTime::now() + DAY / 2).unwrap();
        assert!(read(&issued.cert).client.is_reader());
        assert!(Certificate::is_signed_by(&issued.cert, &format!("{}{}", authority().pem(), made.pem())));
        // Another CA of the same name.
        assert!(!Certificate::is_signed_by(&issued.cert, authority().pem()));
        assert!(!format!("{kept:?}{issued:?}").contains("PRIVATE"));
    }

    #[test]
    fn another_key_is_refused() {
        let (one, two) = (authority(), authority());
        let error = Authority::from_pem(one.pem(), &two.key_pem()).unwrap_err();
        assert_eq!(error.to_string(), "no certificate authority: its key is not the certificate's");
        assert!(Authority::from_pem(one.pem(), "").is_err());
        // A leaf is no authority.
        let leaf = one.issue(&Role::Reader("r".into()), SystemTime::now() + DAY).unwrap();
        assert!(Authority::from_pem(&leaf.cert, &leaf.key).is_err());
    }

    #[test]
    fn a_request_gets_the_names_that_are_its_own_and_no_others() {
        let (authority, n1) = (authority(), Role::Node("n1".into()));
        let until = SystemTime::now() + DAY * 365;
        let asked = request(&n1).unwrap();
        let cert = read(&authority.sign(&asked.cert, &n1, until).unwrap());
        assert!(cert.client.is_node("n1") && !cert.client.is_node("n2"));
        // No longer than the CA.
        assert!(cert.expires <= authority.expires());
        for other in [Role::Node("n2".into()), Role::Reader("n1".into())] {
            let error = authority.sign(&asked.cert, &other, until).unwrap_err();
            assert_eq!(error.to_string(), "the request is not signed: it asks for other names");
        }
    }

    #[test]
    fn a_request_that_was_changed_is_refused() {
        let (authority, n1) = (authority(), Role::Node("n1".into()));
        let asked = request(&n1).unwrap().cert;
        let lines: Vec<&str> = asked.lines().collect();
        let last = lines[lines.len() - 2];
        let swapped = if last.starts_with('A') { "B" } else { "A" };
        let changed = asked.replace(last, &format!("{swapped}{}", &last[1..]));
        for text in [changed.as_str(), "", "-----BEGIN CERTIFICATE REQUEST-----\n", &"x".repeat(REQUEST_MAX + 1)] {
            assert!(authority.sign(text, &n1, SystemTime::now() + DAY).is_err());
        }
    }
}
