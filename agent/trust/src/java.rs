//! Java's trust stores: JKS or PKCS#12 in, JKS with our CA out.
//!
//! JKS, although it is old: without a password, which is how the JDK opens its own `cacerts`, every release reads it, and
//! since release 8 whatever type the store is said to have.

use aws_lc_rs::digest;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Ca;
use crate::pem::Bundle;
use crate::variables::PASSWORD;

/// Marks a JKS. Source: the JDK's JavaKeyStore, magic and version.
const MAGIC: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// Tag of a trusted certificate.
const TRUSTED: u32 = 2;
/// Most entries. Source: ours; the JDK's own store has about 150.
const ENTRIES_MAX: u32 = 10_000;
/// Length of the digest at the end. Unit: bytes.
const DIGEST: usize = 20;

/// The store `content` with our CA.
pub(crate) fn amend(content: &[u8], ca: &Ca) -> Bundle {
    let own = if content.starts_with(&MAGIC) { jks(content) } else { pkcs12(content) };
    let Some(own) = own.filter(|own| !own.is_empty()) else { return Bundle::Other };
    if own.iter().any(|(_, der)| der.as_slice() == ca.der().as_ref()) {
        return Bundle::Amended;
    }
    let ours = ("callgate".to_owned(), ca.der().to_vec());
    written(std::iter::once(ours).chain(own).collect()).map_or(Bundle::Other, Bundle::Amend)
}

/// Alias and certificate of each entry; none if anything else is in it.
fn jks(content: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let end = content.len().checked_sub(DIGEST)?;
    let mut rest = content.get(MAGIC.len()..end)?;
    let count = number(&mut rest)?;
    if count > ENTRIES_MAX {
        return None;
    }
    let mut all = Vec::new();
    for _ in 0..count {
        if number(&mut rest)? != TRUSTED {
            return None;
        }
        let alias = String::from_utf8(text(&mut rest)?.to_vec()).ok()?;
        let _made = bytes(&mut rest, 8)?;
        if text(&mut rest)? != b"X.509" {
            return None;
        }
        let length = usize::try_from(number(&mut rest)?).ok()?;
        all.push((alias, certificate(bytes(&mut rest, length)?)?));
    }
    rest.is_empty().then_some(all)
}

fn pkcs12(content: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let open = |password: &str| KeyStore::from_pkcs12(content, password, Pkcs12ImportPolicy::Raw).ok();
    let store = open(PASSWORD).or_else(|| open(""))?;
    let entry = |(alias, entry): (&String, &KeyStoreEntry)| match entry {
        KeyStoreEntry::Certificate(own) => Some((alias.clone(), certificate(own.as_der())?)),
        KeyStoreEntry::PrivateKeyChain(_) | KeyStoreEntry::Secret(_) => None,
    };
    store.entries().map(entry).collect()
}

/// Only what is one: no other bytes are carried over.
fn certificate(der: &[u8]) -> Option<Vec<u8>> {
    let (rest, _) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then(|| der.to_vec())
}

fn written(entries: Vec<(String, Vec<u8>)>) -> Option<Vec<u8>> {
    let mut all = MAGIC.to_vec();
    all.extend(u32::try_from(entries.len()).ok()?.to_be_bytes());
    for (alias, der) in entries {
        all.extend(TRUSTED.to_be_bytes());
        all.extend(u16::try_from(alias.len()).ok()?.to_be_bytes());
        all.extend(alias.as_bytes());
        // When it was made: unknown, and asked by nobody.
        all.extend([0; 8]);
        all.extend([0, 5]);
        all.extend(b"X.509");
        all.extend(u32::try_from(der.len()).ok()?.to_be_bytes());
        all.extend(der);
    }
    // Over the password in UTF-16, a text that tells of its author's age, and the content.
    let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    PASSWORD.encode_utf16().for_each(|unit| digest.update(&unit.to_be_bytes()));
    digest.update(b"Mighty Aphrodite");
    digest.update(&all);
    all.extend(digest.finish().as_ref());
    Some(all)
}

fn bytes<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes(rest, 4)?.first_chunk()?))
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_be_bytes(*bytes(rest, 2)?.first_chunk()?);
    bytes(rest, usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::tests::made;

    fn store(names: &[&str]) -> Vec<u8> {
        written(names.iter().map(|name| ((*name).to_owned(), made(name).der().to_vec())).collect()).unwrap()
    }

    #[test]
    fn what_a_store_holds_stays_and_ours_comes_first() {
        let ours = made("ours");
        let Bundle::Amend(amended) = amend(&store(&["a", "b"]), &ours) else { panic!("not amended") };
        let aliases: Vec<String> = jks(&amended).unwrap().into_iter().map(|(alias, _)| alias).collect();
        assert_eq!(aliases, ["callgate", "a", "b"]);
        assert_eq!(amend(&amended, &ours), Bundle::Amended);
    }

    #[test]
    fn a_store_of_pkcs12_is_read() {
        let (ours, own) = (made("ours"), made("own"));
        let mut store = KeyStore::new();
        let certificate = p12_keystore::Certificate::from_der(own.der()).unwrap();
        store.add_entry("own", KeyStoreEntry::Certificate(certificate));
        for password in [PASSWORD, ""] {
            let Bundle::Amend(amended) = amend(&store.writer(password).write().unwrap(), &ours) else {
                panic!("not amended: `{password}`")
            };
            assert_eq!(jks(&amended).unwrap().len(), 2);
        }
    }

    #[test]
    fn what_is_cut_off_too_long_or_no_store_of_certificates_is_none() {
        let ours = made("ours");
        let whole = store(&["a"]);
        for end in 0..whole.len() {
            assert_eq!(amend(&whole[..end], &ours), Bundle::Other, "{end}");
        }
        let mut many = whole.clone();
        many[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut key = whole.clone();
        key[12..16].copy_from_slice(&1u32.to_be_bytes());
        let mut more = whole.clone();
        more.extend([0; 4]);
        for unfit in [many, key, more, b"not a store".to_vec(), Vec::new()] {
            assert_eq!(amend(&unfit, &ours), Bundle::Other);
        }
    }
}
