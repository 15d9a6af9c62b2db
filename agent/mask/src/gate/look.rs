//! A first look at a group of digits: its length, its first digit and the bytes beside it, one load each.
//!
//! Most numbers of most answers (times, amounts, identifiers) fail it, and without a branch per question.
//! Each way to write a number is a bit; a table per question tells which ways its answer leaves open.

/// A card's number in one piece.
const CARD_WHOLE: u16 = 1;
/// A card's number as it is printed.
const CARD_PRINTED: u16 = 1 << 1;
/// Three digits, then a blank, a dash or a dot: a social security number, an American telephone number.
const THREE: u16 = 1 << 2;
/// A telephone number behind `+` or `(`.
const PHONE_OPENED: u16 = 1 << 3;
/// A telephone number that begins with a zero and is grouped.
const PHONE_ZERO: u16 = 1 << 4;
/// A telephone number that begins with zeros and is hardly grouped.
const PHONE_LONG: u16 = 1 << 5;
const IPV4: u16 = 1 << 6;
const IPV6: u16 = 1 << 7;
const IBAN: u16 = 1 << 8;

/// Lengths from there on are alike. Unit: digits.
const LENGTH_MAX: usize = 15;

static BY_LENGTH: [u16; LENGTH_MAX + 1] = by_length();
static BY_FIRST: [u16; 16] = by_first();
static BY_BEFORE: [u16; 256] = by_before();
static BY_NEXT: [u16; 256] = by_next();

/// Whether a group of `length` digits, the first of which is `first`, between `before` and `next` may open a number
/// that somebody looks for, escapes before it apart.
#[inline]
pub(super) fn may_open(before: u8, first: u8, length: usize, next: u8) -> bool {
    let by = |table: &[u16], place: usize| table.get(place).copied().unwrap_or(u16::MAX);
    by(&BY_LENGTH, length.min(LENGTH_MAX))
        & by(&BY_FIRST, usize::from(first & 15))
        & by(&BY_BEFORE, usize::from(before))
        & by(&BY_NEXT, usize::from(next))
        != 0
}

#[expect(clippy::indexing_slicing, reason = "within the table; used in a constant only")]
const fn by_length() -> [u16; LENGTH_MAX + 1] {
    let mut table = [0; LENGTH_MAX + 1];
    let mut length = 0;
    while length <= LENGTH_MAX {
        let mut ways = PHONE_OPENED;
        ways |= if length >= 12 { CARD_WHOLE } else { 0 };
        ways |= if length == 4 || length == 6 { CARD_PRINTED } else { 0 };
        ways |= if length == 3 { THREE } else { 0 };
        ways |= if length >= 2 && length <= 5 { PHONE_ZERO } else { 0 };
        ways |= if length > 9 { PHONE_LONG } else { 0 };
        ways |= if length <= 3 { IPV4 } else { 0 };
        ways |= if length <= 4 { IPV6 } else { 0 };
        ways |= if length >= 2 { IBAN } else { 0 };
        table[length] = ways;
        length += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "within the table; used in a constant only")]
const fn by_first() -> [u16; 16] {
    let mut table = [0; 16];
    let mut digit = 0;
    while digit < 10 {
        let mut ways = THREE | PHONE_OPENED | IPV4 | IBAN;
        ways |= if digit == 0 { PHONE_ZERO | PHONE_LONG } else { 0 };
        // Issuers: `opens_card`.
        ways |= if digit == 0 || digit == 1 || digit == 7 { 0 } else { CARD_WHOLE | CARD_PRINTED };
        ways |= if digit == 2 || digit == 3 { IPV6 } else { 0 };
        table[digit] = ways;
        digit += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "u8 indexes 256 places; used in a constant only")]
const fn by_before() -> [u16; 256] {
    let mut table = [!(PHONE_OPENED | IBAN); 256];
    table[b'+' as usize] |= PHONE_OPENED;
    table[b'(' as usize] |= PHONE_OPENED;
    let mut letter = b'A';
    while letter <= b'Z' {
        table[letter as usize] |= IBAN;
        letter += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "u8 indexes 256 places; used in a constant only")]
const fn by_next() -> [u16; 256] {
    let mut table = [CARD_WHOLE | PHONE_OPENED | PHONE_LONG; 256];
    let mut byte = 0;
    while byte < 256 {
        let next = byte as u8;
        table[byte] |= match next {
            b' ' | b'-' => CARD_PRINTED | THREE | PHONE_ZERO,
            b'.' => CARD_PRINTED | THREE | PHONE_ZERO | IPV4,
            b'/' => CARD_PRINTED | PHONE_ZERO,
            b'+' => CARD_PRINTED,
            b':' => IPV6,
            _ => 0,
        };
        // What a group of more than two digits goes on with was among the digits, so no more is asked of it here.
        table[byte] |= if next.is_ascii_hexdigit() { IPV6 } else { 0 };
        table[byte] |= IBAN;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::shape::{self, Shapes};

    /// Whatever has a shape passes, wherever it stands.
    #[test]
    fn the_first_look_lets_every_shape_through() {
        let all = (0..6).fold(Shapes::NONE, |all, bit| all.union(Shapes::one(bit)));
        let befores = b" +(AZa-.:\"%";
        let behind =
            [" 22 33", "-22-33", ".22.33.44", "/22", "+11", ":db8::1", "a:1", "f00:1", "A1B2", " ABCD", "x", ",", "00"];
        for before in befores {
            for length in 1..25 {
                for first in 0..10 {
                    for behind in behind {
                        let digits = first.to_string() + &"1".repeat(length - 1);
                        let text = format!("K{}{digits}{behind}", char::from(*before));
                        let (bytes, count) = (text.as_bytes(), shape::length(text.as_bytes(), 2));
                        let passes = shape::first_look(bytes, 2, count, true);
                        let shapes = shape::of(bytes, 2, count, all);
                        assert!(passes || shapes.is_empty(), "{text}: {shapes:?}");
                    }
                }
            }
        }
    }
}
