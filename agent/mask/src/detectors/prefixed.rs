//! Tokens that begin with a prefix of their own: most issuers give theirs one, so that they can be found.

use super::Outcome;
use super::words::{BETWEEN, BETWEEN_MAX, goes_on, is_glued};
use crate::class::Class;
use crate::window::{NeedMore, Window};

/// A prefix, and what may follow it.
pub(crate) struct Prefix {
    /// The prefix; one of the row's literals begins it.
    pub(crate) text: &'static str,
    /// Whether the prefix stays: it names what follows.
    pub(crate) stays: bool,
    /// What the rest is written with.
    pub(crate) class: &'static Class,
    /// Fewest and most bytes of the rest.
    pub(crate) length: (usize, usize),
    /// What else the rest must be.
    pub(crate) check: fn(&[u8]) -> bool,
}

impl Prefix {
    /// A prefix that belongs to the token.
    pub(crate) const fn new(text: &'static str, class: &'static Class, length: (usize, usize)) -> Self {
        Self { text, stays: false, class, length, check: |_| true }
    }

    pub(crate) const fn that(mut self, check: fn(&[u8]) -> bool) -> Self {
        self.check = check;
        self
    }

    pub(crate) const fn stays(mut self) -> Self {
        self.stays = true;
        self
    }
}

/// The token at the anchor that one of `prefixes` opens.
pub(super) fn find(prefixes: &[Prefix], window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    for prefix in prefixes {
        if !window.starts_with(anchor, prefix.text.as_bytes())? || !prefix.stays && is_glued(window, anchor, b"_") {
            continue;
        }
        let mut start = anchor + prefix.text.len();
        if prefix.stays {
            // Quotes before the value may be escaped: JSON inside JSON.
            start = window.run(start, &BETWEEN, BETWEEN_MAX)?;
        }
        let (min, max) = prefix.length;
        let end = window.run(start, prefix.class, max + 1)?;
        let rest = window.slice(start, end);
        if rest.len() < min || rest.len() > max || goes_on(window, end, b"")? || !(prefix.check)(rest) {
            continue;
        }
        return Ok(Outcome::Found(if prefix.stays { start } else { anchor }..end));
    }
    Ok(Outcome::Nothing)
}

/// Whether `rest` ends in the CRC-32 of what stands before it, in six digits of base 62.
pub(super) fn ends_in_crc32(rest: &[u8]) -> bool {
    let Some((body, given)) = rest.split_last_chunk::<6>() else { return false };
    let mut left = !body.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    given.iter().rev().all(|digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            b'a'..=b'z' => digit - b'a' + 36,
            _ => return false,
        };
        let fits = u32::from(value) == left % 62;
        left /= 62;
        fits
    })
}

/// Whether `rest` has a letter and a digit, as what is drawn at random has.
pub(super) fn is_mixed(rest: &[u8]) -> bool {
    rest.iter().any(u8::is_ascii_digit) && rest.iter().any(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_tells_every_character_changed() {
        let token = *b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";
        assert!(ends_in_crc32(&token));
        for place in 0..token.len() {
            let mut changed = token;
            changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
            assert!(!ends_in_crc32(&changed), "{place}");
        }
    }
}
