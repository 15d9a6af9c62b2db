//! gRPC over HTTP/2: which requests are its calls, and what they may carry.
//!
//! Messages are not decoded: a call is judged by its path, and one whose answer policy wants masked is refused.

use callgate_wire::CanonicalPath;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Version};

/// The content type of gRPC, without what may follow it (`+proto`, `;charset`).
const CONTENT_TYPE: &[u8] = b"application/grpc";

/// Fields by which messages would be compressed, and so hidden from the record's masker.
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Whether `request` is a call of gRPC. `application/grpc-web` is none: it is plain HTTP.
pub(super) fn is_call<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2 && request.method() == Method::POST && is_grpc(request.headers())
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return false };
    let kind = kind.as_bytes();
    let Some((start, rest)) = kind.split_at_checked(CONTENT_TYPE.len()) else { return false };
    start.eq_ignore_ascii_case(CONTENT_TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Whether an answer with these fields may carry messages of gRPC, of any of its kinds: framed and perhaps compressed one
/// by one, so nothing that a masker could read. A service serves such a call under whatever content type it came.
pub(super) fn has_messages(answer: &HeaderMap) -> bool {
    let is_kind = |kind: &HeaderValue| {
        kind.as_bytes().get(..CONTENT_TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(CONTENT_TYPE))
    };
    answer.get_all(header::CONTENT_TYPE).iter().any(is_kind)
}

/// Whether `path` names a service and a method, `/pkg.Svc/Method`.
pub(super) fn names_method(path: &CanonicalPath) -> bool {
    let mut words = path.as_str().trim_start_matches('/').split('/');
    matches!((words.next(), words.next(), words.next()), (Some(service), Some(method), None)
        if is_identifier(service) && is_identifier(method))
}

fn is_identifier(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'))
}

/// Asks the service not to compress its messages.
pub(super) fn uncompressed(headers: &mut HeaderMap) {
    if headers.contains_key(&ACCEPT_ENCODING) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_grpc_by_version_method_and_type() {
        let call = |version, method: &str, kind: &str| {
            is_call(&Request::builder().version(version).method(method).header("content-type", kind).body(()).unwrap())
        };
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC; x=y"] {
            assert!(call(Version::HTTP_2, "POST", kind), "{kind}");
            assert!(!call(Version::HTTP_2, "GET", kind) && !call(Version::HTTP_11, "POST", kind), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp"] {
            assert!(!call(Version::HTTP_2, "POST", kind), "{kind}");
        }
    }

    #[test]
    fn a_method_has_a_path_of_two_words() {
        for (path, expected) in [
            ("/pkg.Svc/Method", true),
            ("/Svc/Method_2", true),
            ("/Method", false),
            ("/a/pkg.Svc/Method", false),
            ("/pkg.Svc/", false),
            ("/pkg.Svc/M-1", false),
        ] {
            assert_eq!(names_method(&CanonicalPath::parse(path).unwrap()), expected, "{path}");
        }
    }
}
