//! Java's stores: what is amended holds each old certificate under its name, ours under one of its own, and nothing else.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use callgate_trust::pem::Bundle;
use callgate_trust::{Ca, java};

use crate::seeds::OURS;

static CA: LazyLock<Ca> = LazyLock::new(|| Ca::of_pem(OURS).expect("a certificate"));

/// What a JKS begins with, and how long the digest at its end is.
const MAGIC: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
const DIGEST: usize = 20;
/// What stands before each certificate in a PKCS#12: x509Certificate, 1.2.840.113549.1.9.22.1.
const MARK: &[u8] = b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x09\x16\x01";
/// Tags and contents of the elements around the bags of a PKCS#12: pkcs7-data, 1.2.840.113549.1.7.1, and version 3.
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const VERSION: &[u8] = b"\x02\x01\x03";

/// The input as it is; as a JKS whose digest is missing; and as the bags of a PKCS#12, with the lengths around them right.
pub fn run(data: &[u8]) -> bool {
    let raw = check(data);
    let whole = if data.starts_with(&MAGIC) { digested(data) } else { wrapped(data) };
    raw | check(&whole)
}

fn check(data: &[u8]) -> bool {
    let entries = java::entries(data);
    if let Some(entries) = &entries {
        let read: Vec<&[u8]> = entries.iter().map(|entry| entry.der).collect();
        assert_eq!(read, if data.starts_with(&MAGIC) { listed(data) } else { found(data) });
    }
    match java::amend(data, &CA) {
        Bundle::Other => assert!(entries.is_none(), "what was read is not amended"),
        Bundle::Amended => assert!(entries.is_some_and(|all| all.iter().any(|entry| entry.der == CA.der().as_ref()))),
        Bundle::Amend(amended) => {
            let (old, new) = (entries.expect("it was read"), java::entries(&amended).expect("what is written is read"));
            let (ours, kept) = new.split_first().expect("ours");
            assert_eq!((ours.der, kept), (CA.der().as_ref(), &old[..]));
            assert!(old.iter().all(|entry| !entry.alias.eq_ignore_ascii_case(&ours.alias)), "ours may be replaced");
            assert_eq!(java::amend(&amended, &CA), Bundle::Amended);
            // A name of two bytes for each unit takes up to three.
            assert!(amended.len() <= 2 * data.len() + CA.der().len() + 100, "it grew to {}", amended.len());
            return true;
        }
    }
    false
}

/// The certificates of a JKS, by another reading.
fn listed(data: &[u8]) -> Vec<&[u8]> {
    let number =
        |at: usize, length: usize| data[at..at + length].iter().fold(0, |sum, one| sum << 8 | usize::from(*one));
    let (mut at, mut all) = (12, Vec::new());
    while at < data.len() - DIGEST {
        at += 4 + 2 + number(at + 4, 2) + 8 + 7;
        let length = number(at, 4);
        all.push(&data[at + 4..at + 4 + length]);
        at += 4 + length;
    }
    assert_eq!((at, all.len()), (data.len() - DIGEST, number(8, 4)));
    all
}

/// The certificates of a PKCS#12 that was read, by another reading: what the first mark in each bag stands before.
fn found(data: &[u8]) -> Vec<&[u8]> {
    let (pfx, _) = open(data);
    let (_version, safes) = open(pfx);
    let bags = items(contents(open(safes).0)).into_iter().flat_map(|info| items(contents(info)));
    bags.map(|bag| {
        let at = bag.windows(MARK.len()).position(|window| window == MARK).expect("a certificate");
        open(open(&bag[at + MARK.len()..]).0).0
    })
    .collect()
}

/// What is in the sequence that a ContentInfo wraps.
fn contents(info: &[u8]) -> &[u8] {
    let (_oid, explicit) = open(info);
    open(open(open(explicit).0).0).0
}

/// The contents of all elements of a list.
fn items(mut list: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while !list.is_empty() {
        let (content, rest) = open(list);
        all.push(content);
        list = rest;
    }
    all
}

/// The content of the first element, and what is behind it.
fn open(data: &[u8]) -> (&[u8], &[u8]) {
    let first = usize::from(data[1]);
    let digits = first.saturating_sub(0x80);
    let length = data[2..2 + digits].iter().fold(0, |sum, one| sum << 8 | usize::from(*one));
    data[2 + digits..].split_at(if digits == 0 { first } else { length })
}

/// A JKS whose digest fits, as the JDK makes it.
fn digested(data: &[u8]) -> Vec<u8> {
    let salted = [&b"\0c\0h\0a\0n\0g\0e\0i\0tMighty Aphrodite"[..], data].concat();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &salted);
    [data, digest.as_ref()].concat()
}

/// A PKCS#12 of these bags.
fn wrapped(bags: &[u8]) -> Vec<u8> {
    let contents = |inner: &[u8]| element(0x30, &[DATA, &element(0xa0, &[&element(0x04, &[inner])])]);
    let safes = element(0x30, &[&contents(&element(0x30, &[bags]))]);
    element(0x30, &[VERSION, &contents(&safes)])
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).expect("inputs are small").to_be_bytes();
    [&[tag, 0x84][..], &length, &content].concat()
}
