//! The strict check of a complete trailer section.

use super::lines::check_fields;
use super::names::is_forbidden_in_trailers;
use crate::HeadError;
use crate::limits::TRAILER_FIELDS_MAX;

/// Checks the fields after the last chunk, the empty line included; every LF follows a CR and the reverse.
pub(crate) fn check_trailers(bytes: &[u8]) -> Result<(), HeadError> {
    check_fields(bytes)?;
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    let fields = match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) if length == bytes.len() => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TrailersTooLarge),
        _ => return Err(HeadError::Malformed),
    };
    match fields.iter().any(|f| is_forbidden_in_trailers(f.name.as_bytes())) {
        true => Err(HeadError::TrailerForbidden),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_fields_that_change_nothing() {
        assert_eq!(check_trailers(b"\r\n"), Ok(()));
        assert_eq!(check_trailers(b"X-Checksum: 7\r\ngrpc-status: 0\r\n\r\n"), Ok(()));
    }

    #[test]
    fn refuses_fields_that_come_too_late() {
        assert_eq!(check_trailers(b"Host: a\r\n\r\n"), Err(HeadError::TrailerForbidden));
        assert_eq!(check_trailers(b"Content_Length: 7\r\n\r\n"), Err(HeadError::FieldLookalike));
        assert_eq!(check_trailers(b"a: b\r\n c\r\n\r\n"), Err(HeadError::ObsFold));
        let many = format!("{}\r\n", "a: b\r\n".repeat(TRAILER_FIELDS_MAX + 1));
        assert_eq!(check_trailers(many.as_bytes()), Err(HeadError::TrailersTooLarge));
    }
}
