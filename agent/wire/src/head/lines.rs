//! What httparse lets pass or tells apart too coarsely, line by line: the request line and the spelling of fields.
//!
//! Refuses only; the parts are read by httparse afterwards, as hyper will.

use super::names::lookup;
use crate::HeadError;
use crate::limits::METHOD_MAX;

/// Checks the lines of a head: empty lines, request line, fields, empty line.
pub(super) fn check_head(bytes: &[u8]) -> Result<(), HeadError> {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    let (line, fields) = split_line(rest).ok_or(HeadError::Malformed)?;
    check_request_line(line)?;
    check_fields(fields)
}

/// Checks the lines of fields, up to the empty one.
pub(super) fn check_fields(mut rest: &[u8]) -> Result<(), HeadError> {
    while let Some((line, after)) = split_line(rest) {
        if line.is_empty() {
            return if after.is_empty() { Ok(()) } else { Err(HeadError::Malformed) };
        }
        check_field(line)?;
        rest = after;
    }
    Err(HeadError::Malformed)
}

fn check_request_line(line: &[u8]) -> Result<(), HeadError> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::RequestLine);
    };
    if method.is_empty() || target.is_empty() || version.is_empty() {
        return Err(HeadError::RequestLine);
    }
    let plain = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if method.len() > METHOD_MAX || !method.iter().all(plain) || !method.first().is_some_and(u8::is_ascii_uppercase) {
        return Err(HeadError::Method);
    }
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Err(HeadError::Version);
    }
    // httparse takes non-ASCII too, and then gives no text.
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(HeadError::TargetChar);
    }
    Ok(())
}

fn check_field(line: &[u8]) -> Result<(), HeadError> {
    if line.first().is_some_and(is_blank) {
        return Err(HeadError::ObsFold);
    }
    let colon = memchr::memchr(b':', line).ok_or(HeadError::FieldLine)?;
    let (name, value) = line.split_at_checked(colon).ok_or(HeadError::FieldLine)?;
    let value = value.strip_prefix(b":").unwrap_or(value);
    if name.last().is_some_and(is_blank) {
        return Err(HeadError::SpaceBeforeColon);
    }
    if name.is_empty() || !name.iter().all(is_token) {
        return Err(HeadError::FieldName);
    }
    // Non-ASCII passes in the values of fields that nobody here reads: hyper passes it, and no framing hangs on it.
    if !value.iter().all(|b| !b.is_ascii_control() || *b == b'\t') {
        return Err(HeadError::FieldValue);
    }
    if lookup(name)?.is_some_and(|(_, row)| row.known.is_plain()) {
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if value.first().is_some_and(is_blank) || value.last().is_some_and(is_blank) {
            return Err(HeadError::FieldSpacing);
        }
    }
    Ok(())
}

/// The line up to the first CRLF, and what follows.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line.strip_suffix(b"\r")?, rest.strip_prefix(b"\n")?))
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_request_lines_that_split_in_two_ways() {
        use HeadError::*;
        for (line, error) in [
            ("GET / ", RequestLine),
            ("GET /", RequestLine),
            ("GET  / HTTP/1.1", RequestLine),
            (" GET / HTTP/1.1", RequestLine),
            ("GET\t/\tHTTP/1.1", RequestLine),
            ("GET /a b HTTP/1.1", RequestLine),
            ("GET / HTTP/1.1 ", RequestLine),
            ("get / HTTP/1.1", Method),
            ("G:T / HTTP/1.1", Method),
            ("-GET / HTTP/1.1", Method),
            ("AAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", Method),
            ("GET / HTTP/1.2", Version),
            ("GET / http/1.1", Version),
            ("GET / HTTP/01.1", Version),
            ("GET /\u{e9} HTTP/1.1", TargetChar),
            ("GET /\t HTTP/1.1", TargetChar),
        ] {
            assert_eq!(check_request_line(line.as_bytes()), Err(error), "{line}");
        }
        assert_eq!(check_request_line(b"M-SEARCH * HTTP/1.1"), Ok(()));
    }

    #[test]
    fn refuses_fields_that_readers_trim_differently() {
        use HeadError::*;
        for (line, error) in [
            (&b" a: b"[..], ObsFold),
            (b"\ta: b", ObsFold),
            (b"a", FieldLine),
            (b"a : b", SpaceBeforeColon),
            (b"a\t: b", SpaceBeforeColon),
            (b": b", FieldName),
            (b"a b: c", FieldName),
            (b"a\x0b: c", FieldName),
            (b"a\xe9: c", FieldName),
            (b"a: \0", FieldValue),
            (b"a: \x7f", FieldValue),
            (b"a: \x0b", FieldValue),
            (b"Host:  a", FieldSpacing),
            (b"Host:\ta", FieldSpacing),
            (b"Content-Length: 1 ", FieldSpacing),
            (b"content_length: 1", FieldLookalike),
        ] {
            assert_eq!(check_field(line), Err(error), "{line:?}");
        }
        for line in [&b"a:"[..], b"a:\tb ", b"a: \xe9", b"Host:a", b"x!#$%&'*+-.^_`|~: y"] {
            assert_eq!(check_field(line), Ok(()), "{line:?}");
        }
    }
}
