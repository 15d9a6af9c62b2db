//! Passport numbers, where the word names them: by themselves they look like any other number.

use super::words::{goes_on, joint, skip, value_after};
use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::class::Class;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Shortest and longest number. Source: ICAO 9303-3 §4.2.2 (nine in the machine-readable zone); states in use have six
/// and more.
const LENGTH: (usize, usize) = (6, 9);

/// Fewest digits in it.
const DIGITS_MIN: usize = 5;

pub(super) const DETECTOR: Detector = Detector {
    name: "passport",
    bit: 13,
    groups: &[Group::Pii],
    label: "[masked:passport]",
    gate: Gate::literals(&["assport", "ASSPORT"]),
    longest: 80,
    leading: Leading::NONE,
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Last(2),
    samples: &[
        Sample { text: "passport: L898902C3", masked: "passport: [masked:passport]" },
        Sample { text: r#"{"passportNumber":"C01X00T47"}"#, masked: r#"{"passportNumber":"[masked:passport]"}"# },
        Sample { text: "Passport no. 123456789,", masked: "Passport no. [masked:passport]," },
        Sample { text: r#"{\"passport_id\": \"X1234567\"}"#, masked: r#"{\"passport_id\": \"[masked:passport]\"}"# },
    ],
    near_misses: &[
        "passport: required",
        "passport 12345",
        "passport: 1234567890",
        "passport.js",
        "passport holders 123456789",
        "number: 123456789",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    if !matches!(window.before(anchor, 1), Some(b'p' | b'P')) {
        return Ok(Outcome::Nothing);
    }
    let mut end = anchor + 7;
    let word = joint(window, end)?;
    for suffix in ["number", "num", "no", "nr", "id", "#"] {
        let behind = skip(window, word, suffix)?;
        if behind > word {
            end = skip(window, behind, ".")?;
            break;
        }
    }
    let Some(value) = value_after(window, end)? else { return Ok(Outcome::Nothing) };
    let end = window.run(value, &Class::ALNUM, LENGTH.1 + 1)?;
    let text = window.slice(value, end);
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let fits = (LENGTH.0..=LENGTH.1).contains(&text.len()) && digits >= DIGITS_MIN;
    Ok(if fits && !goes_on(window, end, b"")? { Outcome::Found(value..end) } else { Outcome::Nothing })
}
