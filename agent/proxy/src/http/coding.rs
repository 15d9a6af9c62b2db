//! Content codings: taken off so that a body can be read and masked, and put on again for the caller.
//!
//! Bodies stream: a step gives at most [`STEP`] bytes, whatever stands in the input, so a bomb costs no memory, and one
//! that grows beyond its bound is an error. Never more than two codings: what stacks deeper hides something.
//!
//! The codecs are those of async-compression, used without its adaptors: bodies are pushed through, not read.

mod decoder;
mod encoder;

use http::HeaderMap;
use http::header::{self, HeaderValue};

pub(super) use decoder::Decoder;
pub(super) use encoder::Encoder;

/// Most bytes that one step of decoding gives. Unit: bytes. Source: the buffer of a relay.
pub(super) const STEP: usize = 64 << 10;

/// Most codings of one body. Source: RFC 9110 §8.4 allows a list; two are what exists (a file that is compressed by
/// itself, and again for transport).
const STACKED_MAX: usize = 2;

/// A coding that we know (RFC 9110 §8.4.1, RFC 7932, RFC 8878).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    const NAMES: [(&str, Self); 5] = [
        ("gzip", Self::Gzip),
        ("x-gzip", Self::Gzip),
        ("deflate", Self::Deflate),
        ("br", Self::Brotli),
        ("zstd", Self::Zstd),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, coding)| coding)
    }
}

/// Why a body cannot be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum CodingError {
    /// The codec refuses it, it ends early, or something follows its end.
    #[error("the body is not what its coding says")]
    Broken,
    /// It grows beyond its bound.
    #[error("the body grows beyond its bound when it is decoded")]
    Bomb,
}

/// The codings of a body in the order in which they were applied; none: it is plain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Codings([Option<Coding>; STACKED_MAX]);

impl Codings {
    /// Reads `Content-Encoding`. None: a coding that we do not know, or too many.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut codings = Self::default();
        let mut places = codings.0.iter_mut();
        for value in headers.get_all(header::CONTENT_ENCODING) {
            for name in value.to_str().ok()?.split(',').map(str::trim) {
                if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                    continue;
                }
                *places.next()? = Some(Coding::named(name)?);
            }
        }
        Some(codings)
    }

    pub(super) fn is_plain(self) -> bool {
        self.0[0].is_none()
    }

    fn applied(self) -> impl DoubleEndedIterator<Item = Coding> {
        self.0.into_iter().flatten()
    }
}

/// Reduces `Accept-Encoding` to what we can read; a client that takes nothing of it is given plain bodies.
pub(super) fn reduce_accepted(headers: &mut HeaderMap) {
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return;
    }
    let known = |word: &&str| {
        let name = word.split(';').next().unwrap_or("").trim();
        name.eq_ignore_ascii_case("identity") || Coding::named(name).is_some()
    };
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let kept: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).filter(known).collect();
    let kept = if kept.is_empty() { "identity".to_owned() } else { kept.join(", ") };
    let reduced = HeaderValue::from_str(&kept).unwrap_or(HeaderValue::from_static("identity"));
    headers.insert(header::ACCEPT_ENCODING, reduced);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn reads_codings_in_their_order() {
        let of = |values: &[&'static str]| {
            Codings::of(&headers(header::CONTENT_ENCODING, values)).map(|codings| codings.applied().collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Some(vec![]));
        assert_eq!(of(&["identity"]), Some(vec![]));
        assert_eq!(of(&["GZip"]), Some(vec![Coding::Gzip]));
        assert_eq!(of(&["br, zstd"]), Some(vec![Coding::Brotli, Coding::Zstd]));
        assert_eq!(of(&["br", "deflate"]), Some(vec![Coding::Brotli, Coding::Deflate]));
        for unknown in [&["compress"][..], &["gzip, x"], &["gzip, gzip, gzip"], &["dcb"], &["aws-chunked"]] {
            assert_eq!(of(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn only_what_we_read_is_asked_for() {
        let reduced = |values: &[&'static str]| {
            let mut headers = headers(header::ACCEPT_ENCODING, values);
            reduce_accepted(&mut headers);
            headers.get(header::ACCEPT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(reduced(&[]), None);
        assert_eq!(reduced(&["gzip, deflate, br, zstd"]).as_deref(), Some("gzip, deflate, br, zstd"));
        assert_eq!(reduced(&["gzip;q=0.5, dcb, *;q=0.1"]).as_deref(), Some("gzip;q=0.5"));
        assert_eq!(reduced(&["dcb", "dcz, *"]).as_deref(), Some("identity"));
        assert_eq!(reduced(&["", "br"]).as_deref(), Some("br"));
    }
}
