//! JKS, the format of the JDK's JavaKeyStore: a list of entries, and a digest over a password and the list.

use std::borrow::Cow;

use aws_lc_rs::digest;

use super::{ENTRIES_MAX, Entry, bytes, certificate};
use crate::variables::PASSWORD;

/// Marks a JKS. Source: the JDK's JavaKeyStore, magic and version.
pub(super) const MAGIC: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// Tag of a trusted certificate.
const TRUSTED: u32 = 2;
/// The kind of certificate.
const X509: &[u8] = b"X.509";
/// Length of the digest at the end. Unit: bytes.
const DIGEST: usize = 20;

/// The entries; none if anything else is in it, or it is under another password than the JDK's: what we wrote would be
/// under that, and a program that gives its own could not open the store any more.
pub(super) fn entries(content: &[u8]) -> Option<Vec<Entry<'_>>> {
    let (listed, digest) = content.split_at_checked(content.len().checked_sub(DIGEST)?)?;
    if self::digest(listed).as_ref() != digest {
        return None;
    }
    let mut rest = listed.strip_prefix(&MAGIC)?;
    let count = usize::try_from(number(&mut rest)?).ok()?;
    if count > ENTRIES_MAX {
        return None;
    }
    let mut all = Vec::new();
    for _ in 0..count {
        if number(&mut rest)? != TRUSTED {
            return None;
        }
        let alias = Cow::Borrowed(text(&mut rest)?);
        let _made = bytes(&mut rest, 8)?;
        if text(&mut rest)? != X509 {
            return None;
        }
        let length = usize::try_from(number(&mut rest)?).ok()?;
        all.push(Entry { alias, der: certificate(bytes(&mut rest, length)?)? });
    }
    rest.is_empty().then_some(all)
}

/// A store of `entries`; none if one of them is longer than the format has room for.
pub(super) fn written<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Option<Vec<u8>> {
    let (mut list, mut count) = (Vec::new(), 0_u32);
    for Entry { alias, der } in entries {
        list.extend(TRUSTED.to_be_bytes());
        list.extend(u16::try_from(alias.len()).ok()?.to_be_bytes());
        list.extend(alias.as_ref());
        // When it was made: unknown, and asked by nobody.
        list.extend([0; 8]);
        list.extend([0, 5]);
        list.extend(X509);
        list.extend(u32::try_from(der.len()).ok()?.to_be_bytes());
        list.extend(der);
        count += 1;
    }
    let mut all = [&MAGIC[..], &count.to_be_bytes(), &list].concat();
    let digest = digest(&all);
    all.extend(digest.as_ref());
    Some(all)
}

/// Over the password in UTF-16, a text that tells of its author's age, and the list.
fn digest(listed: &[u8]) -> digest::Digest {
    let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    PASSWORD.encode_utf16().for_each(|unit| digest.update(&unit.to_be_bytes()));
    digest.update(b"Mighty Aphrodite");
    digest.update(listed);
    digest.finish()
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

    /// With a digest that fits what it was changed to.
    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let own = made("own");
        let entry = Entry { alias: b"own".into(), der: own.der() };
        let mut store = written(std::iter::once(entry)).unwrap();
        store.truncate(store.len() - DIGEST);
        change(&mut store);
        let digest = digest(&store);
        store.extend(digest.as_ref());
        store
    }

    #[test]
    fn numbers_that_lie_and_what_is_no_trusted_certificate_are_refused() {
        assert!(entries(&changed(|_| {})).is_some());
        // Offsets: 8 the count, 12 the tag, 16 the alias's length, 29 the type's, 36 the certificate's.
        let number = |at: usize, to: u32| changed(|store| store[at..at + 4].copy_from_slice(&to.to_be_bytes()));
        for unfit in [number(8, u32::MAX), number(8, 2), number(8, 0), number(12, 1), number(12, 3)] {
            assert_eq!(entries(&unfit), None);
        }
        for unfit in [changed(|store| store[16] = 0xff), changed(|store| store[31] = b'Y'), number(36, u32::MAX)] {
            assert_eq!(entries(&unfit), None);
        }
        assert_eq!(entries(&changed(|store| *store.last_mut().unwrap() ^= 1)).map(|all| all.len()), Some(1));
        assert_eq!(entries(&changed(|store| store[40] = 0x31)), None, "no certificate");
        assert_eq!(entries(&changed(|store| store.push(0))), None);
    }

    #[test]
    fn an_alias_that_is_no_utf8_for_others_is_kept() {
        // How Java writes NUL and what is beyond the first plane.
        let alias = b"\xc0\x80\xed\xa0\xbd\xed\xb8\x80";
        let own = made("own");
        let store = written(std::iter::once(Entry { alias: alias.into(), der: own.der() })).unwrap();
        assert_eq!(entries(&store).unwrap()[0].alias.as_ref(), alias);
    }

    #[test]
    fn a_store_under_another_password_is_left_alone() {
        let mut store = changed(|_| {});
        let at = store.len() - DIGEST;
        let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        "secret".encode_utf16().for_each(|unit| digest.update(&unit.to_be_bytes()));
        digest.update(b"Mighty Aphrodite");
        digest.update(&store[..at]);
        let other = digest.finish();
        store[at..].copy_from_slice(other.as_ref());
        assert_eq!(entries(&store), None);
    }
}
