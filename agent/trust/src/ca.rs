//! The CA that is added, and by what name OpenSSL looks for it in a directory.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{TrustError, pem};

/// A CA's certificate.
#[derive(Clone, Debug)]
pub struct Ca {
    der: CertificateDer<'static>,
    pem: String,
    link: String,
}

impl Ca {
    /// The first certificate of a PEM text.
    ///
    /// # Errors
    /// [`TrustError::Ca`] when there is none, or it cannot be parsed.
    pub fn of_pem(text: &str) -> Result<Self, TrustError> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| TrustError::Ca(e.to_string()))?;
        let link = format!("{:08x}.0", subject_hash(&der)?);
        Ok(Self { pem: pem::text([&der]), link, der })
    }

    /// The certificate, as DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The same as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The file name under which OpenSSL looks for it in a hashed directory.
    pub(crate) fn link(&self) -> &str {
        &self.link
    }
}

/// OpenSSL's `X509_NAME_hash`: the first four bytes, as little endian, of the SHA-1 of the subject in canonical form:
/// every value as UTF-8, in lower case, without blanks at its ends and with single ones within.
fn subject_hash(der: &[u8]) -> Result<u32, TrustError> {
    let unfit = |detail: String| TrustError::Ca(detail);
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| unfit(e.to_string()))?;
    let mut canonical = Vec::new();
    for rdn in certificate.subject().iter_rdn() {
        let mut set = Vec::new();
        for attribute in rdn.iter() {
            let value = attribute.as_str().map_err(|e| unfit(e.to_string()))?;
            let value = value.split_ascii_whitespace().fold(String::new(), |mut all, word| {
                let _ = write!(all, "{}{}", if all.is_empty() { "" } else { " " }, word.to_ascii_lowercase());
                all
            });
            let mut pair = element(0x06, attribute.attr_type().as_bytes());
            pair.extend(element(0x0c, value.as_bytes()));
            set.extend(element(0x30, &pair));
        }
        canonical.extend(element(0x31, &set));
    }
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &canonical);
    let first = hash.as_ref().first_chunk::<4>().ok_or_else(|| unfit("no digest".into()))?;
    Ok(u32::from_le_bytes(*first))
}

/// One element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut all = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => all.push(short),
        Ok(byte) => all.extend([0x81, byte]),
        // No name of ours is longer than 64 characters; RFC 5280 ends at 32,768 as well.
        Err(_) => {
            all.push(0x82);
            all.extend(u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    all.extend(content);
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    pub(crate) fn made(name: &str) -> Ca {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Callgate");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let key = rcgen::KeyPair::generate().unwrap();
        Ca::of_pem(&params.self_signed(&key).unwrap().pem()).unwrap()
    }

    #[test]
    fn openssl_looks_for_it_by_the_same_name() {
        for name in ["Callgate node-1", "  Two   Blanks ", "Ünïcode", &"long".repeat(40)] {
            let ca = made(name);
            let mut openssl = Command::new("openssl")
                .args(["x509", "-noout", "-hash"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut openssl.stdin.take().unwrap(), ca.pem().as_bytes()).unwrap();
            let told = String::from_utf8(openssl.wait_with_output().unwrap().stdout).unwrap();
            assert_eq!(ca.link(), format!("{}.0", told.trim()), "{name}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(Ca::of_pem(text), Err(TrustError::Ca(_))));
        }
    }
}
