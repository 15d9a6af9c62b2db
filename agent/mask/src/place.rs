//! Masking by place: values that are masked whatever they are, because of where they stand.
//!
//! [`JsonPlaces`] rewrites a JSON stream before the [`Masker`](crate::Masker) sees it; headers and forms come whole and
//! have plain functions.

mod json;
mod pointer;

use std::borrow::Cow;

use callgate_model::MaskPlace;

use crate::rules::Rules;

pub use json::JsonPlaces;

/// The value of header `name` (any case), masked if its place is.
#[must_use]
pub fn mask_header<'a>(rules: &Rules, name: &str, value: &'a str) -> Cow<'a, str> {
    let how = rules.masking.places.iter().find_map(|(place, how)| match place {
        MaskPlace::Header(header) if header.eq_ignore_ascii_case(name) => Some(*how),
        _ => None,
    });
    how.map_or(Cow::Borrowed(value), |how| text(&rules.value(value.as_bytes(), how)).into())
}

/// A form (`application/x-www-form-urlencoded`) or a query, with the values of its masked fields replaced.
/// Names are compared decoded.
#[must_use]
pub fn mask_form<'a>(rules: &Rules, form: &'a str) -> Cow<'a, str> {
    let how = |name: &str| {
        rules.masking.places.iter().find_map(|(place, how)| match place {
            MaskPlace::Form(field) if *field == name => Some(*how),
            _ => None,
        })
    };
    if !rules.masking.places.iter().any(|(place, _)| matches!(place, MaskPlace::Form(_))) {
        return Cow::Borrowed(form);
    }
    let mut changed = false;
    let fields: Vec<Cow<'_, str>> = form
        .split('&')
        .map(|field| {
            let Some((name, value)) = field.split_once('=') else { return Cow::Borrowed(field) };
            let Some(how) = how(&decoded(name)) else { return Cow::Borrowed(field) };
            changed = true;
            Cow::Owned(format!("{name}={}", text(&rules.value(decoded(value).as_bytes(), how))))
        })
        .collect();
    if changed { Cow::Owned(fields.join("&")) } else { Cow::Borrowed(form) }
}

/// A text that we made: labels are ASCII.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name or a value of a form without its escapes.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let hex = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let escape = match (first, behind) {
            (b'%', [high, low, ..]) => hex(high).zip(hex(low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                out.push(if *first == b'+' { b' ' } else { *first });
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
