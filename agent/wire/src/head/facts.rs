//! What the fields of a head say about framing, routing and the connection, gathered in one pass.

use httparse::Header;

use super::lines::is_token;
use super::names::{CONNECTION_OPTIONS, Known, lookup};
use super::{Framing, HeadRules, Version};
use crate::HeadError;
use crate::limits::CONTENT_LENGTH_MAX;

/// The facts of one head.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub host: &'a str,
    pub framing: Framing,
    pub keep_alive: bool,
    pub upgrade: Option<&'a str>,
    pub expect_continue: bool,
}

#[derive(Default)]
struct Found<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade: Option<&'a str>,
    settings_option: bool,
    settings: bool,
    expect: bool,
    /// Rows of the table of names that came, one bit each.
    seen: u32,
}

impl<'a> Facts<'a> {
    /// Reads every field, refuses conflicts among them.
    pub fn gather(fields: &[Header<'a>], version: Version, rules: &HeadRules) -> Result<Self, HeadError> {
        let mut found = Found::default();
        for field in fields {
            found.take(field, version)?;
        }
        found.conclude(version, rules)
    }
}

impl<'a> Found<'a> {
    fn take(&mut self, field: &Header<'a>, version: Version) -> Result<(), HeadError> {
        let Some((index, row)) = lookup(field.name.as_bytes())? else { return Ok(()) };
        let bit = u32::try_from(index).ok().and_then(|i| 1_u32.checked_shl(i)).unwrap_or(0);
        if let Some(error) = row.repeated.filter(|_| self.seen & bit != 0) {
            return Err(error);
        }
        self.seen |= bit;
        let text = std::str::from_utf8(field.value).ok().filter(|t| t.is_ascii());
        match row.known {
            Known::Host => self.host = Some(text.ok_or(HeadError::HostInvalid)?),
            Known::ContentLength => self.length = Some(text.and_then(read_length).ok_or(HeadError::LengthInvalid)?),
            Known::TransferEncoding => {
                if version == Version::Http10 {
                    return Err(HeadError::EncodingInHttp10);
                }
                self.chunked = text.is_some_and(|t| t.eq_ignore_ascii_case("chunked"));
                if !self.chunked {
                    return Err(HeadError::EncodingUnsupported);
                }
            }
            Known::Connection => self.take_connection(text.ok_or(HeadError::ConnectionOption)?)?,
            Known::Upgrade => self.upgrade = Some(read_upgrade(text.ok_or(HeadError::UpgradeInvalid)?)?),
            Known::Http2Settings => {
                self.settings = text.is_some_and(is_base64url);
                if !self.settings {
                    return Err(HeadError::UpgradeH2c);
                }
            }
            Known::Expect => {
                let known = text.is_some_and(|t| t.eq_ignore_ascii_case("100-continue"));
                if !known || version == Version::Http10 {
                    return Err(HeadError::ExpectUnsupported);
                }
                self.expect = true;
            }
            Known::Override => return Err(HeadError::Override),
            Known::Singleton => {}
        }
        Ok(())
    }

    fn take_connection(&mut self, value: &str) -> Result<(), HeadError> {
        // RFC 9110 §5.6.1: empty elements of a list mean nothing.
        for option in value.split(',').map(|o| o.trim_matches([' ', '\t'])).filter(|o| !o.is_empty()) {
            match CONNECTION_OPTIONS.iter().find(|known| known.eq_ignore_ascii_case(option)) {
                Some(&"close") => self.close = true,
                Some(&"keep-alive") => self.keep_alive = true,
                Some(&"upgrade") => self.upgrade_option = true,
                Some(_) => {}
                None if option.eq_ignore_ascii_case("http2-settings") => self.settings_option = true,
                None => return Err(HeadError::ConnectionOption),
            }
        }
        Ok(())
    }

    fn conclude(mut self, version: Version, rules: &HeadRules) -> Result<Facts<'a>, HeadError> {
        self.pass_over_h2c(version, rules)?;
        let host = self.host.ok_or(HeadError::HostMissing)?;
        let framing = match (self.length, self.chunked) {
            (Some(_), true) => return Err(HeadError::LengthBesideEncoding),
            (Some(length), false) => Framing::Length(length),
            (None, true) => Framing::Chunked,
            (None, false) => Framing::None,
        };
        if self.upgrade.is_some() {
            if !self.upgrade_option || version == Version::Http10 {
                return Err(HeadError::UpgradeInvalid);
            }
            if !framing.is_empty() || self.expect {
                return Err(HeadError::UpgradeWithBody);
            }
        }
        if self.expect && framing.is_empty() {
            return Err(HeadError::ExpectWithoutBody);
        }
        let keep_alive = !self.close && (version == Version::Http11 || self.keep_alive);
        Ok(Facts { host, framing, keep_alive, upgrade: self.upgrade, expect_continue: self.expect })
    }

    /// Forgets an offer of HTTP/2 that is written exactly as RFC 7540 §3.2 wants it: a server may always ignore it
    /// (RFC 9110 §7.8), and we do. Anything that only resembles one is refused: the next server may read it otherwise.
    fn pass_over_h2c(&mut self, version: Version, rules: &HeadRules) -> Result<(), HeadError> {
        let named = self.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(H2C));
        if !named && !self.settings && !self.settings_option {
            return Ok(());
        }
        let complete = named && self.settings && self.settings_option && self.upgrade_option;
        // Within TLS nobody offers it in earnest: ALPN has decided already.
        if !complete || version == Version::Http10 || rules.tls {
            return Err(HeadError::UpgradeH2c);
        }
        self.upgrade = None;
        Ok(())
    }
}

/// Base64 of the URL alphabet without padding, as `HTTP2-Settings` is written (RFC 7540 §3.2.1).
fn is_base64url(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Digits alone: no sign, list, space, or leading zero (which some read as octal).
fn read_length(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|length| plain && *length <= CONTENT_LENGTH_MAX)
}

/// HTTP/2 without TLS, as it is called in Upgrade. Source: RFC 7540 §3.1.
const H2C: &str = "h2c";

/// One protocol, `name` or `name/version`: [`H2C`], or one that is neither HTTP nor TLS under another name.
fn read_upgrade(text: &str) -> Result<&str, HeadError> {
    let (name, version) = text.split_once('/').unwrap_or((text, "1"));
    let token = |t: &str| !t.is_empty() && t.bytes().all(|b| is_token(&b));
    let begins = |word: &str| name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if text.eq_ignore_ascii_case(H2C) {
        return Ok(text);
    }
    // A list is looked through, for a clear word: `websocket, h2c` asks for HTTP/2 too.
    let h2c = text.split(',').any(|t| t.trim().get(..2).is_some_and(|start| start.eq_ignore_ascii_case("h2")));
    if h2c || begins("http") || begins("tls") {
        return Err(HeadError::UpgradeH2c);
    }
    if token(name) && token(version) { Ok(text) } else { Err(HeadError::UpgradeInvalid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_plain_numbers() {
        for (text, length) in [("0", Some(0)), ("10", Some(10)), ("9223372036854775807", Some(i64::MAX as u64))] {
            assert_eq!(read_length(text), length);
        }
        for text in
            ["", "+1", "-1", "01", "00", "0x10", "1,1", "1 1", "9223372036854775808", "18446744073709551616", "１"]
        {
            assert_eq!(read_length(text), None, "{text}");
        }
    }

    #[test]
    fn upgrades_name_one_protocol_that_is_not_http() {
        assert_eq!(read_upgrade("websocket"), Ok("websocket"));
        assert_eq!(read_upgrade("SPDY/3.1"), Ok("SPDY/3.1"));
        assert_eq!(read_upgrade("h2c"), Ok("h2c"));
        for text in ["h2c-14", "h2", "HTTP/2.0", "TLS/1.0", "websocket, h2c"] {
            assert_eq!(read_upgrade(text), Err(HeadError::UpgradeH2c), "{text}");
        }
        for text in ["", "/", "websocket/", "websocket, foo", "a b", "a/b/c"] {
            assert_eq!(read_upgrade(text), Err(HeadError::UpgradeInvalid), "{text}");
        }
    }
}
