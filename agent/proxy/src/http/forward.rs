//! Which header fields go on, and which stay: on the way up, on the way down, and into the record.

use std::borrow::Cow;
use std::sync::Arc;

use callgate_mask::{Content, Rules, mask_header, mask_text_by};
use callgate_model::Header;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::call_log::CallLog;
use super::coding::{self, Codings};
use crate::masks::CallMask;

/// Fields that belong to one connection (RFC 9110 §7.6.1), framing included: hyper writes its own.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Fields by which a client could have a body cut into pieces that no masker would recognise.
const PIECES: [HeaderName; 3] = [header::RANGE, header::IF_RANGE, HeaderName::from_static("a-im")];

/// Fields that are no longer true of a masked body.
const DIGESTS: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// Fields whose value is a credential as a whole.
const CREDENTIALS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-amz-security-token"),
];

/// Makes a request's fields fit to go upstream.
pub(crate) fn request_headers(headers: &mut HeaderMap, masked: bool) {
    let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    drop_hop_by_hop(headers);
    if trailers {
        // What gRPC asks of every hop; nothing else of it may go on (RFC 9113 §8.2.2).
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(header::EXPECT);
    // A coding that we do not decode would hide a body from the masker and from the record.
    coding::reduce_accepted(headers);
    if masked {
        for name in &PIECES {
            headers.remove(name);
        }
    }
}

/// Makes an answer's fields fit to go to the caller; says whether the masker left all of them as they came.
pub(crate) fn response_headers(headers: &mut HeaderMap, rules: Option<&Arc<Rules>>) -> bool {
    let length = headers.remove(header::CONTENT_LENGTH);
    drop_hop_by_hop(headers);
    let Some(rules) = rules else {
        // Kept for answers to HEAD, where it tells what a GET would give.
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length);
        }
        return false;
    };
    for name in &DIGESTS {
        headers.remove(name);
    }
    mask_fields(headers, rules)
}

/// Trailers as the caller may have them.
pub(crate) fn masked_trailers(mut trailers: HeaderMap, log: &CallLog) -> HeaderMap {
    if let Some(rules) = &log.mask().rules {
        for name in &DIGESTS {
            trailers.remove(name);
        }
        mask_fields(&mut trailers, rules);
    }
    trailers
}

/// Masks names and values; says whether all of them are as they were.
fn mask_fields(headers: &mut HeaderMap, rules: &Arc<Rules>) -> bool {
    let telling: Vec<HeaderName> = headers.keys().filter(|name| names_something(name, rules)).cloned().collect();
    for name in &telling {
        headers.remove(name);
    }
    let mut clean = telling.is_empty();
    for (name, value) in headers.iter_mut() {
        let masked = match value.to_str().map(|text| masked_value(rules, name, text)) {
            Ok(Cow::Borrowed(_)) => continue,
            Ok(Cow::Owned(masked)) => HeaderValue::from_str(&masked).unwrap_or(HeaderValue::from_static("")),
            // Not text: nothing that a detector could judge, so nothing that may pass.
            Err(_) => HeaderValue::from_static(""),
        };
        *value = masked;
        clean = false;
    }
    clean
}

/// A field's value, masked by its place, then by what is found in it.
fn masked_value<'a>(rules: &Arc<Rules>, name: &HeaderName, value: &'a str) -> Cow<'a, str> {
    match mask_header(rules, name.as_str(), value) {
        Cow::Borrowed(value) => mask_text_by(rules, value),
        replaced => replaced,
    }
}

/// Whether a field's name is itself a finding. What could be one has a digit or an underscore.
fn names_something(name: &HeaderName, rules: &Arc<Rules>) -> bool {
    let name = name.as_str();
    name.bytes().any(|byte| byte.is_ascii_digit() || byte == b'_') && matches!(mask_text_by(rules, name), Cow::Owned(_))
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Fields as the record keeps them: masked by `rules`, credentials replaced whole; `more` are credentials too.
pub(crate) fn recorded(headers: &HeaderMap, rules: &Arc<Rules>, more: &[HeaderName]) -> Vec<Header> {
    recorded_by(headers, Some(rules), more)
}

/// Fields of an answer as the record keeps them. With `clean`, the caller's masker left all of them as they are.
pub(crate) fn recorded_answer(headers: &HeaderMap, mask: &CallMask, clean: bool) -> Vec<Header> {
    // Where that masker looked for every kind, and at the same places, the record's would find nothing either.
    let looked = clean && mask.rules.is_some() && mask.all;
    recorded_by(headers, (!looked).then_some(&mask.recorded), &[])
}

fn recorded_by(headers: &HeaderMap, rules: Option<&Arc<Rules>>, more: &[HeaderName]) -> Vec<Header> {
    let one = |(name, value): (&HeaderName, &HeaderValue)| {
        let telling = rules.is_some_and(|rules| names_something(name, rules));
        let text = String::from_utf8_lossy(value.as_bytes());
        Header {
            name: if telling { "[masked]".to_owned() } else { name.as_str().to_owned() },
            value: match rules {
                _ if CREDENTIALS.contains(name) || more.contains(name) => "[credential]".to_owned(),
                Some(rules) => masked_value(rules, name, &text).into_owned(),
                None => text.into_owned(),
            },
        }
    };
    headers.iter().map(one).collect()
}

/// How a body has to be read.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) content: Content,
    pub(crate) is_form: bool,
    pub(crate) codings: Codings,
}

/// How a body with these fields has to be read; none where it cannot be: a coding hides it.
pub(crate) fn reading(headers: &HeaderMap) -> Option<Reading> {
    let codings = Codings::of(headers)?;
    if !readable_charset(headers) || headers.get(GRPC_ENCODING).is_some_and(|coding| coding != "identity") {
        return None;
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media = kind.split(';').next().unwrap_or("").trim();
    let is_form = media.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    Some(Reading { content: Content::of(kind), is_form, codings })
}

/// How messages of gRPC are compressed within an uncompressed body.
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Whether text with these fields reads as bytes of ASCII with something around them; UTF-16 and kin do not.
fn readable_charset(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    if !kind.as_bytes().contains(&b'=') {
        return true;
    }
    let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
    let Some((_, charset)) = kind.split_once("charset=") else { return true };
    let charset = charset.split(';').next().unwrap_or("").trim().trim_matches('"');
    matches!(charset, "utf-8" | "utf8" | "us-ascii" | "ascii")
        || charset.starts_with("iso-8859-")
        || charset.starts_with("windows-125")
}

/// Whether an answer came in a transfer coding other than `chunked`: hyper takes the chunks off and leaves the rest.
pub(crate) fn is_transfer_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    }
}

/// Whether an answer is a piece of a body, which cannot be masked.
pub(crate) fn is_piece(status: http::StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    status == http::StatusCode::PARTIAL_CONTENT
        || status.as_u16() == 226
        || kind.get(..20).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/byteranges"))
}

#[cfg(test)]
mod tests {
    use callgate_mask::kinds_named;

    use super::*;
    use crate::Masks;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn a_masked_request_cannot_ask_for_pieces() {
        let mut headers = map(&[("range", "bytes=1-2"), ("if-range", "x"), ("a-im", "vcdiff"), ("accept", "*/*")]);
        request_headers(&mut headers, true);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn connection_named_fields_go_no_further() {
        let mut headers = map(&[("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "9"), ("x-end", "1")]);
        request_headers(&mut headers, false);
        assert_eq!(headers, map(&[("x-end", "1")]));
    }

    #[test]
    fn an_offer_of_http2_goes_no_further() {
        let offer = [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")];
        let mut headers = map(&offer);
        request_headers(&mut headers, false);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn records_hold_no_credential() {
        let rules = Rules::redact(kinds_named("all").unwrap());
        let sent = map(&[("authorization", "Bearer abc"), ("x-note", "write to ann@example.com")]);
        let recorded = recorded(&sent, &rules, &[]);
        assert_eq!(recorded[0].value, "[credential]");
        assert!(!recorded[1].value.contains("ann@example.com"), "{}", recorded[1].value);
    }

    #[test]
    fn the_record_looks_again_only_where_the_masker_of_the_caller_saw_less() {
        let masks = Masks::new(Arc::default(), None);
        let answer = |kinds: &str, fields: &[(&'static str, &str)]| {
            let mask = masks.for_call(&kinds_named(kinds).unwrap().into());
            let mut headers = map(fields);
            let clean = response_headers(&mut headers, mask.rules.as_ref());
            let recorded = recorded_answer(&headers, &mask, clean);
            assert_eq!(recorded, self::recorded(&headers, &mask.recorded, &[]), "{kinds} {fields:?}");
            (clean, recorded)
        };
        let plain = ("x-note", "nothing to see");
        assert!(answer("all", &[plain]).0);
        assert!(!answer("all", &[plain, ("x-mail", "ann@example.com")]).0);
        assert!(!answer("all", &[plain, ("x-key-akiaiosfodnn7example", "1"), ("x-4111111111111111", "1")]).0);
        // Clean for the caller, not for the record.
        let (clean, recorded) = answer("secrets", &[plain, ("x-mail", "ann@example.com")]);
        assert!(clean && !recorded[1].value.contains("ann@example.com"), "{recorded:?}");
        assert_eq!(answer("all", &[("set-cookie", "a=b")]).1[0].value, "[credential]");
    }

    #[test]
    fn a_body_in_an_unknown_coding_cannot_be_read() {
        assert!(reading(&map(&[("content-type", "text/plain; charset=UTF-16")])).is_none());
        assert!(reading(&map(&[("content-type", "text/plain; charset=\"utf-8\"")])).is_some());
        assert!(is_transfer_coded(&map(&[("transfer-encoding", "gzip, chunked")])));
        assert!(!is_transfer_coded(&map(&[("transfer-encoding", "Chunked")])));
        assert!(reading(&map(&[("content-encoding", "compress")])).is_none());
        assert!(reading(&map(&[("content-encoding", "gzip")])).is_some_and(|reading| !reading.codings.is_plain()));
        assert!(reading(&map(&[("content-encoding", "identity")])).is_some_and(|reading| reading.codings.is_plain()));
        assert!(reading(&map(&[("grpc-encoding", "gzip")])).is_none());
        let json = map(&[("content-type", "application/problem+json; charset=utf-8")]);
        assert_eq!(reading(&json).map(|reading| reading.content), Some(Content::Json));
    }
}
