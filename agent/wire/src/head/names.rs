//! The fields that decide framing, routing and what a hop drops, in one table, and those that a trailer may not be.

use crate::HeadError;

/// A field that this crate reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Http2Settings,
    /// Replaces the method or the path in some frameworks.
    Override,
    /// Decides who calls or what is sent: once or not at all.
    Singleton,
}

/// One row of [`KNOWN`].
#[derive(Debug)]
pub(super) struct Row {
    pub name: &'static str,
    pub known: Known,
    /// What a second one means; none where a list may be spread over lines.
    pub repeated: Option<HeadError>,
}

const fn row(name: &'static str, known: Known, repeated: Option<HeadError>) -> Row {
    Row { name, known, repeated }
}

/// Every field that this crate reads.
pub(super) const KNOWN: &[Row] = &[
    row("host", Known::Host, Some(HeadError::HostRepeated)),
    row("content-length", Known::ContentLength, Some(HeadError::LengthRepeated)),
    row("transfer-encoding", Known::TransferEncoding, Some(HeadError::EncodingRepeated)),
    row("connection", Known::Connection, None),
    row("upgrade", Known::Upgrade, Some(HeadError::UpgradeInvalid)),
    row("expect", Known::Expect, Some(HeadError::ExpectUnsupported)),
    row("http2-settings", Known::Http2Settings, Some(HeadError::UpgradeH2c)),
    row("x-http-method-override", Known::Override, None),
    row("x-http-method", Known::Override, None),
    row("x-method-override", Known::Override, None),
    row("x-original-url", Known::Override, None),
    row("x-original-uri", Known::Override, None),
    row("x-rewrite-url", Known::Override, None),
    row("authorization", Known::Singleton, Some(HeadError::FieldRepeated)),
    row("proxy-authorization", Known::Singleton, Some(HeadError::FieldRepeated)),
    row("content-type", Known::Singleton, Some(HeadError::FieldRepeated)),
    row("range", Known::Singleton, Some(HeadError::FieldRepeated)),
    row("if-range", Known::Singleton, Some(HeadError::FieldRepeated)),
];

impl Known {
    /// Whether its value must be written plainly: `Name: value`, one space or none, nothing behind.
    pub(super) fn is_plain(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::Expect
                | Self::Upgrade
                | Self::Http2Settings
        )
    }
}

/// The row of a field, by its name in any case.
///
/// # Errors
/// [`HeadError::FieldLookalike`] if the name is that of a row but for `_` in the place of `-`.
pub(super) fn lookup(name: &[u8]) -> Result<Option<(usize, &'static Row)>, HeadError> {
    let found = KNOWN.iter().enumerate().find(|(_, row)| name.eq_ignore_ascii_case(row.name.as_bytes()));
    if found.is_none() && name.contains(&b'_') && KNOWN.iter().any(|row| same_but_for_underscores(name, row.name)) {
        return Err(HeadError::FieldLookalike);
    }
    Ok(found)
}

/// Connection options that a request may have. All others name a field to drop.
pub(super) const CONNECTION_OPTIONS: &[&str] = &["close", "keep-alive", "upgrade", "te"];

/// Fields that end at this hop and must not be forwarded as they came (RFC 9110 §7.6.1); with the check on
/// `Connection`, these are all. `Transfer-Encoding` and `Trailer` are made anew by who frames the body.
pub const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Whether a field, by its name in any case, ends at this hop.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|h| h.eq_ignore_ascii_case(name))
}

/// Fields that come too late in a trailer (RFC 9110 §6.5.1): routing, modifiers, identity, content.
/// A name that ends in `*` stands for all that begin so. All of [`KNOWN`] and [`HOP_BY_HOP`] are forbidden as well.
const NOT_IN_TRAILERS: &[&str] = &[
    "accept-*",
    "age",
    "alt-*",
    "cache-control",
    "content-*",
    "cookie",
    "date",
    "expires",
    "forwarded",
    "if-*",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-*",
    "referer",
    "sec-*",
    "set-cookie",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-*",
    "x-real-ip",
];

/// Whether a field must not be in a trailer.
pub(super) fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    let known = KNOWN.iter().map(|row| row.name).chain(HOP_BY_HOP.iter().copied());
    let listed = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(prefix) => name.get(..prefix.len()).is_some_and(|start| same_but_for_underscores(start, prefix)),
        None => same_but_for_underscores(name, pattern),
    };
    known.into_iter().any(|k| same_but_for_underscores(name, k)) || NOT_IN_TRAILERS.iter().any(listed)
}

fn same_but_for_underscores(name: &[u8], dashed: &str) -> bool {
    let fold = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() == dashed.len() && name.iter().map(fold).eq(dashed.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_rows_in_any_case_and_refuses_lookalikes() {
        assert_eq!(lookup(b"HOST").unwrap().unwrap().1.known, Known::Host);
        assert!(lookup(b"x-other").unwrap().is_none());
        assert!(lookup(b"x_other").unwrap().is_none());
        assert_eq!(lookup(b"Content_Length").unwrap_err(), HeadError::FieldLookalike);
    }

    #[test]
    fn trailers_may_not_be_what_was_judged() {
        for name in ["Host", "content-MD5", "Transfer_Encoding", "X-Forwarded-For", "cookie", "TE", "If-Match"] {
            assert!(is_forbidden_in_trailers(name.as_bytes()), "{name}");
        }
        for name in ["grpc-status", "x-checksum", "server-timing", "digest", "etag"] {
            assert!(!is_forbidden_in_trailers(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_table_is_in_lower_case() {
        assert!(KNOWN.iter().all(|row| row.name.bytes().all(|b| !b.is_ascii_uppercase() && b != b'_')));
        assert!(KNOWN.len() <= 32, "`Facts` counts rows in 32 bits");
    }
}
