//! Java's trust stores: JKS or PKCS#12 in, JKS with our CA out.
//!
//! JKS, although it is old: without a password, which is how the JDK opens its own `cacerts`, every release reads it, and
//! since release 8 whatever type the store is said to have. What programs see of a store is kept whole: one that holds
//! anything but trusted certificates, or is under a password that is not the JDK's own, is left as it is.
//!
//! Takes time and memory in proportion to the content, whatever numbers stand in it.

mod jks;
mod pkcs12;

use std::borrow::Cow;
use std::collections::BTreeSet;

use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Ca;
use crate::pem::Bundle;

/// Most entries. Source: ours; the JDK's own store has about 150.
const ENTRIES_MAX: usize = 10_000;
/// What our entry is called, unless another one is.
const ALIAS: &str = "callgate";

/// One entry: a certificate that is trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The name that programs ask for it by, in Java's own UTF-8, which is not everybody's. Unit: bytes,
    /// at most 65,535 of them.
    pub alias: Cow<'a, [u8]>,
    /// The certificate, as DER.
    pub der: &'a [u8],
}

/// The store `content` with our CA.
#[must_use]
pub fn amend(content: &[u8], ca: &Ca) -> Bundle {
    let Some(own) = entries(content) else { return Bundle::Other };
    if own.iter().any(|entry| entry.der == ca.der().as_ref()) {
        return Bundle::Amended;
    }
    let alias = Cow::Owned(free_alias(&own).into_bytes());
    let ours = Entry { alias, der: ca.der().as_ref() };
    jks::written(std::iter::once(ours).chain(own)).map_or(Bundle::Other, Bundle::Amend)
}

/// All that the store `content` holds; none if it is no store, or not of trusted certificates alone, or has none at all.
#[must_use]
pub fn entries(content: &[u8]) -> Option<Vec<Entry<'_>>> {
    let all = if content.starts_with(&jks::MAGIC) { jks::entries(content) } else { pkcs12::entries(content) };
    all.filter(|all| !all.is_empty())
}

/// An alias that none of `own` has: of two entries of one alias Java keeps the last.
fn free_alias(own: &[Entry<'_>]) -> String {
    let taken: BTreeSet<Vec<u8>> = own.iter().map(|entry| entry.alias.to_ascii_lowercase()).collect();
    let mut alias = ALIAS.to_owned();
    let mut n = 1;
    while taken.contains(alias.as_bytes()) {
        n += 1;
        alias = format!("{ALIAS}-{n}");
    }
    alias
}

/// Only what is one: no other bytes are carried over.
fn certificate(der: &[u8]) -> Option<&[u8]> {
    let (rest, _) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then_some(der)
}

fn bytes<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::tests::made;

    fn store(names: &[&str]) -> Vec<u8> {
        let all: Vec<(&str, Ca)> = names.iter().map(|name| (*name, made(name))).collect();
        let entry = |(name, ca): &'_ (&str, Ca)| (name.as_bytes().to_vec(), ca.der().to_vec());
        let all: Vec<_> = all.iter().map(entry).collect();
        jks::written(all.iter().map(|(alias, der)| Entry { alias: alias.into(), der })).unwrap()
    }

    fn aliases(store: &[u8]) -> Vec<String> {
        let all = entries(store).unwrap();
        all.iter().map(|entry| String::from_utf8(entry.alias.to_vec()).unwrap()).collect()
    }

    fn amended(store: &[u8], ours: &Ca) -> Vec<u8> {
        let Bundle::Amend(amended) = amend(store, ours) else { panic!("not amended") };
        let (before, after) = (entries(store).unwrap(), entries(&amended).unwrap());
        assert_eq!((after[0].der, &after[1..]), (ours.der().as_ref(), &before[..]));
        assert_eq!(amend(&amended, ours), Bundle::Amended);
        amended
    }

    #[test]
    fn what_a_store_holds_stays_and_ours_comes_first() {
        assert_eq!(aliases(&amended(&store(&["a", "b"]), &made("ours"))), ["callgate", "a", "b"]);
    }

    #[test]
    fn no_entry_of_the_store_takes_the_place_of_ours() {
        let store = store(&["Callgate", "callgate-2", "callgate-4"]);
        assert_eq!(aliases(&amended(&store, &made("ours")))[0], "callgate-3");
    }

    #[test]
    fn a_store_of_pkcs12_without_a_password_is_read() {
        // Made by `keytool` of JDK 25 with certProtectionAlgorithm and macAlgorithm NONE.
        let store = include_bytes!("../testdata/passwordless.p12");
        assert_eq!(aliases(&amended(store, &made("ours"))), ["callgate", "own"]);
        for end in 0..store.len() {
            assert_eq!(amend(&store[..end], &made("ours")), Bundle::Other, "{end}");
        }
        // By JDK 17; aliases of Java are in lower case.
        let two = amended(include_bytes!("../testdata/two.p12"), &made("ours"));
        assert_eq!(aliases(&two), ["callgate", "old a", "old b"]);
    }

    #[test]
    fn what_is_cut_off_too_long_or_no_store_of_certificates_is_none() {
        let ours = made("ours");
        let whole = store(&["a"]);
        for end in 0..whole.len() {
            assert_eq!(amend(&whole[..end], &ours), Bundle::Other, "{end}");
        }
        let mut more = whole.clone();
        more.extend([0; 4]);
        for unfit in [more, store(&[]), b"not a store".to_vec(), Vec::new()] {
            assert_eq!(amend(&unfit, &ours), Bundle::Other);
        }
    }
}
