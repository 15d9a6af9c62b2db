//! International bank account numbers: country, its length, and the checksum (ISO 13616), in one piece or in fours.

use super::words::{goes_on, is_glued};
use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::class::Class;
use crate::gate::Shapes;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Countries and the length of their numbers. Source: SWIFT IBAN registry, as of 2026.
const COUNTRIES: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// The letters before the anchor.
static COUNTRY: Class = Class::NONE.range(b'A', b'Z');

pub(super) const DETECTOR: Detector = Detector {
    name: "iban",
    bit: 5,
    groups: &[Group::Pii],
    label: "[masked:iban]",
    gate: Gate::shapes(Shapes::IBAN),
    // The longest number without its country, a separator per four, and what stands behind.
    longest: 31 + 8 + 2,
    leading: Leading { class: &COUNTRY, most: 2 },
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Last(4),
    samples: &[
        Sample { text: "DE89370400440532013000", masked: "[masked:iban]" },
        Sample { text: "GB29 NWBK 6016 1331 9268 19", masked: "[masked:iban]" },
        Sample { text: r#"{"iban":"NL91ABNA0417164300","n":1}"#, masked: r#"{"iban":"[masked:iban]","n":1}"# },
        Sample { text: "to FR14 2004 1010 0505 0001 3M02 606, now", masked: "to [masked:iban], now" },
        Sample { text: r"\nCH9300762011623852957\n", masked: r"\n[masked:iban]\n" },
        Sample { text: "iban=DE89-3704-0044-0532-0130-00", masked: "iban=[masked:iban]" },
        Sample { text: "iban=DE89+3704+0044+0532+0130+00&x", masked: "iban=[masked:iban]&x" },
    ],
    near_misses: &[
        "DE89370400440532013001",
        "DE8937040044053201300",
        "DE893704004405320130000",
        "XDE89370400440532013000",
        "ZZ89370400440532013000",
        "DE89 37040044 0532013000",
        "SHA256 and MD5",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let Some(start) = anchor.checked_sub(2).filter(|start| *start >= window.floor()) else {
        return Ok(Outcome::Nothing);
    };
    let country = window.slice(start, anchor);
    let known = COUNTRIES.iter().find(|(code, _)| *code == country);
    let Some((_, length)) = known.filter(|_| !is_glued(window, start, b"_")) else { return Ok(Outcome::Nothing) };
    let (mut at, mut count, mut separator) = (anchor, 2, None);
    let (mut rest, mut check) = (0, 0);
    while count < *length {
        let Some(byte) = window.at(at)? else { return Ok(Outcome::Nothing) };
        if count % 4 == 0 && matches!(byte, b' ' | b'-' | b'+') && (count == 4 || separator == Some(byte)) {
            separator = Some(byte);
            at += 1;
            continue;
        }
        if count > 4 && count % 4 == 0 && separator.is_some() && window.before(at, 1) != separator {
            return Ok(Outcome::Nothing);
        }
        let Some(value) = value(byte) else { return Ok(Outcome::Nothing) };
        match count {
            2 | 3 if value > 9 => return Ok(Outcome::Nothing),
            2 | 3 => check = check * 10 + value,
            _ => rest = shift(rest, value),
        }
        (count, at) = (count + 1, at + 1);
    }
    // The country and the check digits are computed as if they stood behind.
    let rest = country.iter().filter_map(|byte| value(*byte)).fold(rest, shift);
    let sound = (rest * 100 + check) % 97 == 1 && (2..=98).contains(&check);
    let whole = sound && !goes_on(window, at, b"")?;
    Ok(if whole { Outcome::Found(start..at) } else { Outcome::Nothing })
}

fn value(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(36).filter(|_| !byte.is_ascii_lowercase())
}

/// Appends a value of one or two decimal digits, modulo 97.
fn shift(rest: u32, value: u32) -> u32 {
    (rest * if value > 9 { 100 } else { 10 } + value) % 97
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_are_in_order_and_fit() {
        assert!(COUNTRIES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(COUNTRIES.iter().all(|(_, length)| (15..=33).contains(length)));
    }
}
