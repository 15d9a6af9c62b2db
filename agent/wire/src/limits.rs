//! Bounds on what a client may send before it is refused, each with its unit and source.
//!
//! hyper's own bounds (100 fields, 16 KiB of trailers, 16 KiB of chunk extensions) are never reached behind these,
//! so that a refusal is always ours, with our word for it.

/// Longest prefix read before a protocol must be recognised. Unit: bytes.
/// Source: one full TLS record (RFC 8446 §5.1: 2^14 payload + 5 header).
pub const SNIFF_MAX: usize = 16_384 + 5;

/// Longest request head, request line and fields together. Unit: bytes.
/// Source: twice what nginx takes by default (4 buffers of 8 KiB); enough for Kerberos tickets in `Authorization`.
pub const HEAD_MAX: usize = 64 * 1024;

/// Most fields in a head. Unit: fields.
/// Source: hyper's own default (`DEFAULT_MAX_HEADERS`), so that hyper never refuses what passed here.
pub const FIELDS_MAX: usize = 100;

/// Longest request target. Unit: bytes.
/// Source: RFC 9112 §3 asks for 8,000; signed URLs need more; `http::Uri` ends at 65,534.
pub const TARGET_MAX: usize = 32 * 1024;

/// Longest method. Unit: bytes.
/// Source: the longest registered one, `UPDATEREDIRECTREF`, has 17.
pub const METHOD_MAX: usize = 24;

/// Most empty lines before a request line. Unit: lines.
/// Source: RFC 9112 §2.2 asks to ignore at least one, for clients that end a body with a stray CRLF.
pub const EMPTY_LINES_MAX: usize = 1;

/// Longest `Host`, port included. Unit: bytes.
/// Source: 253 for a DNS name (RFC 1035 §2.3.4), 1 for a trailing dot, 6 for `:65535`.
pub const HOST_MAX: usize = 253 + 1 + 6;

/// Largest `Content-Length`. Unit: bytes.
/// Source: 2^63 - 1, beyond which readers with a signed counter disagree with the others.
pub const CONTENT_LENGTH_MAX: u64 = i64::MAX as u64;

/// Longest chunk-size line, its CRLF included. Unit: bytes.
/// Source: ours; no client in use sends extensions, and none needs more than 16 digits.
pub const CHUNK_LINE_MAX: usize = 256;

/// Most digits of a chunk size, leading zeros included. Unit: hex digits.
/// Source: 64 bits.
pub const CHUNK_DIGITS_MAX: usize = 16;

/// Largest chunk. Unit: bytes.
/// Source: 2^31 - 1, beyond which readers with a 32-bit counter wrap around; bodies of any length fit in more chunks.
pub const CHUNK_MAX: u64 = i32::MAX as u64;

/// Most bytes of chunk extensions in one body. Unit: bytes.
/// Source: below hyper's 16 KiB (`CHUNKED_EXTENSIONS_LIMIT`).
pub const CHUNK_EXTENSIONS_MAX: usize = 4 * 1024;

/// Longest trailer section. Unit: bytes.
/// Source: below hyper's 16 KiB (`TRAILER_LIMIT`).
pub const TRAILERS_MAX: usize = 8 * 1024;

/// Most trailer fields. Unit: fields.
/// Source: ours; gRPC, the main user of trailers, sends none in requests.
pub const TRAILER_FIELDS_MAX: usize = 32;

/// Most bytes held that came after a request to upgrade and before its answer. Unit: bytes.
/// Source: ours; a well-behaved client sends none (RFC 9110 §7.8).
pub const UPGRADE_HELD_MAX: usize = 64 * 1024;

/// Longest body whose arguments are read: the proxy holds no more back for policy. Unit: bytes.
/// Source: ours; calls of functions are a few KiB, and what is larger is content.
pub const ARGUMENTS_BODY_MAX: usize = 1 << 20;

/// Deepest nesting of a body whose arguments are read. Unit: brackets.
/// Source: ours; half of what serde_json takes (128), so that the refusal is always ours.
pub const ARGUMENTS_DEPTH_MAX: usize = 64;
