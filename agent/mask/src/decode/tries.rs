//! Where in a run of base64 text may begin: cheap tries, which random bytes fail.

use super::base64::three;
use crate::class::Class;

/// Characters that are tried. Unit: bytes. Source: ours; an e-mail address of eleven bytes takes as many.
pub(super) const TRY: usize = 16;

/// Of the twelve bytes that a try makes, those that must be printable. Source: ours; random bytes pass once in 170.
const PRINTABLE_MIN: usize = 9;

/// What text is made of, in the main.
static PRINTABLE: Class = Class::NONE.range(b' ', b'~').bytes(b"\n\r\t");

/// The phases in which a run is decoded already.
#[derive(Clone, Copy, Default)]
pub(super) struct Phases {
    taken: [bool; 4],
}

impl Phases {
    /// Whether the phase of the character `at` places into the run is still free and may be taken, which it then is.
    pub(super) fn take(&mut self, at: u64, most: usize) -> bool {
        let free = !self.has(at) && self.taken.iter().filter(|taken| **taken).count() < most;
        if free && let Some(taken) = self.taken.get_mut((at % 4) as usize) {
            *taken = true;
        }
        free
    }

    fn has(&self, at: u64) -> bool {
        self.taken.get((at % 4) as usize).copied().unwrap_or(true)
    }
}

/// The places of a run where something like text begins, in order.
pub(super) struct Tries<'a> {
    pub(super) chars: &'a [u8],
    /// How far into the run the characters begin.
    pub(super) run: u64,
    /// First place that has not been tried.
    pub(super) next: usize,
}

impl Tries<'_> {
    /// The next such place whose phase is not among `phases`.
    pub(super) fn next(&mut self, phases: &Phases) -> Option<usize> {
        while let Some(tried) = self.chars.get(self.next..).and_then(|rest| rest.first_chunk::<TRY>()) {
            let at = self.next;
            let into = self.run + at as u64;
            let aligned = into.is_multiple_of(TRY as u64) && !phases.has(into);
            let parted =
                || at.checked_sub(1).and_then(|before| self.chars.get(before)).is_some_and(|byte| parts(*byte));
            let wanted = aligned || parted() && !phases.has(into);
            // All before the next multiple that no such byte stands before need not be looked at.
            let behind = tried.iter().position(|byte| parts(*byte)).map_or(TRY, |place| place + 1);
            let multiple = TRY - (into % TRY as u64) as usize;
            self.next = at + behind.min(multiple).min(self.chars.len() - TRY + 1 - at);
            if wanted && is_text(tried) {
                return Some(at);
            }
        }
        None
    }
}

/// Whether something else may begin behind `byte`.
fn parts(byte: u8) -> bool {
    matches!(byte, b'/' | b'-' | b'_' | b'+')
}

/// Whether sixteen characters spell something like text.
fn is_text(chars: &[u8; TRY]) -> bool {
    let (groups, _) = chars.as_chunks::<4>();
    let count = groups.iter().fold(0, |count, group| {
        three(*group).iter().fold(count, |count, byte| count + usize::from(PRINTABLE.has(*byte)))
    });
    count >= PRINTABLE_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_other_bytes() {
        assert!(is_text(b"YW5uQGV4YW1wbGUu"));
        assert!(!is_text(b"4bf92f3577b34da6"));
        assert!(!is_text(b"transformational"));
    }
}
