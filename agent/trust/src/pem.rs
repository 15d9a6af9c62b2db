//! Bundles of certificates as PEM: what is in one, and the same with our CA.
//!
//! Nothing but certificates is ever carried over: a file that a user of the container had us read by a trick gives away
//! nothing, and what holds anything beside certificates is not taken for a bundle.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use crate::Ca;

/// How a section begins.
const BEGIN: &[u8] = b"-----BEGIN ";

/// What a file is for us.
#[derive(Debug, PartialEq, Eq)]
pub enum Bundle {
    /// It has our CA already.
    Amended,
    /// The new content.
    Amend(Vec<u8>),
    /// No bundle of certificates.
    Other,
}

/// Our CA, then the certificates of `content`.
#[must_use]
pub fn amend(content: &[u8], ca: &Ca) -> Bundle {
    let Some(own) = certificates(content) else { return Bundle::Other };
    if own.contains(ca.der()) {
        return Bundle::Amended;
    }
    Bundle::Amend((ca.pem().to_owned() + &text(&own)).into_bytes())
}

/// The certificates of a file that holds nothing else, but for text between them; none if there is no certificate.
#[must_use]
pub fn certificates(content: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    // Each section is a certificate: OpenSSL's "TRUSTED CERTIFICATE", a key or a list of revocations would be lost, and
    // so would one that begins within a line, which some readers find and others do not.
    let begins = content.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(content);
    let all: Option<Vec<_>> = sections
        .map(|section| match section {
            Ok((SectionKind::Certificate, der)) => Some(CertificateDer::from(der)),
            _ => None,
        })
        .collect();
    all.filter(|all| !all.is_empty() && all.len() == begins)
}

/// As PEM, one after the other.
pub(crate) fn text<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let config = pem_encoder::EncodeConfig::new().set_line_ending(pem_encoder::LineEnding::LF);
    let one = |der: &CertificateDer<'_>| {
        pem_encoder::encode_config(&pem_encoder::Pem::new("CERTIFICATE", der.as_ref()), config)
    };
    certificates.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::tests::made;

    #[test]
    fn what_a_bundle_holds_stays_and_ours_comes_first() {
        let (ours, a, b) = (made("ours"), made("a"), made("b"));
        let own = format!("# A comment\n{}\nanother = line\n{}", a.pem(), b.pem());
        let Bundle::Amend(amended) = amend(own.as_bytes(), &ours) else { panic!("not amended") };
        assert_eq!(String::from_utf8(amended.clone()).unwrap(), format!("{}{}{}", ours.pem(), a.pem(), b.pem()));
        assert_eq!(amend(&amended, &ours), Bundle::Amended);
    }

    #[test]
    fn what_is_more_than_certificates_is_no_bundle() {
        let ours = made("ours");
        let own = made("own").pem().to_owned();
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let trusted = own.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        for other in [
            String::new(),
            "root:$6$secret:19000:0:99999:7:::\n".to_owned(),
            key.to_owned(),
            format!("{own}{key}"),
            format!("{key}{own}"),
            format!("{own}{trusted}"),
            format!("{own}-----BEGIN CERTIFICATE-----\nAA"),
            format!("{own}-----BEGIN ODD-----\nAAAA\n-----END ODD-----\n"),
            format!("{own} {own}"),
            format!("\u{feff}{own}{own}"),
        ] {
            assert_eq!(amend(other.as_bytes(), &ours), Bundle::Other, "{other}");
        }
    }
}
