//! Checks records in the order of their chain and names the first fault.

use std::fmt;

use thiserror::Error;

use crate::{FIRST_SEQ, Hash, genesis, seal};

/// What is wrong with a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Records are missing before this one.
    Gap,
    /// This record stands after one of the same or a higher seq.
    Reordered,
    /// This record does not name the seal of the one before it.
    WrongPrev,
    /// This record's bytes, place or seal were changed.
    Changed,
    /// Records are missing at the end.
    Truncated,
}

impl FaultKind {
    /// The word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Reordered => "reordered",
            Self::WrongPrev => "wrong_prev",
            Self::Changed => "changed",
            Self::Truncated => "truncated",
        }
    }
}

/// The first fault of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The record where it shows; for a truncation, the last record that must be there.
    pub seq: u64,
    /// The record that was expected.
    pub expected: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, seq, expected } = self;
        match kind {
            FaultKind::Gap => write!(f, "records {expected} to {} are missing", seq.saturating_sub(1)),
            FaultKind::Reordered => write!(f, "record {seq} stands where {expected} belongs"),
            FaultKind::WrongPrev => write!(f, "record {seq} is not sealed to the one before it"),
            FaultKind::Changed => write!(f, "record {seq} was changed after it was sealed"),
            FaultKind::Truncated if expected > seq => write!(f, "record {seq} is not the one that the head names"),
            FaultKind::Truncated => write!(f, "records {expected} to {seq} are missing at the end"),
        }
    }
}

/// Checks one stream's records, fed in the order of the chain.
///
/// After a fault it stays where it was: what comes after a break proves nothing.
#[derive(Clone, Debug)]
pub struct Verifier {
    next: u64,
    head: Hash,
}

impl Verifier {
    /// Checks a stream from its first record on.
    #[must_use]
    pub fn from_start(stream: &str) -> Self {
        Self { next: FIRST_SEQ, head: genesis(stream) }
    }

    /// Goes on after record `seq` (0: before the first) with the seal `hash`, which the caller trusts.
    ///
    /// The highest seq has no next: nothing is accepted after it.
    #[must_use]
    pub fn resume(seq: u64, hash: Hash) -> Self {
        Self { next: seq.saturating_add(1), head: hash }
    }

    /// Checks the next record.
    ///
    /// # Errors
    /// [`Fault`] if it is not the next one, is not sealed to the one before, or its seal does not fit its bytes.
    pub fn check(&mut self, seq: u64, prev: &[u8], hash: &[u8], body: &[u8]) -> Result<Hash, Fault> {
        let fault = |kind| Fault { kind, seq, expected: self.next };
        if seq > self.next {
            return Err(fault(FaultKind::Gap));
        }
        // A chain of 2^64 records does not exist: the highest seq is refused, so that `next` never wraps.
        if seq < self.next || seq == u64::MAX {
            return Err(fault(FaultKind::Reordered));
        }
        if prev != self.head.as_bytes() {
            return Err(fault(FaultKind::WrongPrev));
        }
        let sealed = seal(&self.head, seq, body);
        if hash != sealed.as_bytes() {
            return Err(fault(FaultKind::Changed));
        }
        self.next = seq + 1;
        self.head = sealed;
        Ok(sealed)
    }

    /// Compares what was checked with a head that is known from elsewhere (an acknowledgement, a checkpoint).
    ///
    /// More records than the head names are no fault: the stream went on; but where the head itself is passed, its
    /// hash must be compared at that record, by [`Verifier::head`].
    ///
    /// # Errors
    /// [`Fault`] of kind `Truncated` if records up to `seq` are missing, `Changed` if the head is another.
    pub fn check_head(&self, seq: u64, hash: &Hash) -> Result<(), Fault> {
        let last = self.last_seq();
        if last < seq {
            return Err(Fault { kind: FaultKind::Truncated, seq, expected: self.next });
        }
        if last == seq && self.head != *hash {
            return Err(Fault { kind: FaultKind::Changed, seq, expected: self.next });
        }
        Ok(())
    }

    /// Seq of the last good record; 0 if there is none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Seal of the last good record; of an empty stream, its genesis.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Link {
        seq: u64,
        prev: Vec<u8>,
        hash: Vec<u8>,
        body: Vec<u8>,
    }

    fn chain(stream: &str, bodies: &[Vec<u8>]) -> Vec<Link> {
        let mut prev = genesis(stream);
        (FIRST_SEQ..)
            .zip(bodies)
            .map(|(seq, body)| {
                let hash = seal(&prev, seq, body);
                let link = Link { seq, prev: prev.to_vec(), hash: hash.to_vec(), body: body.clone() };
                prev = hash;
                link
            })
            .collect()
    }

    fn verify(stream: &str, links: &[Link]) -> Result<Verifier, Fault> {
        let mut verifier = Verifier::from_start(stream);
        for link in links {
            verifier.check(link.seq, &link.prev, &link.hash, &link.body)?;
        }
        Ok(verifier)
    }

    fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..12)
    }

    fn kind(result: Result<Verifier, Fault>) -> FaultKind {
        result.unwrap_err().kind
    }

    #[test]
    fn names_each_fault() {
        let links = chain("n/agent", &[b"a".to_vec(), b"b".to_vec(), b"c".to_vec(), b"d".to_vec()]);
        let whole = verify("n/agent", &links).unwrap();
        assert_eq!(whole.last_seq(), 4);

        let gap = [links[0].clone(), links[3].clone()];
        let fault = verify("n/agent", &gap).unwrap_err();
        assert_eq!((fault.kind, fault.seq, fault.expected), (FaultKind::Gap, 4, 2));
        assert_eq!(fault.to_string(), "records 2 to 3 are missing");

        let twice = [links[0].clone(), links[0].clone()];
        assert_eq!(kind(verify("n/agent", &twice)), FaultKind::Reordered);

        assert_eq!(kind(verify("n/run-1", &links)), FaultKind::WrongPrev);

        let mut changed = links.clone();
        changed[1].body = b"B".to_vec();
        assert_eq!(kind(verify("n/agent", &changed)), FaultKind::Changed);

        let short = verify("n/agent", &links[..2]).unwrap();
        let fault = short.check_head(4, &whole.head()).unwrap_err();
        assert_eq!(fault.to_string(), "records 3 to 4 are missing at the end");
        assert!(whole.check_head(4, &whole.head()).is_ok());
        assert_eq!(whole.check_head(4, &short.head()).unwrap_err().kind, FaultKind::Changed);
        assert!(whole.check_head(2, &short.head()).is_ok());
    }

    #[test]
    fn resealing_a_changed_record_breaks_the_next() {
        let mut links = chain("s", &[b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
        links[1].body = b"x".to_vec();
        links[1].hash = seal(&Hash::try_from(&links[1].prev[..]).unwrap(), 2, b"x").to_vec();
        let fault = verify("s", &links).unwrap_err();
        assert_eq!((fault.kind, fault.seq), (FaultKind::WrongPrev, 3));
    }

    #[test]
    fn the_highest_seq_is_refused_and_does_not_wrap() {
        let mut verifier = Verifier::resume(u64::MAX, Hash([0; 32]));
        let hash = seal(&Hash([0; 32]), u64::MAX, b"");
        assert!(verifier.check(u64::MAX, &[0; 32], hash.as_bytes(), b"").is_err());
    }

    proptest! {
        #[test]
        fn a_whole_chain_is_whole_and_can_be_resumed(bodies in bodies(), cut in any::<prop::sample::Index>()) {
            let links = chain("s", &bodies);
            let whole = verify("s", &links).unwrap();
            let at = cut.index(links.len() + 1);
            let first = verify("s", &links[..at]).unwrap();
            let mut second = Verifier::resume(first.last_seq(), first.head());
            for link in &links[at..] {
                second.check(link.seq, &link.prev, &link.hash, &link.body).unwrap();
            }
            prop_assert_eq!(second.head(), whole.head());
        }

        #[test]
        fn any_changed_bit_is_found(bodies in bodies(), which in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
            let whole = chain("s", &bodies);
            let mut links = whole.clone();
            let at = which.index(links.len());
            let link = &mut links[at];
            let mut bytes = [&link.seq.to_be_bytes()[..], &link.prev, &link.hash, &link.body].concat();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            link.seq = u64::from_be_bytes(bytes[..8].try_into().unwrap());
            link.prev = bytes[8..40].to_vec();
            link.hash = bytes[40..72].to_vec();
            link.body = bytes[72..].to_vec();
            prop_assert!(verify("s", &links).is_err());
        }

        #[test]
        fn any_deletion_is_found(bodies in bodies(), which in any::<prop::sample::Index>()) {
            let whole = chain("s", &bodies);
            let head = verify("s", &whole).unwrap().head();
            let mut links = whole.clone();
            links.remove(which.index(whole.len()));
            let found = verify("s", &links).and_then(|v| v.check_head(whole.len() as u64, &head));
            prop_assert!(found.is_err());
        }

        #[test]
        fn any_swap_is_found(bodies in bodies(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            let mut links = chain("s", &bodies);
            if links.len() < 2 {
                return Ok(());
            }
            let a = a.index(links.len());
            // Any but `a`.
            let b = (a + 1 + b.index(links.len() - 1)) % links.len();
            links.swap(a, b);
            prop_assert!(verify("s", &links).is_err());
        }

        #[test]
        fn nothing_panics(seq: u64, prev: Vec<u8>, hash: Vec<u8>, body: Vec<u8>, at: u64, head: [u8; 32]) {
            let mut verifier = Verifier::resume(at, Hash(head));
            let _ = verifier.check(seq, &prev, &hash, &body);
            let _ = verifier.check_head(seq, &Hash(head)).map_err(|fault| fault.to_string());
        }
    }
}
