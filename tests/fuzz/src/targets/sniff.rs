//! The first bytes: an answer stays whatever follows, and patience ends.

use callgate_wire::limits::SNIFF_MAX;
use callgate_wire::{Sniff, sniff};

pub fn run(data: &[u8]) -> bool {
    let mut before = Sniff::NeedMore;
    for length in 0..=data.len().min(64) {
        let now = sniff(&data[..length]);
        assert!(before == Sniff::NeedMore || now == before, "{before:?} became {now:?} at byte {length}");
        before = now;
    }
    let whole = sniff(data);
    assert!(before == Sniff::NeedMore || whole == before);
    if whole == Sniff::NeedMore {
        let mut patient = data.to_vec();
        patient.resize(SNIFF_MAX.max(data.len()), data.last().copied().unwrap_or(b' '));
        assert_ne!(sniff(&patient), Sniff::NeedMore, "undecided at {} bytes", patient.len());
    }
    !matches!(whole, Sniff::Unknown | Sniff::NeedMore)
}
