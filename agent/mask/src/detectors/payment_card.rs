//! Payment card numbers: issuer prefix, length and Luhn checksum must all fit.
//!
//! Written in one piece or in the groups that are printed on cards, between spaces, dashes, dots or pluses (a space in
//! a form). Digits that go on, fractions and hexadecimal blobs are no cards.

use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::class::Class;
use crate::escape;
use crate::gate::Shapes;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Longest card number. Unit: digits. Source: ISO/IEC 7812-1.
const DIGITS_MAX: usize = 19;

/// Most groups a number is written in: 4-4-4-4-3.
const GROUPS_MAX: usize = 5;

/// How far letters beside a number are looked at to tell a hexadecimal blob. Unit: bytes.
const BESIDE: usize = 8;

/// Fewest hexadecimal digits beside a number that make a blob. Unit: bytes.
/// Source: ours; a 19-digit run in a 24-digit identifier has five, `cc4111…` has two.
const BLOB_MIN: usize = 4;

/// Issuers: from and to, as first four digits, and the lengths in use.
/// Source: the list of issuer identification numbers that networks publish, as of 2026.
const ISSUERS: &[(u16, u16, &[usize])] = &[
    (2200, 2204, &[16, 17, 18, 19]),                 // Mir
    (2221, 2720, &[16]),                             // Mastercard
    (3000, 3059, &[14, 16]),                         // Diners Club
    (3095, 3095, &[14, 16]),                         // Diners Club
    (3400, 3499, &[15]),                             // American Express
    (3528, 3589, &[16, 17, 18, 19]),                 // JCB
    (3600, 3699, &[14, 15, 16, 17, 18, 19]),         // Diners Club
    (3700, 3799, &[15]),                             // American Express
    (3800, 3999, &[14, 16]),                         // Diners Club
    (4000, 4999, &[13, 16, 19]),                     // Visa
    (5018, 5020, &[12, 13, 14, 15, 16, 17, 18, 19]), // Maestro
    (5038, 5038, &[12, 13, 14, 15, 16, 17, 18, 19]), // Maestro
    (5041, 5090, &[16, 18, 19]),                     // Elo, Verve, RuPay
    (5100, 5599, &[16]),                             // Mastercard
    (5612, 5612, &[12, 13, 14, 15, 16, 17, 18, 19]), // Maestro
    (5893, 5893, &[12, 13, 14, 15, 16, 17, 18, 19]), // Maestro
    (6011, 6011, &[16, 17, 18, 19]),                 // Discover
    (6062, 6062, &[16]),                             // Hipercard
    (6069, 6099, &[16]),                             // RuPay
    (6200, 6299, &[16, 17, 18, 19]),                 // UnionPay, Discover
    (6304, 6304, &[12, 13, 14, 15, 16, 17, 18, 19]), // Maestro
    (6362, 6369, &[16]),                             // Elo
    (6440, 6599, &[16, 17, 18, 19]),                 // Discover, RuPay, Verve
    (6759, 6763, &[12, 13, 14, 15, 16, 17, 18, 19]), // Maestro
    (8100, 8299, &[16, 17, 18, 19]),                 // UnionPay, RuPay
    (9792, 9792, &[16]),                             // Troy
];

pub(super) const DETECTOR: Detector = Detector {
    name: "payment_card",
    bit: 1,
    groups: &[Group::Pii],
    label: "[masked:payment_card]",
    gate: Gate::shapes(Shapes::CARD),
    // An escape before it, the digits, their separators, what stands beside.
    longest: 4 + DIGITS_MAX + GROUPS_MAX + BESIDE + 4,
    leading: Leading::NONE,
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Last(4),
    samples: &[
        Sample { text: "4111111111111111", masked: "[masked:payment_card]" },
        Sample { text: "4111 1111 1111 1111", masked: "[masked:payment_card]" },
        Sample { text: "card=5500-0000-0000-0004;", masked: "card=[masked:payment_card];" },
        Sample { text: "pay 3782 822463 10005 now", masked: "pay [masked:payment_card] now" },
        Sample { text: r#"{"pan":"378282246310005"}"#, masked: r#"{"pan":"[masked:payment_card]"}"# },
        Sample { text: "3056 930902 5904, 6011000990139424.", masked: "[masked:payment_card], [masked:payment_card]." },
        Sample { text: "4222222222222|2223003122003222", masked: "[masked:payment_card]|[masked:payment_card]" },
        Sample { text: "1234 4111 1111 1111 1111 12/29", masked: "1234 [masked:payment_card] 12/29" },
        Sample { text: "2026-11-22 4111111111111111", masked: "2026-11-22 [masked:payment_card]" },
        Sample { text: r#"["\n4111111111111111\n"]"#, masked: r#"["\n[masked:payment_card]\n"]"# },
        Sample { text: r"\u00a04111111111111111", masked: r"\u00a0[masked:payment_card]" },
        Sample { text: "pan%3D4111111111111111%20", masked: "pan%3D[masked:payment_card]%20" },
        Sample { text: "x=%204111+1111+1111+1111", masked: "x=%20[masked:payment_card]" },
        Sample {
            text: "PAN4111111111111111 cc4111111111111111",
            masked: "PAN[masked:payment_card] cc[masked:payment_card]",
        },
        Sample { text: "100%4111111111111111", masked: "100%[masked:payment_card]" },
        Sample { text: "3530111333300000 6759649826438453", masked: "[masked:payment_card] [masked:payment_card]" },
    ],
    near_misses: &[
        "4111111111111112",
        "4111 1111 1111 1112",
        "41111111111111111111",
        "1111111111111117",
        "0.4111111111111111",
        "abc4111111111111111f00",
        r"\u4111111111111111",
        "41111111-1111-4111-8111-111111111111",
        "4111-1111 1111-1111",
        "2026-11-22 10:00:00",
        "1700000000000",
        "411111111111",
        "4111 1111  1111 1111",
        "411 1111 1111 1111 1",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let escaped = escape::reaches_into(window, anchor)?;
    let behind = anchor + escaped;
    // The digits after a per cent sign need not be an escape; those of `\u20aa` must not be touched.
    let backslash = (1..=5).any(|back| window.before(anchor, back) == Some(b'\\'));
    if (escaped == 0 || !backslash)
        && let Some(end) = card_end(window, anchor)?
    {
        return Ok(Outcome::Found(anchor..end));
    }
    if escaped > 0
        && window.slice(anchor, behind).iter().all(u8::is_ascii_digit)
        && let Some(end) = card_end(window, behind)?
    {
        return Ok(Outcome::Found(behind..end));
    }
    Ok(Outcome::Nothing)
}

/// Where the card number that begins at `start` ends.
fn card_end(window: &Window<'_>, start: usize) -> Result<Option<usize>, NeedMore> {
    let (Some(first), Some(second)) = (window.at(start)?, window.at(start + 1)?) else { return Ok(None) };
    if !opens_card(first, second) || is_fraction(window, start) {
        return Ok(None);
    }
    match longest_card(window, start)? {
        Some(end) if !is_in_blob(window, start, end)? => Ok(Some(end)),
        _ => Ok(None),
    }
}

/// Reads groups of digits from `start` on; where the longest card number among them ends.
fn longest_card(window: &Window<'_>, start: usize) -> Result<Option<usize>, NeedMore> {
    let mut number = Number::default();
    let (mut at, mut best, mut separator) = (start, None, None);
    loop {
        let mut group = 0;
        while let Some(digit) = window.at(at)?.filter(u8::is_ascii_digit) {
            if !number.push(digit) {
                return Ok(best);
            }
            (group, at) = (group + 1, at + 1);
        }
        if !number.end_group(group) {
            return Ok(best);
        }
        if number.is_card() {
            best = Some(at);
        }
        let Some(next) = window.at(at)?.filter(|next| is_separator(*next)) else { return Ok(best) };
        if *separator.get_or_insert(next) != next || !window.at(at + 1)?.is_some_and(|digit| digit.is_ascii_digit()) {
            return Ok(best);
        }
        at += 1;
    }
}

/// Whether a card number can begin with these two digits; a first look at [`ISSUERS`].
pub(crate) fn opens_card(first: u8, second: u8) -> bool {
    match first {
        b'2' => matches!(second, b'2'..=b'7'),
        b'3' => matches!(second, b'0' | b'4'..=b'9'),
        b'4' => second.is_ascii_digit(),
        b'5' => matches!(second, b'0'..=b'6' | b'8'),
        b'6' => matches!(second, b'0' | b'2'..=b'5' | b'7'),
        b'8' => matches!(second, b'1' | b'2'),
        b'9' => second == b'7',
        _ => false,
    }
}

/// Whether `byte` can stand between groups.
pub(crate) fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'+' | b'/')
}

/// The digits and groups read so far.
#[derive(Default)]
struct Number {
    digits: [u8; DIGITS_MAX],
    count: usize,
    groups: [usize; GROUPS_MAX],
    group_count: usize,
    /// Lengths that the issuer uses.
    lengths: &'static [usize],
}

impl Number {
    /// Takes a digit; false if there is no card number that long.
    fn push(&mut self, digit: u8) -> bool {
        let Some(place) = self.digits.get_mut(self.count) else { return false };
        *place = digit.wrapping_sub(b'0');
        self.count += 1;
        true
    }

    /// Ends a group of `length` digits; false if no card number begins like this.
    fn end_group(&mut self, length: usize) -> bool {
        let Some(place) = self.groups.get_mut(self.group_count) else { return false };
        *place = length;
        self.group_count += 1;
        if self.group_count == 1 {
            self.lengths = lengths(&self.digits);
        }
        !self.lengths.is_empty()
            && match self.groups.get(..self.group_count) {
                Some([4, middle @ .., last]) => {
                    *last <= 4 && middle.iter().all(|group| *group == 4)
                        || matches!((middle, last), ([], 6) | ([6], 4 | 5))
                }
                Some([6, last]) => *last == 13,
                Some([only]) => *only >= 12 || matches!(only, 4 | 6),
                _ => false,
            }
    }

    /// Whether the digits so far are a card number.
    fn is_card(&self) -> bool {
        self.lengths.contains(&self.count) && self.luhn()
    }

    fn luhn(&self) -> bool {
        let digits = self.digits.get(..self.count).unwrap_or_default();
        let sum: u32 = digits.iter().rev().enumerate().map(|(place, digit)| weigh(place, u32::from(*digit))).sum();
        sum.is_multiple_of(10)
    }
}

/// The lengths that the issuer of a number uses; none if there is no such issuer.
fn lengths(digits: &[u8]) -> &'static [usize] {
    let prefix = digits.iter().take(4).fold(0, |prefix: u16, digit| prefix * 10 + u16::from(*digit));
    ISSUERS.iter().find(|(from, to, _)| (*from..=*to).contains(&prefix)).map_or(&[], |(_, _, lengths)| *lengths)
}

/// What a digit adds to the Luhn sum; places count from the right.
fn weigh(place: usize, digit: u32) -> u32 {
    match place % 2 {
        0 => digit,
        _ if digit > 4 => digit * 2 - 9,
        _ => digit * 2,
    }
}

/// Whether the digits at `start` are decimal places.
fn is_fraction(window: &Window<'_>, start: usize) -> bool {
    window.before(start, 1) == Some(b'.') && window.before(start, 2).is_some_and(|byte| byte.is_ascii_digit())
}

/// Whether letters and digits around the number make it part of a hexadecimal blob: a digest, an identifier.
fn is_in_blob(window: &Window<'_>, start: usize, end: usize) -> Result<bool, NeedMore> {
    let after = window.slice(end, window.run(end, &Class::ALNUM, BESIDE)?);
    let before = (1..=BESIDE).map_while(|back| window.before(start, back)).take_while(|byte| Class::ALNUM.has(*byte));
    let before = before.take(if escape::ends_before(window, start) { 0 } else { BESIDE });
    let mut count = 0;
    let hexadecimal = before.chain(after.iter().copied()).inspect(|_| count += 1).all(|byte| byte.is_ascii_hexdigit());
    Ok(hexadecimal && count >= BLOB_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_lets_every_issuer_through() {
        for prefix in ISSUERS.iter().flat_map(|(from, to, _)| *from..=*to) {
            let digits = prefix.to_string().into_bytes();
            assert!(opens_card(digits[0], digits[1]), "{prefix}");
        }
    }

    #[test]
    fn luhn_tells_every_digit_changed() {
        let is_card = |text: &[u8]| {
            let mut number = Number::default();
            text.iter().for_each(|digit| assert!(number.push(*digit)));
            number.end_group(text.len()) && number.is_card()
        };
        let card = *b"4111111111111111";
        assert!(is_card(&card));
        for place in 0..card.len() {
            for digit in (b'0'..=b'9').filter(|digit| *digit != card[place]) {
                let mut changed = card;
                changed[place] = digit;
                assert!(!is_card(&changed));
            }
        }
    }
}
