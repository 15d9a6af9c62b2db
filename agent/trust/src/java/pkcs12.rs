//! PKCS#12 (RFC 7292) without any password, as JDKs have their own store since release 18.
//!
//! Nothing is derived, verified or decrypted: how long that takes is the file's to say, up to 2^31 rounds. So a store with
//! a password, be it for its integrity alone, is left as it is; and with one, what we write could not be opened by it.

use super::{ENTRIES_MAX, Entry, bytes, certificate};

/// Tags of DER.
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const BMP: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT: u8 = 0xa0;

/// Contents as they are: pkcs7-data, 1.2.840.113549.1.7.1.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// A bag with a certificate: 1.2.840.113549.1.12.10.1.3.
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// Of X.509: 1.2.840.113549.1.9.22.1.
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// The attribute with the alias, friendlyName: 1.2.840.113549.1.9.20.
const NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// The attribute by which Java trusts a certificate: 2.16.840.1.113894.746875.1.1.
const TRUSTED: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];

/// The entries; none if anything but certificates that Java trusts is in it.
pub(super) fn entries(content: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut pfx = only(content, SEQUENCE)?;
    if next(&mut pfx, INTEGER)? != [3] {
        return None;
    }
    let mut safes = only(data(&mut pfx)?, SEQUENCE)?;
    // Behind it would be the password's check.
    if !pfx.is_empty() {
        return None;
    }
    let mut all = Vec::new();
    while !safes.is_empty() {
        let mut bags = only(data(&mut safes)?, SEQUENCE)?;
        while !bags.is_empty() {
            if all.len() == ENTRIES_MAX {
                return None;
            }
            all.push(entry(next(&mut bags, SEQUENCE)?, all.len())?);
        }
    }
    Some(all)
}

/// What is in the ContentInfo at the beginning of `rest`, unless it is encrypted.
fn data<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut info = next(rest, SEQUENCE)?;
    let content = (next(&mut info, OID)? == DATA).then(|| next(&mut info, EXPLICIT)).flatten()?;
    info.is_empty().then(|| only(content, OCTETS)).flatten()
}

/// The entry in a bag, which is the `n`-th.
fn entry(mut bag: &[u8], n: usize) -> Option<Entry<'_>> {
    if next(&mut bag, OID)? != CERTIFICATE_BAG {
        return None;
    }
    let mut value = only(next(&mut bag, EXPLICIT)?, SEQUENCE)?;
    if next(&mut value, OID)? != X509 {
        return None;
    }
    let der = certificate(only(only(value, EXPLICIT)?, OCTETS)?)?;
    let (mut alias, mut trusted) = (format!("own-{n}").into_bytes(), false);
    let mut attributes = only(bag, SET)?;
    while !attributes.is_empty() {
        let mut attribute = next(&mut attributes, SEQUENCE)?;
        match next(&mut attribute, OID)? {
            NAME => alias = lower(only(only(attribute, SET)?, BMP)?)?,
            TRUSTED => trusted = true,
            _ => {}
        }
    }
    // Others are certificates of keys: Java does not show them, and we do not have them trusted.
    trusted.then_some(Entry { alias: alias.into(), der })
}

/// A name of two bytes for each unit as Java writes it into a JKS: each unit as UTF-8 on its own, NUL in two bytes; in
/// lower case, as aliases are; none if it is longer than a JKS has room for. Beyond ASCII Java knows better what that is; only who asks by the name would notice.
fn lower(name: &[u8]) -> Option<Vec<u8>> {
    let (units, []) = name.as_chunks::<2>() else { return None };
    let mut all = Vec::new();
    for unit in units {
        let [high, low] = *unit;
        match u16::from_be_bytes(*unit) {
            1..=0x7f => all.push(low.to_ascii_lowercase()),
            unit @ (0 | 0x80..=0x7ff) => all.extend([0xc0 | (unit >> 6) as u8, 0x80 | low & 0x3f]),
            unit => all.extend([0xe0 | high >> 4, 0x80 | (unit >> 6 & 0x3f) as u8, 0x80 | low & 0x3f]),
        }
    }
    (all.len() <= usize::from(u16::MAX)).then_some(all)
}

/// The content of the one element that `whole` is.
fn only(mut whole: &[u8], tag: u8) -> Option<&[u8]> {
    let content = next(&mut whole, tag)?;
    whole.is_empty().then_some(content)
}

/// The content of the element at the beginning of `rest`, which is moved behind it.
fn next<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    if bytes(rest, 1)? != [tag] {
        return None;
    }
    let length = match *bytes(rest, 1)?.first()? {
        short @ 0..=0x7f => usize::from(short),
        long @ 0x81..=0x84 => {
            let digits = bytes(rest, usize::from(long - 0x80))?;
            digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
        }
        _ => return None,
    };
    bytes(rest, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::tests::made;
    use crate::variables::PASSWORD;

    const TWO: &[u8] = include_bytes!("../../testdata/two.p12");

    fn element(tag: u8, content: &[&[u8]]) -> Vec<u8> {
        let content = content.concat();
        [&[tag, 0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), &content].concat()
    }

    fn contents(oid: &[u8], content: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[&element(OID, &[oid]), &element(EXPLICIT, &[&element(OCTETS, &[content])])])
    }

    fn bag(kind: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let own = element(EXPLICIT, &[&element(OCTETS, &[made("own").der()])]);
        let value = element(SEQUENCE, &[&element(OID, &[X509]), &own]);
        element(
            SEQUENCE,
            &[&element(OID, &[kind]), &element(EXPLICIT, &[&value]), &element(SET, &[&attributes.concat()])],
        )
    }

    fn attribute(oid: &[u8], value: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[&element(OID, &[oid]), &element(SET, &[value])])
    }

    fn store(safes: &[Vec<u8>], behind: &[u8]) -> Vec<u8> {
        let safes = contents(DATA, &element(SEQUENCE, &[&safes.concat()]));
        element(SEQUENCE, &[&[INTEGER, 1, 3], &safes, behind])
    }

    fn safe(bags: &[Vec<u8>]) -> Vec<u8> {
        contents(DATA, &element(SEQUENCE, &[&bags.concat()]))
    }

    #[test]
    fn only_certificates_that_java_trusts_make_a_store() {
        let trusted = || bag(CERTIFICATE_BAG, &[attribute(TRUSTED, &[])]);
        let fits = |store: &[u8]| entries(store).map(|all| all.len());
        assert_eq!(fits(&store(&[safe(&[trusted(), trusted()]), safe(&[trusted()])], &[])), Some(3));
        // A certificate of a key, a key, contents that are encrypted, and the check of a password.
        assert_eq!(fits(&store(&[safe(&[trusted(), bag(CERTIFICATE_BAG, &[])])], &[])), None);
        let key = [&CERTIFICATE_BAG[..10], &[1]].concat();
        assert_eq!(fits(&store(&[safe(&[trusted(), bag(&key, &[attribute(TRUSTED, &[])])])], &[])), None);
        let encrypted = contents(&[&DATA[..8], &[6]].concat(), b"secret");
        assert_eq!(fits(&store(&[safe(&[trusted()]), encrypted], &[])), None);
        assert_eq!(fits(&store(&[safe(&[trusted()])], &element(SEQUENCE, &[]))), None);
    }

    #[test]
    fn a_store_with_a_password_is_refused_at_once_whatever_its_rounds() {
        let own = p12_keystore::Certificate::from_der(made("own").der()).unwrap();
        let mut store = p12_keystore::KeyStore::new();
        store.add_entry("own", p12_keystore::KeyStoreEntry::Certificate(own));
        assert_eq!(entries(&store.writer(PASSWORD).write().unwrap()), None);
        // A store without encryption, whose check takes 2^31 - 1 rounds: minutes of a core.
        let hostile = element(
            SEQUENCE,
            &[&element(SEQUENCE, &[]), &element(OCTETS, &[b"salt"]), &[INTEGER, 4, 0x7f, 0xff, 0xff, 0xff]],
        );
        let whole = self::store(&[safe(&[bag(CERTIFICATE_BAG, &[attribute(TRUSTED, &[])])])], &hostile);
        let began = std::time::Instant::now();
        assert_eq!(entries(&whole), None);
        assert!(began.elapsed() < std::time::Duration::from_secs(1));
    }

    #[test]
    fn names_are_written_as_java_does() {
        let units: Vec<u8> = "Aé€😀\0".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(lower(&units).unwrap(), b"a\xc3\xa9\xe2\x82\xac\xed\xa0\xbd\xed\xb8\x80\xc0\x80");
        assert_eq!(lower(b"odd"), None);
        assert_eq!(lower(&[0x20; 2 * 21_845]).map(|name| name.len()), Some(65_535));
        assert_eq!(lower(&[0x20; 2 * 21_846]), None);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for at in 0..TWO.len() {
            let mut changed = TWO.to_vec();
            changed[at] ^= 0x80;
            // It is another store, or none; and what it has is certificates.
            for entry in entries(&changed).unwrap_or_default() {
                assert_eq!(certificate(entry.der), Some(entry.der), "{at}");
            }
        }
        for lie in [&[0x80][..], &[0x84, 0xff, 0xff, 0xff, 0xff], &[0x85, 0, 0, 0, 0, 1], &[0xff]] {
            let whole = [&[SEQUENCE][..], lie, &[0; 64]].concat();
            assert_eq!(entries(&whole), None, "{lie:?}");
        }
    }
}
