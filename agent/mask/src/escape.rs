//! Escape sequences seen from behind: where a value begins when the bytes before it spell an escape.
//!
//! `\n4111…` has an `n` before the number that belongs to a line feed, `%204111…` two digits that belong to a space.
//! Masking such a byte would break the text around the finding; counting it would hide the finding.
//! How often the escape itself was escaped (`\\n` in JSON inside JSON) cannot be known, so any backslash counts.

use crate::window::{NeedMore, Window};

/// How many bytes from `at` on belong to an escape that begins before `at`: `\uXXXX`, `\xXX` or `%XX`.
pub(crate) fn reaches_into(window: &Window<'_>, at: usize) -> Result<usize, NeedMore> {
    for back in 1..=5 {
        let Some(length) = window.before(at, back).and_then(|byte| long_escape(window, at - back, byte)) else {
            continue;
        };
        if length > back && hex_digits(window, at - back, length)? {
            return Ok(length - back);
        }
    }
    Ok(0)
}

/// Whether an escape ends exactly before `at`: `\uXXXX`, `\xXX`, `%XX` or a backslash with one letter.
pub(crate) fn ends_before(window: &Window<'_>, at: usize) -> bool {
    short_ends_before(window, at)
        || [6, 4, 3].iter().any(|back| {
            let Some(start) = at.checked_sub(*back) else { return false };
            window.before(at, *back).and_then(|byte| long_escape(window, start, byte)) == Some(*back)
                && hex_digits(window, start, *back) == Ok(true)
        })
}

/// Whether a backslash and one of `b f n r t` stand exactly before `at`.
pub(crate) fn short_ends_before(window: &Window<'_>, at: usize) -> bool {
    window.before(at, 2) == Some(b'\\') && matches!(window.before(at, 1), Some(b'b' | b'f' | b'n' | b'r' | b't'))
}

/// Length of the escape that opens with `byte` at `start`, if one can.
fn long_escape(window: &Window<'_>, start: usize, byte: u8) -> Option<usize> {
    match (byte, window.slice(start + 1, start + 2)) {
        (b'%', _) => Some(3),
        (b'\\', b"u") => Some(6),
        (b'\\', b"x") => Some(4),
        _ => None,
    }
}

/// Whether the escape of `length` bytes at `start` has hexadecimal digits where it must.
fn hex_digits(window: &Window<'_>, start: usize, length: usize) -> Result<bool, NeedMore> {
    let opening = if length == 3 { 1 } else { 2 };
    for at in start + opening..start + length {
        if !window.at(at)?.is_some_and(|byte| byte.is_ascii_hexdigit()) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window<'_> {
        Window::new(text.as_bytes(), 0, 0, true)
    }

    #[test]
    fn tells_how_far_an_escape_reaches() {
        for (text, at, expected) in [
            (r"\u00a04111", 5, 1),
            (r"\u20074111", 2, 4),
            ("%204111", 1, 2),
            ("%A04111", 2, 1),
            (r"\x204111", 2, 2),
            ("x204111", 1, 0),
            (r"\n4111", 2, 0),
            ("%zz4111", 3, 0),
        ] {
            assert_eq!(reaches_into(&window(text), at), Ok(expected), "{text}");
        }
    }

    #[test]
    fn tells_where_an_escape_ends() {
        for (text, expected) in
            [(r"\u00A0", true), (r"\n", true), ("%3D", true), (r"\x0a", true), ("abcdef", false), (r"\q", false)]
        {
            assert_eq!(ends_before(&window(text), text.len()), expected, "{text}");
        }
    }
}
