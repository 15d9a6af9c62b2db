//! What several detectors ask of the text around a value.

use crate::class::Class;
use crate::escape;
use crate::window::{NeedMore, Window};

/// Most bytes between a name and its value: `\" : \"` with indents. Unit: bytes.
pub(super) const BETWEEN_MAX: usize = 32;

/// What stands between a name and its value.
pub(super) const BETWEEN: Class = Class::NONE.bytes(b" \t\r\n\"'`\\:=>|,([{");

/// Whether a letter, a digit or one of `also` stands right before `at`, and is no part of an escape.
pub(super) fn is_glued(window: &Window<'_>, at: usize, also: &[u8]) -> bool {
    window.before(at, 1).is_some_and(|byte| byte >= 0x80 || Class::ALNUM.has(byte) || also.contains(&byte))
        && !escape::ends_before(window, at)
}

/// Whether a letter, a digit or one of `also` stands at `at`.
pub(super) fn goes_on(window: &Window<'_>, at: usize, also: &[u8]) -> Result<bool, NeedMore> {
    Ok(window.at(at)?.is_some_and(|byte| byte >= 0x80 || Class::ALNUM.has(byte) || also.contains(&byte)))
}

/// Skips `word` at `at` in any case, if it stands there.
pub(super) fn skip(window: &Window<'_>, at: usize, word: &str) -> Result<usize, NeedMore> {
    Ok(if window.starts_with_any_case(at, word.as_bytes())? { at + word.len() } else { at })
}

/// Skips what joins two words of a name.
pub(super) fn joint(window: &Window<'_>, at: usize) -> Result<usize, NeedMore> {
    Ok(at + usize::from(matches!(window.at(at)?, Some(b'_' | b'-' | b' ' | b'.'))))
}

/// Where the value begins of which the name ends at `at`; `None` if nothing parts them.
pub(super) fn value_after(window: &Window<'_>, at: usize) -> Result<Option<usize>, NeedMore> {
    let value = window.run(at, &BETWEEN, BETWEEN_MAX)?;
    Ok((value > at).then_some(value))
}

/// Reads the digits at `at`, at most `max`: their value, and where they end.
pub(super) fn digits(window: &Window<'_>, at: usize, max: usize) -> Result<(u32, usize), NeedMore> {
    let (mut value, mut end) = (0_u32, at);
    while end - at < max
        && let Some(digit) = window.at(end)?.filter(u8::is_ascii_digit)
    {
        value = value * 10 + u32::from(digit - b'0');
        end += 1;
    }
    Ok((value, end))
}
