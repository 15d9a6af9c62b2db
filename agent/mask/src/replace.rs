//! What stands in the place of a finding.
//!
//! Text becomes the kind's label. A number in JSON stays a number of the same length: a one and zeros (a number of
//! zeros alone is none in JSON), which no checksum takes for a card. Whether a finding is a bare number is told by its
//! neighbours; in doubt it becomes digits, which fit inside a string as well.

use crate::content::Content;
use crate::detectors::{Detector, Partial};
use crate::finding::Text;

/// Most white space looked past to find what stands before a number; more counts as being outside a string.
/// Unit: bytes.
const SPACE_MAX: usize = 32;

/// What stands in the place of a value that is masked because of where it stands.
pub(crate) const VALUE: &str = "[masked]";

/// A number of `length` digits.
pub(crate) fn number(length: usize) -> Box<[u8]> {
    let mut digits = vec![b'0'; length];
    if let Some(first) = digits.first_mut() {
        *first = b'1';
    }
    digits.into()
}

/// The kind and the part of `found` that may be left.
pub(crate) fn partial(detector: &Detector, found: &[u8]) -> Text {
    let left: Vec<u8> = match detector.partial {
        Partial::Refused => return Text::Label(detector.label),
        Partial::Last(count) => {
            let mut last: Vec<u8> =
                found.iter().rev().filter(|byte| byte.is_ascii_alphanumeric()).take(count).copied().collect();
            last.reverse();
            last
        }
        Partial::Domain => match found.iter().position(|byte| *byte == b'@').and_then(|at| found.get(at..)) {
            // What was decoded may be no text, and would make none of the stream that it is put in.
            Some(domain) if std::str::from_utf8(domain).is_ok() => domain.to_vec(),
            _ => return Text::Label(detector.label),
        },
    };
    let mut text = format!("[{}:*", detector.name).into_bytes();
    text.extend_from_slice(&left);
    text.push(b']');
    Text::Own(text.into())
}

/// The one form of a value that may be written in several, so that its pseudonym is the same.
pub(crate) fn canonical(row: usize, found: &[u8]) -> Vec<u8> {
    match crate::detectors::DETECTORS.get(row).map(|detector| detector.partial) {
        Some(Partial::Domain) => found.to_ascii_lowercase(),
        Some(Partial::Last(_)) => {
            found.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect()
        }
        _ => found.to_vec(),
    }
}

/// Whether a finding may be a number that stands by itself in JSON: only digits, `before` ends in what may stand
/// before a value, and `next` (`None` at the end of the stream) may stand behind a number.
pub(crate) fn is_bare_number(content: Content, before: &[u8], found: &[u8], next: Option<u8>) -> bool {
    content == Content::Json
        && found.iter().all(u8::is_ascii_digit)
        && matches!(next, None | Some(b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' | b'.' | b'e' | b'E' | b'\\'))
        && opens_value(before)
}

/// Whether a JSON value may begin behind `before`.
fn opens_value(before: &[u8]) -> bool {
    let before = before.strip_suffix(b"-").unwrap_or(before);
    let mut space = before.iter().rev().take(SPACE_MAX).take_while(|byte| byte.is_ascii_whitespace());
    // Inside a string line ends are escaped, so behind a plain one a number stands by itself.
    let line_end = space.clone().any(|byte| matches!(byte, b'\n' | b'\r'));
    let length = space.by_ref().count();
    let last = before.iter().rev().nth(length);
    line_end || length == SPACE_MAX || matches!(last, None | Some(b':' | b',' | b'['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_by_their_neighbours() {
        for (before, next, expected) in [
            (r#"{"a":"#, Some(b'}'), true),
            (r#"{"a": "#, Some(b','), true),
            (r#"{"a":-"#, Some(b'}'), true),
            ("[", Some(b']'), true),
            ("[1,\n      ", Some(b'\n'), true),
            ("{}\n", Some(b'\n'), true),
            ("", None, true),
            (r#"{"a":""#, Some(b'"'), false),
            (r#"{"a":"no: "#, Some(b'"'), false),
            (r#"{"a":"card "#, Some(b','), false),
            (r#"{\"a\":"#, Some(b'}'), true),
        ] {
            assert_eq!(
                is_bare_number(Content::Json, before.as_bytes(), b"4111111111111111", next),
                expected,
                "{before}"
            );
            assert!(!is_bare_number(Content::Text, before.as_bytes(), b"4111111111111111", next));
        }
        assert!(!is_bare_number(Content::Json, b"[", b"4111 1111 1111 1111", Some(b']')));
    }
}
