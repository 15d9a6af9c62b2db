//! Tokens that were verified: the same bytes need not be verified again until they expire or their key goes away.
//!
//! Keyed by the SHA-256 of the token, so that no token is kept. What is remembered is only ever a success.

use std::sync::Arc;

use aws_lc_rs::digest;
use callgate_model::Caller;

use super::keys::KeyId;
use crate::generations::Generations;

/// Most verified tokens. Beyond it, the ones not used lately are verified again.
pub(super) const SEEN_MAX: usize = 4096;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub fn of(token: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
        Self(bytes)
    }

    /// One of `count` lanes, the same each time.
    pub fn lane(&self, count: usize) -> usize {
        usize::from(self.0.first().copied().unwrap_or_default()) % count.max(1)
    }
}

/// A token that was verified.
#[derive(Clone)]
pub(super) struct Seen {
    /// Its issuer's place in the configuration; the cluster's is behind the last.
    pub issuer: usize,
    /// The key that verified it.
    pub key: KeyId,
    /// Seconds since 1970; no leeway is given here.
    pub exp: u64,
    pub caller: Arc<Caller>,
}

/// The tokens that were verified lately.
pub(super) struct SeenTokens(Generations<Digest, Seen>);

impl SeenTokens {
    pub fn new() -> Self {
        Self(Generations::new(SEEN_MAX))
    }

    pub fn get(&self, digest: &Digest) -> Option<Seen> {
        self.0.get(digest)
    }

    pub fn keep(&self, digest: &Digest, seen: Seen) {
        self.0.get_or(digest, |_| false, || seen);
    }

    pub fn forget(&self, digest: &Digest) {
        self.0.remove(digest);
    }
}
