//! Shapes of numbers: what a group of digits and its surroundings must look like for a detector to be asked.

use super::look;
use crate::detectors::{is_separator, opens_card};

/// A set of shapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shapes(u8);

/// Fewest digits of a card number that is written in one piece.
const CARD_MIN: usize = 12;

/// Fewest digits of a group behind what may be an escape.
const ESCAPED_MIN: usize = 4;

impl Shapes {
    /// How many sets of shapes there are.
    pub(crate) const SETS: usize = 1 << 6;
    /// No shape.
    pub(crate) const NONE: Self = Self(0);
    /// A payment card's number.
    pub(crate) const CARD: Self = Self(1);
    /// `123-45-6789`.
    pub(crate) const SSN: Self = Self(2);
    /// A telephone number; the anchor is its first digit.
    pub(crate) const PHONE: Self = Self(4);
    /// `1.2.3.4`.
    pub(crate) const IPV4: Self = Self(8);
    /// A global IPv6 address, which begins with 2 or 3.
    pub(crate) const IPV6: Self = Self(16);
    /// Two letters before two digits.
    pub(crate) const IBAN: Self = Self(32);

    /// Both together.
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The number of the set, below [`Shapes::SETS`].
    pub(crate) fn set(self) -> usize {
        usize::from(self.0)
    }

    /// Whether it and the set of that number have a shape in common.
    pub(crate) fn meets(self, set: usize) -> bool {
        usize::from(self.0) & set != 0
    }

    /// Whether none is in it.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shape of that number.
    #[cfg(test)]
    pub(super) fn one(bit: u8) -> Self {
        Self(1 << bit)
    }

    fn wants(self, shape: Self) -> bool {
        self.0 & shape.0 != 0
    }
}

/// Longest escape before a number, short of its last byte. Unit: bytes. Source: `\uXXXX`.
pub(super) const ESCAPE_MAX: usize = 5;

/// How many digits the group at `at` has.
pub(super) fn length(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether the group of `length` digits at `at` is worth a closer look; `escapes` says that an escape may be near.
#[inline]
pub(super) fn first_look(bytes: &[u8], at: usize, length: usize, escapes: bool) -> bool {
    let before = at.checked_sub(1).and_then(|place| bytes.get(place)).copied().unwrap_or(0);
    let first = bytes.get(at).copied().unwrap_or(0);
    match bytes.get(at + length) {
        Some(next) => look::may_open(before, first, length, *next) || escapes && length >= ESCAPED_MIN,
        None => true,
    }
}

/// The shapes among `wanted` that the group of `length` digits at `at` may have, here or with bytes to come.
pub(super) fn of(bytes: &[u8], at: usize, length: usize, wanted: Shapes) -> Shapes {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(next) = rest.get(length).copied() else { return wanted };
    let byte = |ahead: usize| rest.get(length + ahead).copied();
    let digit = |ahead: usize| byte(ahead).is_none_or(|byte| byte.is_ascii_digit());
    // Where all separators must be alike.
    let again = |ahead: usize| byte(ahead).is_none_or(|byte| byte == next);
    let before = |back: usize| at.checked_sub(back).and_then(|place| bytes.get(place)).copied();

    let mut shapes = Shapes::NONE;
    let mut add = |shape: Shapes, fits: bool| {
        if fits {
            shapes = shapes.union(shape);
        }
    };
    if wanted.wants(Shapes::CARD) {
        add(Shapes::CARD, may_be_card(bytes, at, rest, length, next));
    }
    if wanted.wants(Shapes::SSN) {
        let grouped = matches!(next, b'-' | b' ') && digit(1) && digit(2) && again(3);
        add(Shapes::SSN, length == 3 && grouped);
    }
    if wanted.wants(Shapes::PHONE) {
        let opened = matches!(before(1), Some(b'+' | b'('));
        let grouped = length <= 5 && matches!(next, b'-' | b' ' | b'.' | b'/') && digit(1);
        let american = grouped && length == 3 && next != b'/' && digit(2) && digit(3) && again(4);
        let zeros = rest.starts_with(b"00");
        let trunk = grouped && length >= 2 && rest.first() == Some(&b'0') && (zeros || matches!(next, b'-' | b' '));
        let international = zeros && length >= 3 && (length > 9 || grouped);
        add(Shapes::PHONE, opened || american || trunk || international);
    }
    if wanted.wants(Shapes::IPV4) {
        let second = rest.iter().skip(length + 1).take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let dotted = byte(1 + second).is_none_or(|byte| byte == b'.') && digit(2 + second);
        add(Shapes::IPV4, length <= 3 && next == b'.' && digit(1) && second <= 3 && dotted);
    }
    if wanted.wants(Shapes::IPV6) && matches!(rest.first(), Some(b'2' | b'3')) {
        let hex = rest.iter().take(5).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let after = |byte: &u8| *byte == b':' || byte.is_ascii_hexdigit();
        let goes_on = rest.get(hex).is_none_or(|byte| *byte == b':') && rest.get(hex + 1).is_none_or(after);
        add(Shapes::IPV6, hex <= 4 && goes_on);
    }
    if wanted.wants(Shapes::IBAN) {
        add(
            Shapes::IBAN,
            length >= 2 && before(1).is_some_and(is_capital) && before(2).is_some_and(is_capital) && opens_iban(rest),
        );
    }
    shapes
}

fn is_capital(byte: u8) -> bool {
    byte.is_ascii_uppercase()
}

/// Whether behind the two check digits four more characters stand, as in every account number.
fn opens_iban(rest: &[u8]) -> bool {
    let separated = usize::from(matches!(rest.get(2), Some(b' ' | b'-' | b'+')));
    let four = rest.iter().skip(2 + separated).take(4);
    four.fold(true, |all, byte| all & (is_capital(*byte) | byte.is_ascii_digit()))
}

/// Whether the group may open a card's number: long enough by itself or as printed on cards, or preceded by what may
/// be an escape.
fn may_be_card(bytes: &[u8], at: usize, rest: &[u8], length: usize, next: u8) -> bool {
    // Its first digits may be the last of an escape.
    let escaped = |before: &[u8]| before.iter().any(|byte| matches!(byte, b'%' | b'\\'));
    if bytes.get(at.saturating_sub(ESCAPE_MAX)..at).is_some_and(escaped) {
        return length >= ESCAPED_MIN;
    }
    let printed = || is_separator(next) && rest.get(length + 1).is_none_or(u8::is_ascii_digit);
    match rest {
        [first, second, ..] if opens_card(*first, *second) => {
            length >= CARD_MIN || matches!(length, 4 | 6) && printed()
        }
        _ => false,
    }
}
