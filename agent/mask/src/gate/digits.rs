//! Finds groups of digits that may open a number somebody looks for.
//!
//! Sixty-four bytes at a time become a mask with one bit per digit, by arithmetic on eight bytes at once; groups long
//! enough, and groups followed by others, are then a few shifts away, and only such groups are looked at: first at
//! their length and the bytes beside them, by four loads, then closely.

use super::shape::{self, Shapes};

/// Bytes looked at at once: one per bit of a mask.
const BLOCK: usize = 64;

/// The first group at `from` or later that may have one of the shapes `wanted`, here or with bytes to come.
pub(crate) fn next_group(bytes: &[u8], from: usize, wanted: Shapes) -> Option<(usize, Shapes)> {
    if wanted.is_empty() {
        return None;
    }
    let mut after_digit = from.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(u8::is_ascii_digit);
    let (blocks, rest) = bytes.get(from..)?.as_chunks::<BLOCK>();
    let mut last = [0; BLOCK];
    last.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
    // What is cut off by the end may go on with anything.
    let unknown = u64::MAX.checked_shl(rest.len() as u32).unwrap_or(0);
    let all = blocks.iter().map(|block| (block, 0)).chain((!rest.is_empty()).then_some((&last, unknown)));
    for (number, (block, unknown)) in all.enumerate() {
        if !has_digit(block) {
            after_digit = false;
            continue;
        }
        let at = from + number * BLOCK;
        let digits = digit_mask(block);
        let escapes = has_escape(bytes.get(at.saturating_sub(shape::ESCAPE_MAX)..at).unwrap_or_default(), block);
        let mut starts =
            candidates(digits, !digits | unknown, digits & !(digits << 1 | u64::from(after_digit)), unknown);
        while starts != 0 {
            let place = starts.trailing_zeros();
            let start = at + place as usize;
            starts &= starts - 1;
            let ahead = (digits >> place).trailing_ones();
            // Behind the block's last byte the group may go on.
            let length = if place + ahead < u64::BITS { ahead as usize } else { shape::length(bytes, start) };
            if !shape::first_look(bytes, start, length, escapes) {
                continue;
            }
            let shapes = shape::of(bytes, start, length, wanted);
            if !shapes.is_empty() {
                return Some((start, shapes));
            }
        }
        after_digit = digits >> 63 == 1;
    }
    None
}

/// Of the groups that begin at `starts`: those of two digits or more, and single digits with another group one or two
/// bytes behind. Bits past the end of the block count as whatever makes a candidate.
fn candidates(digits: u64, others: u64, starts: u64, unknown: u64) -> u64 {
    let digits = digits | unknown;
    let two = starts & (digits >> 1 | 1 << 63);
    let single = starts & (others >> 1 | 1 << 63) & (digits >> 2 | digits >> 3 | 7 << 61);
    two | single
}

/// Whether there is a digit; quicker told than where, and in prose mostly not.
fn has_digit(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(0, |any, byte| any | u8::from(byte.wrapping_sub(b'0') < 10)) != 0
}

/// Whether something that opens an escape stands in the block or shortly `before` it.
fn has_escape(before: &[u8], block: &[u8; BLOCK]) -> bool {
    let opens = |byte: &u8| u8::from(*byte == b'%') | u8::from(*byte == b'\\');
    before.iter().fold(0, |any, byte| any | opens(byte)) | block.iter().fold(0, |any, byte| any | opens(byte)) != 0
}

/// One bit per byte of `block`, the first byte lowest: set where it is a digit.
fn digit_mask(block: &[u8; BLOCK]) -> u64 {
    let digits = block.map(|byte| u8::from(byte.wrapping_sub(b'0') < 10));
    let (eights, _) = digits.as_chunks::<8>();
    eights.iter().rev().fold(0, |mask, eight| {
        // Gathers the lowest bit of each byte in the highest byte.
        mask << 8 | u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Shapes = Shapes::CARD;

    fn group(text: &str, shapes: Shapes) -> Option<usize> {
        next_group(text.as_bytes(), 0, shapes).map(|(at, _)| at)
    }

    /// Every group that begins a number and is followed by enough others, wherever it stands.
    #[test]
    fn no_number_is_missed_at_any_offset() {
        for (number, shape) in [
            ("4111111111111111", CARD),
            ("4111 1111 1111 1111 119", CARD),
            ("6759649826438453", CARD),
            ("501800000009", CARD),
            ("6212-3456789012345", CARD),
            ("123-45-6789", Shapes::SSN),
            ("8.8.8.8", Shapes::IPV4),
            ("2001:db8::1", Shapes::IPV6),
            ("2a00:1450:4001::8a", Shapes::IPV6),
            ("212-555-0123", Shapes::PHONE),
            ("044 668 18 00", Shapes::PHONE),
        ] {
            for lead in 0..150 {
                for tail in [0, 1, 7, 40, 100] {
                    let text = format!("{}{number}{}", ".".repeat(lead), "x".repeat(tail));
                    assert_eq!(group(&text, shape), Some(lead), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_number_cut_off_is_found() {
        for lead in 0..100 {
            for length in 1..19 {
                let text = format!("{}{}", "x".repeat(lead), &"4111 1111 1111 1111"[..length]);
                assert_eq!(group(&text, CARD), Some(lead), "{text}");
            }
        }
    }

    #[test]
    fn a_mask_has_a_bit_for_every_digit() {
        for byte in 0..=255_u8 {
            for place in 0..BLOCK {
                let mut block = [b'x'; BLOCK];
                block[place] = byte;
                assert_eq!(digit_mask(&block), u64::from(byte.is_ascii_digit()) << place, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn ordinary_numbers_are_passed_over() {
        let text = "at 2026-11-22T10:00:00.000Z id 12345678 took 17 of 1000 ms, 12.50 and so on, quite some text";
        assert_eq!(group(text, CARD.union(Shapes::SSN).union(Shapes::IPV4).union(Shapes::IPV6)), None);
    }
}
