//! Who sent a datagram of DNS: the kernel's notes, and what of them is still to be used.
//!
//! The programs keep one note a sender, with the number of datagrams that it stands for; it is taken with the first
//! one that is read, and kept here for the others. A datagram that could be of either of two sockets is nobody's.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use callgate_ebpf_common::{OriginRecord, TupleKey};
use callgate_model::{NetnsCookie, Origin};
use tracing::debug;

use crate::origins::{Origins, Patience, origin};
use crate::syscall::monotonic;

/// How long a note stands for datagrams that waited behind the first one.
/// Source: a living agent reads its sockets within its heartbeat's age, which is 2 s by default.
const KEPT: Duration = Duration::from_secs(2);

/// Most notes kept; then the old ones are dropped, and where all are young the new one is. Unit: notes.
const KEPT_MAX: usize = 8_192;

impl Patience {
    /// Of a datagram that found no room in our socket, the note stays. Source: twice the time that notes are kept here.
    pub const DATAGRAMS: Self = Self { abandoned: Duration::from_secs(4), sweep: Duration::from_secs(2) };
}

/// Map `ASKERS`, and the notes that were taken of it and may be asked for again.
#[derive(Debug)]
pub struct Askers {
    /// The map.
    pub notes: Origins,
    taken: Taken,
}

#[derive(Debug, Default)]
struct Taken(Mutex<HashMap<TupleKey, Kept>>);

#[derive(Debug)]
struct Kept {
    record: OriginRecord,
    taken: Duration,
    /// Datagrams that it stands for and that were not read yet.
    left: u32,
}

impl Askers {
    pub fn new(notes: Origins) -> Self {
        Self { notes, taken: Taken::default() }
    }

    /// The sender of a datagram that a socket of ours in `netns` has just read from `peer`.
    pub fn of(&self, netns: NetnsCookie, peer: SocketAddr) -> Option<Origin> {
        let key = TupleKey { netns: netns.0, source: peer.ip().into(), port: peer.port().into(), padding: 0 };
        let found = self.taken.judge(key, self.notes.take_record(&key), monotonic());
        if found.is_none() {
            debug!(%peer, "a datagram whose sender is not known: dropped");
        }
        found.as_ref().map(origin)
    }
}

impl Taken {
    /// By what the kernel noted just now, and what it noted before.
    fn judge(&self, key: TupleKey, noted: Option<OriginRecord>, now: Duration) -> Option<OriginRecord> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.remove(&key).filter(|before| now.saturating_sub(before.taken) < KEPT);
        let (record, left, believed) = match (noted, before) {
            (Some(noted), _) if noted.contested != 0 => return None,
            (Some(noted), Some(before)) if before.left > 0 && before.record.socket != noted.socket => {
                (noted, noted.pending, false)
            }
            (Some(noted), Some(before)) => (noted, noted.pending.saturating_add(before.left).saturating_sub(1), true),
            (Some(noted), None) => (noted, noted.pending.saturating_sub(1), true),
            (None, Some(before)) => (before.record, before.left.saturating_sub(1), true),
            (None, None) => return None,
        };
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, other| now.saturating_sub(other.taken) < KEPT);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(key, Kept { record, taken: now, left });
        }
        believed.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: TupleKey = TupleKey { netns: 1, source: callgate_ebpf_common::Address::LOOPBACK4, port: 9, padding: 0 };

    fn note(socket: u64, pending: u32) -> Option<OriginRecord> {
        Some(OriginRecord { socket, pending, ..OriginRecord::default() })
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_note_stands_for_the_datagrams_behind_the_first() {
        let askers = Taken::default();
        assert_eq!(askers.judge(KEY, note(7, 2), at(0)).unwrap().socket, 7);
        assert_eq!(askers.judge(KEY, None, at(1)).unwrap().socket, 7);
        // All of them were read: the next socket of that port is believed.
        assert_eq!(askers.judge(KEY, note(8, 1), at(2)).unwrap().socket, 8);
    }

    #[test]
    fn a_datagram_of_either_of_two_sockets_is_nobodys() {
        let askers = Taken::default();
        assert!(askers.judge(KEY, note(7, 2), at(0)).is_some());
        assert!(askers.judge(KEY, note(8, 1), at(1)).is_none());
        assert_eq!(askers.judge(KEY, None, at(2)).unwrap().socket, 8);
        let contested = OriginRecord { contested: 1, ..OriginRecord::default() };
        assert!(askers.judge(KEY, Some(contested), at(3)).is_none());
        assert!(askers.judge(KEY, None, at(4)).is_none());
    }

    #[test]
    fn without_a_young_note_nobody_asks() {
        let askers = Taken::default();
        assert!(askers.judge(KEY, None, at(0)).is_none());
        assert!(askers.judge(KEY, note(7, 5), at(0)).is_some());
        assert!(askers.judge(KEY, None, at(5000)).is_none());
    }

    #[test]
    fn the_number_of_notes_is_bounded() {
        let askers = Taken::default();
        for port in 0..KEPT_MAX as u32 + 100 {
            askers.judge(TupleKey { port, ..KEY }, note(7, 1), at(0));
        }
        assert_eq!(askers.0.lock().unwrap().len(), KEPT_MAX);
        askers.judge(TupleKey { port: u32::MAX, ..KEY }, note(7, 1), at(10_000));
        assert_eq!(askers.0.lock().unwrap().len(), 1);
    }
}
