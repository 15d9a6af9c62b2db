//! Tells a TLS ClientHello by the header of its record.

use super::{Match, begins_with};

/// Handshake record, version 3.0 to 3.4, at most 2^14 bytes that begin with a ClientHello (RFC 8446 §5.1, §4).
pub(super) fn recognise(first: &[u8]) -> Match {
    let Match::Yes = begins_with(first, b"\x16\x03") else { return begins_with(first, b"\x16\x03") };
    let minor_fits = first.get(2).is_none_or(|minor| *minor <= 4);
    let length_fits = first.get(3).is_none_or(|high| *high <= 0x40);
    match first.get(5) {
        _ if !minor_fits || !length_fits => Match::No,
        None => Match::NeedMore,
        Some(1) => Match::Yes,
        Some(_) => Match::No,
    }
}
