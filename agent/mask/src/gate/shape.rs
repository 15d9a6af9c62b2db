//! Shapes of numbers: what a group of digits and its surroundings must look like for a detector to be asked.

use crate::detectors::{is_separator, opens_card};

/// A set of shapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shapes(u8);

/// Fewest digits of a card number that is written in one piece.
const CARD_MIN: usize = 12;

impl Shapes {
    /// How many shapes there are.
    pub(crate) const COUNT: usize = 6;
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

    /// Whether the shape of that number is in it.
    pub(crate) fn has(self, shape: usize) -> bool {
        self.0 >> shape & 1 == 1
    }

    /// Whether none is in it.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn wants(self, shape: Self) -> bool {
        self.0 & shape.0 != 0
    }
}

/// The shapes among `wanted` that the group of digits at `at` may have, here or with bytes to come.
pub(super) fn of(bytes: &[u8], at: usize, wanted: Shapes) -> Shapes {
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let Some(next) = rest.get(length).copied() else { return wanted };
    let byte = |ahead: usize| rest.get(length + ahead).copied();
    let digit = |ahead: usize| byte(ahead).is_none_or(|byte| byte.is_ascii_digit());
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
        add(Shapes::SSN, length == 3 && matches!(next, b'-' | b' ') && digit(1) && digit(2));
    }
    if wanted.wants(Shapes::PHONE) {
        let opened = matches!(before(1), Some(b'+' | b'('));
        let grouped = length <= 5 && matches!(next, b'-' | b' ' | b'.' | b'/') && digit(1);
        let national = grouped && (length == 3 && digit(3) || length >= 2 && rest.first() == Some(&b'0'));
        let international = rest.starts_with(b"00") && length >= 3 && (length > 9 || grouped);
        add(Shapes::PHONE, opened || national || international);
    }
    if wanted.wants(Shapes::IPV4) {
        let second = rest.iter().skip(length + 1).take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let dotted = rest.get(length + 1 + second).is_none_or(|byte| *byte == b'.');
        add(Shapes::IPV4, length <= 3 && next == b'.' && digit(1) && dotted);
    }
    if wanted.wants(Shapes::IPV6) && matches!(rest.first(), Some(b'2' | b'3')) {
        let hex = rest.iter().take(5).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let after = |byte: &u8| *byte == b':' || byte.is_ascii_hexdigit();
        let goes_on = rest.get(hex).is_none_or(|byte| *byte == b':') && rest.get(hex + 1).is_none_or(after);
        add(Shapes::IPV6, hex <= 4 && goes_on);
    }
    if wanted.wants(Shapes::IBAN) {
        let letter = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_uppercase());
        add(Shapes::IBAN, length >= 2 && letter(before(1)) && letter(before(2)));
    }
    shapes
}

/// Whether the group may open a card's number: long enough by itself or as printed on cards, or preceded by what may
/// be an escape.
fn may_be_card(bytes: &[u8], at: usize, rest: &[u8], length: usize, next: u8) -> bool {
    // Its first digits may be the last of an escape.
    let escaped = |before: &[u8]| before.iter().any(|byte| matches!(byte, b'%' | b'\\'));
    if bytes.get(at.saturating_sub(5)..at).is_some_and(escaped) {
        return length >= 4;
    }
    let printed = || is_separator(next) && rest.get(length + 1).is_none_or(u8::is_ascii_digit);
    match rest {
        [first, second, ..] if opens_card(*first, *second) => {
            length >= CARD_MIN || matches!(length, 4 | 6) && printed()
        }
        _ => false,
    }
}
