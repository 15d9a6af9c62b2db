//! Telephone numbers: international (E.164, with `+` or `00`), North American, and national ones with a leading zero.
//!
//! Conservative: without a country code a number needs its separators, and what could be a date, a time, an amount or
//! an identifier is none.

use super::words::{goes_on, is_glued};
use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::class::Class;
use crate::gate::Shapes;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Most digits with the country code. Source: E.164 §6.2.1.
const DIGITS_MAX: usize = 15;

/// Most groups that a number is written in.
const GROUPS_MAX: usize = 7;

/// What may stand before the first digit.
static OPENING: Class = Class::NONE.bytes(b"+(");

pub(super) const DETECTOR: Detector = Detector {
    name: "phone",
    bit: 7,
    groups: &[Group::Pii],
    label: "[masked:phone]",
    gate: Gate::shapes(Shapes::PHONE),
    // Digits, two bytes between groups, and what stands behind.
    longest: DIGITS_MAX + GROUPS_MAX * 2 + 4,
    leading: Leading { class: &OPENING, most: 2 },
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Last(2),
    samples: &[
        Sample { text: "+41446681800", masked: "[masked:phone]" },
        Sample { text: "call +1 (212) 555-0123 now", masked: "call [masked:phone] now" },
        Sample { text: "+44 20 7946 0958, +49-30-901820", masked: "[masked:phone], [masked:phone]" },
        Sample { text: r#"{"phone":"(212) 555-0123"}"#, masked: r#"{"phone":"[masked:phone]"}"# },
        Sample { text: "212-555-0123 or 212.555.0123", masked: "[masked:phone] or [masked:phone]" },
        Sample { text: "tel. 044 668 18 00.", masked: "tel. [masked:phone]." },
        Sample { text: "0041 44 668 18 00", masked: "[masked:phone]" },
        Sample { text: r"\n+41446681800\n", masked: r"\n[masked:phone]\n" },
        Sample { text: "tel:+41-44-668-18-00", masked: "tel:[masked:phone]" },
    ],
    near_misses: &[
        "2026-11-22T10:00:00+0100",
        "+1234567",
        "+1234567890123456",
        "a+41446681800",
        "112-555-0123",
        "212-055-0123",
        "212-555-01234",
        "1212-555-0123",
        "212.555-0123",
        "192.168.100.100",
        "04-11-2026",
        "10.11.2026 12:30",
        "1 000 000 000",
        "2125550123",
        "01234567-89ab-4cde-8f01-23456789abcd",
    ],
};

/// The digits of a number, and how they are grouped.
struct Number {
    count: usize,
    lengths: [usize; GROUPS_MAX],
    /// How many groups there are.
    groups: usize,
    /// The one separator between all groups; `None` if they differ or there is none.
    separator: Option<u8>,
    end: usize,
}

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let opening = |back| window.before(anchor, back).filter(|_| anchor >= window.floor() + back);
    let international = opening(1) == Some(b'+') || opening(1) == Some(b'(') && opening(2) == Some(b'+');
    let start = match (opening(1), opening(2)) {
        (Some(b'('), Some(b'+')) => anchor - 2,
        (Some(b'+' | b'('), _) => anchor - 1,
        _ => anchor,
    };
    if is_glued(window, start, b"-./+_:") && !(window.before(start, 1) == Some(b':') && international) {
        return Ok(Outcome::Nothing);
    }
    let first = window.at(anchor)?;
    let number = number(window, anchor)?;
    let double_zero = window.starts_with(anchor, b"00")? && number.groups > 1;
    let fits = match first {
        Some(b'1'..=b'9') if international => (8..=DIGITS_MAX).contains(&number.count),
        Some(b'0') if double_zero => (11..=DIGITS_MAX + 2).contains(&number.count),
        Some(b'0') => is_trunk(&number),
        Some(b'2'..=b'9') => is_north_american(window, anchor, &number)?,
        _ => false,
    };
    let behind = window.at(number.end)?;
    if !fits || matches!(behind, Some(b'_' | b':')) || goes_on(window, number.end, b"")? {
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Found(start..number.end))
}

impl Number {
    /// The length of each group. Unit: digits.
    fn groups(&self) -> &[usize] {
        self.lengths.get(..self.groups).unwrap_or_default()
    }
}

/// Reads groups of digits with one separator between, or a parenthesis and a space.
fn number(window: &Window<'_>, start: usize) -> Result<Number, NeedMore> {
    let mut number = Number { count: 0, lengths: [0; GROUPS_MAX], groups: 0, separator: None, end: start };
    let (mut at, mut alike) = (start, true);
    loop {
        let mut group = 0;
        while window.at(at)?.is_some_and(|byte| byte.is_ascii_digit()) {
            (group, at) = (group + 1, at + 1);
            if number.count + group > DIGITS_MAX + 2 {
                number.count += group;
                number.end = at;
                return Ok(number);
            }
        }
        number.count += group;
        if let Some(length) = number.lengths.get_mut(number.groups) {
            *length = group;
        }
        number.groups += 1;
        number.end = at;
        let separator = window.at(at)?;
        let next = match separator {
            Some(b')') if matches!(window.at(at + 1)?, Some(b' ' | b'-')) => at + 2,
            Some(b' ') if window.at(at + 1)? == Some(b'(') => at + 2,
            Some(b' ' | b'-' | b'.' | b'/' | b')' | b'(') => at + 1,
            _ => break,
        };
        if number.groups >= GROUPS_MAX || !window.at(next)?.is_some_and(|byte| byte.is_ascii_digit()) {
            break;
        }
        if number.separator.is_some_and(|one| Some(one) != separator) {
            alike = false;
        }
        number.separator = separator;
        at = next;
    }
    if !alike {
        number.separator = None;
    }
    Ok(number)
}

/// `044 668 18 00`: nine to eleven digits, in three groups or more.
fn is_trunk(number: &Number) -> bool {
    let grouped = matches!(number.groups(), [2..=5, rest @ ..] if rest.len() >= 2 && rest.iter().all(|group| (2..=4).contains(group)));
    grouped && matches!(number.separator, Some(b' ' | b'-')) && (9..=11).contains(&number.count)
}

/// `212-555-0123`, `(212) 555-0123`: area and exchange begin with 2 to 9. Source: NANP.
fn is_north_american(window: &Window<'_>, start: usize, number: &Number) -> Result<bool, NeedMore> {
    if number.groups() != [3, 3, 4] {
        return Ok(false);
    }
    let opened = window.before(start, 1) == Some(b'(');
    let exchange = window.at(number.end - 8)?.is_some_and(|byte| (b'2'..=b'9').contains(&byte));
    Ok(exchange && (opened || matches!(number.separator, Some(b'-' | b'.' | b' '))))
}
