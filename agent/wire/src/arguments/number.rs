//! Numbers exactly as written, never by way of floating point.

use callgate_model::{Argument, Decimal};

/// Decimal places that a rule can compare. Source: Cedar's `decimal`.
const PLACES: i64 = 4;

/// Reads a number of JSON's grammar. What no kind can hold exactly is [`Argument::Other`].
pub(super) fn read(token: &str) -> Argument {
    let Some((negative, digits, exponent)) = parts(token) else { return Argument::Other };
    let whole = scaled(negative, &digits, exponent);
    let decimal = exponent.checked_add(PLACES).and_then(|places| scaled(negative, &digits, places)).map(Decimal);
    if whole.is_none() && decimal.is_none() {
        return Argument::Other;
    }
    Argument::Number { whole, decimal }
}

/// Sign, digits without zeros at either end (none for zero), and the power of ten that they are multiplied by.
fn parts(token: &str) -> Option<(bool, String, i64)> {
    let (negative, rest) = token.strip_prefix('-').map_or((false, token), |rest| (true, rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{integer}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = all.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    // An exponent beyond 64 bits is beyond every kind; such a number is none that a rule can speak of.
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let places = i64::try_from(fraction.len()).ok()?;
    Some((negative, significant.to_owned(), exponent.checked_add(zeros)?.checked_sub(places)?))
}

/// `digits` times ten to the power of `exponent`, if that is a whole number of 64 bits.
fn scaled(negative: bool, digits: &str, exponent: i64) -> Option<i64> {
    if digits.is_empty() {
        return Some(0);
    }
    let mut value: i64 = 0;
    let sign = if negative { -1 } else { 1 };
    for digit in digits.bytes() {
        value = value.checked_mul(10)?.checked_add(sign * i64::from(digit.checked_sub(b'0')?))?;
    }
    let power = 10_i64.checked_pow(u32::try_from(exponent).ok()?)?;
    value.checked_mul(power)
}
