//! Tells HTTP by its request line, or by the preface of HTTP/2.
//!
//! Generous on purpose: what is meant as a request, however malformed, is to get its 400 from the head check
//! rather than a closed connection.

use super::{Match, begins_with};

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest first line that is read in search of `HTTP/`. Unit: bytes.
/// Source: the shortest target that RFC 9112 §3 asks servers to take, 8,000, with method and version.
const LINE_MAX: usize = 8 * 1024;

/// Most bytes of empty lines before the request line. Unit: bytes.
/// Source: ours; the head check refuses most of them, with a 400.
const EMPTY_MAX: usize = 8;

pub(super) fn recognise_preface(first: &[u8]) -> Match {
    begins_with(first, PREFACE)
}

/// A capital word, a space and a slash; or a first line that says `HTTP/` somewhere.
pub(super) fn recognise_request(first: &[u8]) -> Match {
    let empty = first.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let text = first.get(empty..).unwrap_or_default();
    if empty > EMPTY_MAX {
        return Match::No;
    }
    let word = text.iter().take_while(|b| b.is_ascii_uppercase()).count();
    if word > 0 && text.get(word..).is_some_and(|rest| rest.starts_with(b" /")) {
        return Match::Yes;
    }
    // Looks at the line up to its first control character: a binary protocol is soon told.
    let visible = text.iter().take(LINE_MAX).take_while(|b| !b.is_ascii_control() || **b == b'\t').count();
    let line = text.get(..visible).unwrap_or(text);
    if line.windows(5).any(|w| w.eq_ignore_ascii_case(b"HTTP/")) {
        return Match::Yes;
    }
    if visible == text.len() && visible < LINE_MAX { Match::NeedMore } else { Match::No }
}
