//! Which CA is in use, and when the next one takes over.
//!
//! Trust precedes use: the next one is published among those that are trusted for [`ANNOUNCED`] before it signs, and one
//! that has signed is trusted until it ends.

use std::time::{Duration, SystemTime};

use callgate_mtls::{Authority, TlsError};

/// Life of a CA.
const LIFE: Duration = Duration::from_secs(365 * 86_400);
/// When less is left, the next one is made.
const RENEW: Duration = Duration::from_secs(120 * 86_400);
/// How long the next one is trusted before it signs: a volume of a pod follows its object within two minutes.
const ANNOUNCED: Duration = Duration::from_secs(86_400);

const NAME: &str = "Callgate cluster CA";

/// The CA that signs, and the one that will.
pub struct Authorities {
    pub current: Authority,
    pub next: Option<Authority>,
}

impl Authorities {
    /// What is to be, given what is kept; and whether that differs from it.
    pub fn at(now: SystemTime, kept: Option<Self>) -> Result<(Self, bool), TlsError> {
        let Some(Self { current, next }) = kept else {
            return Ok((Self { current: Authority::make(NAME, LIFE)?, next: None }, true));
        };
        let left = |authority: &Authority| authority.expires().duration_since(now).unwrap_or_default();
        match next {
            Some(next) if left(&next) <= LIFE - ANNOUNCED || left(&current).is_zero() => {
                Ok((Self { current: next, next: None }, true))
            }
            None if left(&current) < RENEW => Ok((Self { current, next: Some(Authority::make(NAME, LIFE)?) }, true)),
            next => Ok((Self { current, next }, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_announced_before_it_signs() {
        let now = SystemTime::now();
        let days = |days: u64| now + Duration::from_secs(days * 86_400);
        let (first, changed) = Authorities::at(now, None).unwrap();
        assert!(changed && first.next.is_none());
        let first_pem = first.current.pem().to_owned();
        let (same, changed) = Authorities::at(days(244), Some(first)).unwrap();
        assert!(!changed && same.next.is_none());
        // A CA that is made here lives from today on, so time is turned for the last look alone.
        let (announced, changed) = Authorities::at(days(246), Some(same)).unwrap();
        assert!(changed && announced.current.pem() == first_pem);
        let next_pem = announced.next.as_ref().unwrap().pem().to_owned();
        let (waiting, changed) = Authorities::at(now, Some(announced)).unwrap();
        assert!(!changed && waiting.current.pem() == first_pem);
        let (taken, changed) = Authorities::at(days(1) + Duration::from_secs(1), Some(waiting)).unwrap();
        assert!(changed && taken.next.is_none() && taken.current.pem() == next_pem);
    }

    #[test]
    fn one_that_has_ended_signs_nothing() {
        let ended = Authority::make(NAME, Duration::ZERO).unwrap();
        let next = Authority::make(NAME, LIFE).unwrap();
        let now = SystemTime::now();
        let next_pem = next.pem().to_owned();
        let (taken, _) = Authorities::at(now, Some(Authorities { current: ended, next: Some(next) })).unwrap();
        assert_eq!(taken.current.pem(), next_pem);
    }
}
