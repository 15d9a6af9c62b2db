//! How a record is sealed to the one before it.

use aws_lc_rs::digest::{Context, SHA256};

use crate::Hash;

/// Seq of the first record of a stream.
pub const FIRST_SEQ: u64 = 1;

/// Says what is hashed, so that no seal can be mistaken for another digest of ours, nor for a genesis.
const GENESIS_DOMAIN: &[u8] = b"callgate seal v1\0";
const RECORD_DOMAIN: &[u8] = b"callgate record v1\0";

/// What the first record of `stream` is sealed to: SHA-256("callgate seal v1\0" || stream).
///
/// It ties a chain to its name: records of one stream cannot be passed off as another's.
#[must_use]
pub fn genesis(stream: &str) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(GENESIS_DOMAIN);
    context.update(stream.as_bytes());
    Hash::of_digest(&context.finish())
}

/// The seal of record `seq` with the bytes `body`, after the record whose seal is `prev`.
///
/// SHA-256("callgate record v1\0" || prev || seq || length of body || body), numbers as 8 bytes, big-endian.
#[must_use]
pub fn seal(prev: &Hash, seq: u64, body: &[u8]) -> Hash {
    let mut head = [0_u8; RECORD_DOMAIN.len() + Hash::LEN + 16];
    let length = body.len() as u64;
    let parts = [RECORD_DOMAIN, prev.as_bytes(), &seq.to_be_bytes(), &length.to_be_bytes()];
    for (to, from) in head.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    let mut context = Context::new(&SHA256);
    context.update(&head);
    context.update(body);
    Hash::of_digest(&context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with Python: hashlib.sha256(b"callgate seal v1\0" + b"node/agent"), and so on. They must never change.
    #[test]
    fn known_answers() {
        let start = genesis("node/agent");
        assert_eq!(start.to_string(), "fb2100264c1bcbb6af4d844c93f665420bf6ae924937ef7c2a6649769cf250d4");
        assert_eq!(
            seal(&start, 1, b"").to_string(),
            "e76d7f9e6133bb10ea08b90edd03ae6f90b5d56b6a7026d203dfc861693d71fa"
        );
        assert_eq!(
            seal(&start, 0x0102_0304_0506_0708, b"callgate").to_string(),
            "acd9e087112dcad78b0fb8853e669205e35c8d1103eda86439efc4dcbfc8f04f"
        );
    }

    #[test]
    fn every_input_counts() {
        let start = genesis("a");
        let seals = [
            start,
            genesis("b"),
            genesis(""),
            seal(&start, 1, b"x"),
            seal(&start, 2, b"x"),
            seal(&start, 1, b"y"),
            seal(&start, 1, b"x\0"),
            seal(&genesis("b"), 1, b"x"),
        ];
        let distinct: std::collections::BTreeSet<_> = seals.iter().collect();
        assert_eq!(distinct.len(), seals.len());
    }
}
