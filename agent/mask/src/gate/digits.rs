//! Finds groups of digits that may open a number of twelve digits or more.
//!
//! Sixty-four bytes at a time become a mask with one bit per digit, by arithmetic on eight bytes at once; a group of
//! four digits or more is then a few shifts away, and only such groups are looked at.

use crate::detectors::{is_separator, opens_card};

/// Bytes looked at at once: one per bit of a mask.
const BLOCK: usize = 64;

/// Fewest digits of a number that is looked for, if it is written in one piece.
const DIGITS_MIN: usize = 12;

/// The first group at `from` or later that may open a long number, here or with bytes to come.
pub(crate) fn next_group(bytes: &[u8], from: usize) -> Option<usize> {
    let mut after_digit = from.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(u8::is_ascii_digit);
    let (blocks, rest) = bytes.get(from..)?.as_chunks::<BLOCK>();
    // What is cut off by the end may go on with digits.
    let mut last = [b'0'; BLOCK];
    last.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
    let mut at = from;
    for block in blocks.iter().chain((!rest.is_empty()).then_some(&last)) {
        let digits = if has_digit(block) { digit_mask(block) } else { 0 };
        let mut starts = long_groups(digits) & !(digits << 1 | u64::from(after_digit));
        while starts != 0 {
            let start = at + starts.trailing_zeros() as usize;
            if start >= bytes.len() {
                return None;
            }
            if may_open(bytes, start) {
                return Some(start);
            }
            starts &= starts - 1;
        }
        after_digit = digits >> 63 == 1;
        at += BLOCK;
    }
    None
}

/// Whether there is a digit; quicker told than where, and in prose mostly not.
fn has_digit(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(0, |any, byte| any | u8::from(byte.wrapping_sub(b'0') < 10)) != 0
}

/// One bit per byte of `block`, the first byte lowest: set where it is a digit.
fn digit_mask(block: &[u8; BLOCK]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let (eights, _) = block.as_chunks::<8>();
    eights.iter().rev().fold(0, |mask, eight| {
        // Digits become 0 to 9; adding 118 to a byte's lower seven bits reaches its highest from 10 on.
        let value = u64::from_le_bytes(*eight) ^ (ONES * 0x30);
        let other = ((value & !HIGH) + ONES * 118) | value;
        let digits = (!other & HIGH) >> 7;
        // Gathers the lowest bit of each byte in the highest byte.
        mask << 8 | digits.wrapping_mul(0x0102_0408_1020_4080) >> 56
    })
}

/// Bits from which on four are set, bits past the end taken for set.
fn long_groups(digits: u64) -> u64 {
    let two = digits & (digits >> 1 | 1 << 63);
    two & (two >> 2 | 3 << 62)
}

/// Whether the group of digits at `at` may open a long number: long enough by itself or as printed on cards,
/// or preceded by what may be an escape, or cut off by the end.
fn may_open(bytes: &[u8], at: usize) -> bool {
    let length = bytes.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
    let Some(next) = bytes.get(at + length) else { return true };
    // Its first digits may be the last of an escape.
    if bytes.get(at.saturating_sub(5)..at).is_some_and(|before| before.iter().any(|byte| matches!(byte, b'%' | b'\\')))
    {
        return length >= 4;
    }
    let printed = || is_separator(*next) && bytes.get(at + length + 1).is_none_or(u8::is_ascii_digit);
    match bytes.get(at..) {
        Some([first, second, ..]) if opens_card(*first, *second) => {
            length >= DIGITS_MIN || matches!(length, 4 | 6) && printed()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every group that begins with one of the digits of cards and is followed by enough others, wherever it stands.
    #[test]
    fn no_number_is_missed_at_any_offset() {
        for number in
            ["4111111111111111", "4111 1111 1111 1111 119", "6759649826438453", "501800000009", "6212-3456789012345"]
        {
            for lead in 0..150 {
                for tail in [0, 1, 7, 40, 100] {
                    let text = format!("{}{number}{}", ".".repeat(lead), "x".repeat(tail));
                    assert_eq!(next_group(text.as_bytes(), 0), Some(lead), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_number_cut_off_is_found() {
        for lead in 0..100 {
            for length in 1..19 {
                let text = format!("{}{}", "x".repeat(lead), &"4111 1111 1111 1111"[..length]);
                assert_eq!(next_group(text.as_bytes(), 0), Some(lead), "{text}");
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
        assert_eq!(long_groups(0b1_1110_0111_0000_1111_1000), 0b10_0000_0000_0001_1000);
        assert_eq!(long_groups(0b11 << 62), 0b11 << 62);
    }

    #[test]
    fn ordinary_numbers_are_passed_over() {
        let text =
            "at 2026-11-22T10:00:00.000Z id 12345678 took 17 of 1000 ms, 192.168.1.1:8080 and so on, quite some text";
        assert_eq!(next_group(text.as_bytes(), 0), None);
    }
}
