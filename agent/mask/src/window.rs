//! What a detector sees: a bounded stretch of the stream around one anchor.
//!
//! The stretch begins [`LOOKBEHIND`] bytes before the anchor and ends at the detector's own limit after it, however the
//! input was cut, and a look past what has arrived is an error that stops the judgement until more is there.
//! So a detector cannot give one answer early and another late: its answer depends on the stream alone.

use crate::class::Class;

/// Bytes before an anchor that a detector may look at. Unit: bytes.
/// Source: a password of 112 bytes in a connection string, and as much again for the user before it.
pub(crate) const LOOKBEHIND: usize = 256;

/// The answer depends on bytes that have not arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NeedMore;

/// A bounded stretch of the stream; positions count from its first byte.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    bytes: &'a [u8],
    anchor: usize,
    floor: usize,
    ended: bool,
}

impl<'a> Window<'a> {
    /// A window on `bytes`: `floor` is the first byte that is still free to be masked, `ended` says that the stream
    /// ends with `bytes`.
    pub(crate) fn new(bytes: &'a [u8], anchor: usize, floor: usize, ended: bool) -> Self {
        Self { bytes, anchor, floor, ended }
    }

    /// Where the gate fired.
    pub(crate) fn anchor(&self) -> usize {
        self.anchor
    }

    /// Whether the stream ends with the window.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// First byte that is not part of an earlier finding.
    pub(crate) fn floor(&self) -> usize {
        self.floor
    }

    /// The byte at `at`; `None` past the end of the stream.
    #[inline]
    pub(crate) fn at(&self, at: usize) -> Result<Option<u8>, NeedMore> {
        match self.bytes.get(at) {
            Some(byte) => Ok(Some(*byte)),
            None if self.ended => Ok(None),
            None => Err(NeedMore),
        }
    }

    /// The byte `back` places before `at`; `None` before the start of the stream (or of the window).
    #[inline]
    pub(crate) fn before(&self, at: usize, back: usize) -> Option<u8> {
        self.bytes.get(at.checked_sub(back)?).copied()
    }

    /// The bytes from `from` up to `upto`, as far as they are there.
    pub(crate) fn slice(&self, from: usize, upto: usize) -> &'a [u8] {
        self.bytes.get(from..upto.min(self.bytes.len())).unwrap_or_default()
    }

    /// Where the run of `class` that begins at `from` ends, at most `max` bytes on.
    pub(crate) fn run(&self, from: usize, class: &Class, max: usize) -> Result<usize, NeedMore> {
        let seen = self.slice(from, from.saturating_add(max));
        match seen.iter().position(|byte| !class.has(*byte)) {
            Some(length) => Ok(from + length),
            None if seen.len() == max || self.ended => Ok(from + seen.len()),
            None => Err(NeedMore),
        }
    }

    /// Whether `literal` stands at `from`; told as soon as one byte differs.
    pub(crate) fn starts_with(&self, from: usize, literal: &[u8]) -> Result<bool, NeedMore> {
        self.compare(from, literal, |seen, wanted| seen == wanted)
    }

    /// Like [`starts_with`](Self::starts_with), ASCII case apart.
    pub(crate) fn starts_with_any_case(&self, from: usize, literal: &[u8]) -> Result<bool, NeedMore> {
        self.compare(from, literal, |seen, wanted| seen.eq_ignore_ascii_case(wanted))
    }

    fn compare(&self, from: usize, literal: &[u8], same: impl Fn(&u8, &u8) -> bool) -> Result<bool, NeedMore> {
        let seen = self.slice(from, from + literal.len());
        if !seen.iter().zip(literal).all(|(seen, wanted)| same(seen, wanted)) {
            return Ok(false);
        }
        match seen.len() == literal.len() {
            true => Ok(true),
            false if self.ended => Ok(false),
            false => Err(NeedMore),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_past_the_known_bytes_asks_for_more_until_the_stream_has_ended() {
        let open = Window::new(b"ab", 0, 0, false);
        assert_eq!(open.at(1), Ok(Some(b'b')));
        assert_eq!(open.at(2), Err(NeedMore));
        assert_eq!(open.run(0, &Class::ALNUM, 9), Err(NeedMore));
        assert_eq!(open.run(0, &Class::ALNUM, 2), Ok(2));
        assert_eq!(open.starts_with(0, b"abc"), Err(NeedMore));
        assert_eq!(open.starts_with(0, b"axc"), Ok(false));
        assert_eq!(open.starts_with_any_case(0, b"AB"), Ok(true));

        let ended = Window::new(b"ab", 0, 0, true);
        assert_eq!(ended.at(2), Ok(None));
        assert_eq!(ended.run(0, &Class::ALNUM, 9), Ok(2));
        assert_eq!(ended.starts_with(0, b"abc"), Ok(false));
    }
}
