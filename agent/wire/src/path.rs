//! The one form of a path that is judged and forwarded.
//!
//! Two texts that a server could take for the same path get the same form, or are refused.
//! Never sees the query; see [`target`](crate::TargetForm) for the forms that a request target has.

use std::fmt;

use crate::HeadError;

/// A path in canonical form.
///
/// - Percent-encoded letters, digits, `-._~` and the characters that mean themselves within a segment (`!$&'()*,=:@`)
///   are decoded, so that `%3Adelete` cannot slip past a rule on `:delete`.
/// - `+` and `%2B` stay apart: to some servers the first is a space.
/// - `"[]^{|}`, which some clients send raw, are encoded. Whatever stays encoded has capital hex digits.
///
/// ```
/// use callgate_wire::{CanonicalPath, HeadError};
/// let path = CanonicalPath::parse("/v1/%75sers/a%c3%a9").unwrap();
/// assert_eq!((path.as_str(), path.segments()), ("/v1/users/a%C3%A9", 3));
/// assert_eq!(CanonicalPath::parse("/v1/%2e%2e/admin"), Err(HeadError::DotSegment));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CanonicalPath(String);

impl CanonicalPath {
    /// Reads a path that begins with a slash.
    ///
    /// # Errors
    /// - [`HeadError::TargetForm`]: does not begin with `/`.
    /// - [`HeadError::TargetChar`], [`HeadError::Fragment`]: controls, spaces, non-ASCII, ``<>` ``, `?`, `#`.
    /// - [`HeadError::PercentMalformed`], [`HeadError::EncodedSeparator`], [`HeadError::EncodedControl`],
    ///   [`HeadError::Backslash`], [`HeadError::PathParameter`], [`HeadError::DotSegment`],
    ///   [`HeadError::EmptySegment`], [`HeadError::PathUtf8`], [`HeadError::DoubleEncoding`]:
    ///   servers read it in more than one way, as told at each.
    pub fn parse(raw: &str) -> Result<Self, HeadError> {
        if !raw.starts_with('/') {
            return Err(HeadError::TargetForm);
        }
        let mut path = String::with_capacity(raw.len());
        let mut bytes = raw.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let high = bytes.next().and_then(hex_value);
                    let low = bytes.next().and_then(hex_value);
                    let (Some(high), Some(low)) = (high, low) else { return Err(HeadError::PercentMalformed) };
                    match (high << 4) | low {
                        b'/' | b'\\' => return Err(HeadError::EncodedSeparator),
                        0..=0x1f | 0x7f => return Err(HeadError::EncodedControl),
                        plain if means_itself(plain) => path.push(char::from(plain)),
                        other => push_encoded(&mut path, other),
                    }
                }
                b'\\' => return Err(HeadError::Backslash),
                b';' => return Err(HeadError::PathParameter),
                b'#' => return Err(HeadError::Fragment),
                b'"' | b'[' | b']' | b'^' | b'{' | b'|' | b'}' => push_encoded(&mut path, byte),
                b'/' | b'+' => path.push(char::from(byte)),
                plain if means_itself(plain) => path.push(char::from(plain)),
                _ => return Err(HeadError::TargetChar),
            }
        }
        check_segments(&path)?;
        check_escapes(&path)?;
        Ok(Self(path))
    }

    /// The target `*` of OPTIONS: the server as a whole.
    pub(crate) fn asterisk() -> Self {
        Self("*".into())
    }

    /// The text: begins with `/`, or is `*`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Segments that are not empty: 0 for `/` and `*`, 2 for `/v1/users` and `/v1/users/`.
    #[must_use]
    pub fn segments(&self) -> usize {
        // Everything before the first slash is no segment: nothing, or the asterisk. `/*` has one, like any other.
        self.0.split('/').skip(1).filter(|segment| !segment.is_empty()).count()
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a byte in a segment is the same to every server, encoded or not.
fn means_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*,=:@".contains(&byte)
}

fn check_segments(path: &str) -> Result<(), HeadError> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(HeadError::EmptySegment);
        }
        // `..%3B`: a server that decodes before it cuts parameters off would climb.
        let name = segment.split("%3B").next().unwrap_or(segment);
        if name == "." || name == ".." {
            return Err(HeadError::DotSegment);
        }
    }
    Ok(())
}

/// Looks at what decoding gives: text, and text that cannot be decoded once more.
fn check_escapes(path: &str) -> Result<(), HeadError> {
    if !path.contains('%') {
        return Ok(());
    }
    let decoded = decode(path.bytes());
    if std::str::from_utf8(&decoded).is_err() {
        return Err(HeadError::PathUtf8);
    }
    let escape = |w: &[u8]| matches!(w, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    if decoded.windows(3).any(escape) { Err(HeadError::DoubleEncoding) } else { Ok(()) }
}

fn decode(mut bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let high = (byte == b'%').then(|| bytes.next().and_then(hex_value)).flatten();
        match high {
            Some(high) => decoded.push((high << 4) | bytes.next().and_then(hex_value).unwrap_or(0)),
            None => decoded.push(byte),
        }
    }
    decoded
}

fn push_encoded(path: &mut String, byte: u8) {
    path.push('%');
    for digit in [byte >> 4, byte & 0x0f] {
        path.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
    }
}

fn hex_value(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gives_one_form_to_what_is_one_path() {
        for (raw, canonical, segments) in [
            ("/", "/", 0),
            ("/v1/users", "/v1/users", 2),
            ("/v1/users/", "/v1/users/", 2),
            ("/%7euser/%41", "/~user/A", 2),
            ("/a%3adelete/x%40y", "/a:delete/x@y", 2),
            ("/%e2%82%ac", "/%E2%82%AC", 1),
            ("/a+b%2bc", "/a+b%2Bc", 1),
            ("/a%20b", "/a%20b", 1),
            ("/q[0]{x}|^\"", "/q%5B0%5D%7Bx%7D%7C%5E%22", 1),
            ("/100%25", "/100%25", 1),
            ("/a%3Bb", "/a%3Bb", 1),
            ("/...", "/...", 1),
            ("/v1/%2a/*", "/v1/*/*", 3),
        ] {
            let path = CanonicalPath::parse(raw).unwrap();
            assert_eq!((path.as_str(), path.segments()), (canonical, segments), "{raw}");
        }
        assert_eq!(CanonicalPath::asterisk().segments(), 0);
    }

    #[test]
    fn refuses_what_servers_read_in_two_ways() {
        use HeadError::*;
        for (raw, error) in [
            ("", TargetForm),
            ("a", TargetForm),
            ("/%", PercentMalformed),
            ("/%4", PercentMalformed),
            ("/%g1", PercentMalformed),
            ("/%u002f", PercentMalformed),
            ("/a%2fb", EncodedSeparator),
            ("/a%5Cb", EncodedSeparator),
            ("/a%00", EncodedControl),
            ("/a%0d%0a", EncodedControl),
            ("/a%7f", EncodedControl),
            ("/a\\b", Backslash),
            ("/a;b", PathParameter),
            ("/..;/a", PathParameter),
            ("/..%3b/a", DotSegment),
            ("/.", DotSegment),
            ("/a/..", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/%2E./b", DotSegment),
            ("//", EmptySegment),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/%c0%af", PathUtf8),
            ("/%ff", PathUtf8),
            ("/%252f", DoubleEncoding),
            ("/%25%32%66", DoubleEncoding),
            ("/%25%2541", DoubleEncoding),
            ("/a b", TargetChar),
            ("/é", TargetChar),
            ("/<a>", TargetChar),
            ("/a?b", TargetChar),
            ("/a#b", Fragment),
        ] {
            assert_eq!(CanonicalPath::parse(raw), Err(error), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn canonical_is_canonical(raw in "/[a-c./%2EFef5:@+ -~]{0,24}") {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                prop_assert_eq!(CanonicalPath::parse(path.as_str()), Ok(path));
            }
        }

        #[test]
        fn encoding_more_changes_nothing(raw in "/[a-zA-Z0-9_.:@=,!]{1,12}", which in proptest::collection::vec(any::<bool>(), 13)) {
            let encoded: String = raw.chars().zip(which).map(|(c, encode)| {
                if encode && c != '/' { format!("%{:02x}", u32::from(c)) } else { c.to_string() }
            }).collect();
            prop_assert_eq!(CanonicalPath::parse(&raw), CanonicalPath::parse(&encoded));
        }

        #[test]
        fn never_panics(raw in any::<String>()) {
            let _ = CanonicalPath::parse(&format!("/{raw}"));
        }
    }
}
