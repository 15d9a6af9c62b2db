//! Dates of birth, told from other dates by the word that names them.

use super::words::{digits, goes_on, is_glued, joint, skip, value_after};
use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Names of months begin with these.
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Longest name of a month.
const MONTH_MAX: usize = 9;

pub(super) const DETECTOR: Detector = Detector {
    name: "date_of_birth",
    bit: 12,
    groups: &[Group::Pii],
    label: "[masked:date_of_birth]",
    gate: Gate::literals(&["irth", "IRTH", "dob", "DOB", "Dob"]),
    // The word with its suffix, what stands between, and the longest date.
    longest: 20 + 40 + 24,
    leading: Leading::NONE,
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Refused,
    samples: &[
        Sample { text: "dob: 1990-02-28", masked: "dob: [masked:date_of_birth]" },
        Sample {
            text: r#"{"birth_date":"1990-02-28T00:00:00Z"}"#,
            masked: r#"{"birth_date":"[masked:date_of_birth]T00:00:00Z"}"#,
        },
        Sample { text: r#"{"dateOfBirth": "28.02.1990"}"#, masked: r#"{"dateOfBirth": "[masked:date_of_birth]"}"# },
        Sample { text: "Date of birth 2/28/1990", masked: "Date of birth [masked:date_of_birth]" },
        Sample { text: "BIRTHDAY=28 Feb 1990", masked: "BIRTHDAY=[masked:date_of_birth]" },
        Sample { text: "Birthdate: February 28, 1990.", masked: "Birthdate: [masked:date_of_birth]." },
        Sample { text: r#"{\"DOB\":\"19900228\"}"#, masked: r#"{\"DOB\":\"[masked:date_of_birth]\"}"# },
    ],
    near_misses: &[
        "created: 1990-02-28",
        "dob: unknown",
        "dob: 1990-13-28",
        "dob: 1990-02-32",
        "dob: 1790-02-28",
        "birthplace: 1990-02-28",
        "adobe 1990-02-28",
        "birthdate",
        "date of birth 5 of 10",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let mut end = anchor + 4;
    if !window.starts_with_any_case(anchor, b"irth")? {
        if is_glued(window, anchor, b"") {
            return Ok(Outcome::Nothing);
        }
        end = anchor + 3;
    } else if !matches!(window.before(anchor, 1), Some(b'b' | b'B')) {
        return Ok(Outcome::Nothing);
    }
    let word = joint(window, end)?;
    for suffix in ["date", "day"] {
        let behind = skip(window, word, suffix)?;
        if behind > word {
            end = behind;
            break;
        }
    }
    let Some(value) = value_after(window, end)? else { return Ok(Outcome::Nothing) };
    match date(window, value)? {
        Some(end) if !goes_on(window, end, b"")? || window.at(end)? == Some(b'T') => Ok(Outcome::Found(value..end)),
        _ => Ok(Outcome::Nothing),
    }
}

/// Where the date at `start` ends, if one stands there that a living person can be born on.
fn date(window: &Window<'_>, start: usize) -> Result<Option<usize>, NeedMore> {
    let (first, end) = digits(window, start, 8)?;
    if end - start == 8 {
        return Ok(is_date(first / 10_000, first / 100 % 100, first % 100).then_some(end));
    }
    let (first_is_year, separator) = (end - start == 4, window.at(end)?);
    if end == start {
        let Some((month, end)) = month(window, start)? else { return Ok(None) };
        let end = if window.at(end)? == Some(b' ') { end + 1 } else { end };
        let (day, end) = digits(window, end, 2)?;
        let (year, end) = digits(window, skip(window, skip(window, end, ",")?, " ")?, 4)?;
        return Ok(is_date(year, month, day).then_some(end));
    }
    if !matches!(separator, Some(b'-' | b'/' | b'.' | b' ')) {
        return Ok(None);
    }
    if let Some((month, behind)) = month(window, end + 1)?
        && matches!(window.at(behind)?, Some(b'-' | b'/' | b'.' | b' '))
    {
        let (year, end) = digits(window, behind + 1, 4)?;
        return Ok(is_date(year, month, first).then_some(end));
    }
    let (second, second_end) = digits(window, end + 1, 2)?;
    if window.at(second_end)? != separator || second_end == end + 1 {
        return Ok(None);
    }
    let (third, end) = digits(window, second_end + 1, if first_is_year { 2 } else { 4 })?;
    let fits = match first_is_year {
        true => is_date(first, second, third),
        false => is_date(third, second, first) || is_date(third, first, second),
    };
    Ok(fits.then_some(end))
}

fn is_date(year: u32, month: u32, day: u32) -> bool {
    (1880..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// The month whose name stands at `at`, and where the name ends.
fn month(window: &Window<'_>, at: usize) -> Result<Option<(u32, usize)>, NeedMore> {
    for (number, name) in (1..).zip(MONTHS) {
        if window.starts_with_any_case(at, name.as_bytes())? {
            let mut end = at + name.len();
            while end < at + MONTH_MAX && window.at(end)?.is_some_and(|byte| byte.is_ascii_alphabetic()) {
                end += 1;
            }
            return Ok(Some((number, end)));
        }
    }
    Ok(None)
}
