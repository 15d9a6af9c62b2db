//! Why a request was refused: one closed list, whose words the corpus, records and logs share.
//!
//! Carries no bytes of the request: what was sent may hold secrets. Towards the workload all of these are
//! `Reason::BadHead` and a 400.

use std::fmt;
use std::str::FromStr;

macro_rules! head_errors {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal, $sentence:literal;)+) => {
        /// Why the bytes of a request do not pass.
        ///
        /// The documentation of each says what servers would make of the same bytes in different ways.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum HeadError { $($(#[doc = $doc])+ $variant,)+ }

        impl HeadError {
            /// Every error, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in the corpus, records and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What is wrong, in one phrase without any byte of the request.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }
        }

        impl FromStr for HeadError {
            type Err = ();
            fn from_str(word: &str) -> Result<Self, ()> {
                match word { $($word => Ok(Self::$variant),)+ _ => Err(()) }
            }
        }
    };
}

head_errors! {
    // Lines.

    /// Some readers end a line at a lone LF, others carry on: they see different fields.
    BareLf = "bare_lf", "a line ends in LF without CR";
    /// Some readers end a line at a lone CR, others take it as part of a value.
    BareCr = "bare_cr", "a CR is not followed by LF";
    /// More empty lines before a request than clients are known to send.
    EmptyLines = "empty_lines", "too many empty lines come before the request line";
    /// Beyond [`limits::HEAD_MAX`](crate::limits::HEAD_MAX); servers cut off at different places.
    HeadTooLarge = "head_too_large", "the head is over 64 KiB";

    // Request line.

    /// Not `METHOD SP TARGET SP VERSION`: with more spaces or tabs, readers split it differently.
    RequestLine = "request_line", "the request line is not `METHOD TARGET VERSION` with single spaces";
    /// Not capital letters, digits, `-` and `_`: some servers fold case, so `delete` and `DELETE` are one or two methods.
    Method = "method_invalid", "the method is not a word of capital letters, digits, `-` or `_`";
    /// A proxy's method: the workload does not know that there is one.
    Connect = "method_connect", "CONNECT is not carried";
    /// Neither `HTTP/1.0` nor `HTTP/1.1`; framing rules of others differ.
    Version = "version_unsupported", "the version is neither HTTP/1.0 nor HTTP/1.1";
    /// Content that servers do not read here, and so take for the next request.
    ContentUnexpected = "content_unexpected", "HEAD and TRACE carry no content";

    // Target.

    /// Neither a path, nor `http(s)://…`, nor `*`.
    TargetForm = "target_form", "the target is neither a path nor a URL of this server";
    /// Controls, spaces, non-ASCII, and characters that no URL holds in the raw; servers replace, drop or decode them.
    TargetChar = "target_char", "the target has a character that must be percent-encoded";
    /// Beyond [`limits::TARGET_MAX`](crate::limits::TARGET_MAX).
    TargetTooLong = "target_too_long", "the target is over 32 KiB";
    /// Some servers cut the fragment off, others take it as part of the path.
    Fragment = "fragment", "the target has a fragment";
    /// `user@host` in a URL or Host: readers split it at the first or the last `@`.
    Userinfo = "userinfo", "the authority has a user part";
    /// `https://` in plain text or the reverse: servers route by one or the other.
    SchemeMismatch = "scheme_mismatch", "the scheme of the target is not that of the connection";
    /// Servers route by the URL (RFC 9112 §3.2.2) or by Host.
    AuthorityMismatch = "authority_mismatch", "the authority of the target is not that of Host";
    /// `*` means something for OPTIONS alone.
    AsteriskMethod = "asterisk_method", "the target `*` is for OPTIONS alone";

    // Path.

    /// `%` without two hex digits: servers refuse it, keep it, or read `%uXXXX`.
    PercentMalformed = "percent_malformed", "a percent sign is not followed by two hex digits";
    /// `%2F`, `%5C`: some servers split the path there, others do not.
    EncodedSeparator = "encoded_separator", "the path has an encoded `/` or `\\`";
    /// `%00` ends the path for servers written in C; `%0A` and its like break lines in what they write on.
    EncodedControl = "encoded_control", "the path has an encoded control character";
    /// Windows servers and browsers read `\` as `/`.
    Backslash = "backslash", "the path has a backslash";
    /// `.`, `..`, encoded or not: some servers resolve them, before or after looking at the rules.
    DotSegment = "dot_segment", "the path has a `.` or `..` segment";
    /// `//`: some servers merge it into one slash.
    EmptySegment = "empty_segment", "the path has an empty segment";
    /// `;`: servlet containers cut parameters off each segment (`/admin;x` is `/admin`, `/..;/` climbs), others keep them.
    PathParameter = "path_parameter", "the path has a `;`, which is to be sent as `%3B`";
    /// Encoded bytes that are not UTF-8: overlong forms of `/` and `.` hide in them.
    PathUtf8 = "path_utf8", "the path does not decode to UTF-8";
    /// `%252F` is `%2F` to servers that decode once and `/` to those that decode twice.
    DoubleEncoding = "double_encoding", "the path is percent-encoded twice";

    // Fields.

    /// A folded line is a continuation to some readers and a field to others.
    ObsFold = "obs_fold", "a field is folded over lines";
    /// `Name :` is a field to some readers, a bad line to skip for others.
    SpaceBeforeColon = "space_before_colon", "a space comes before the colon of a field";
    /// A line without a colon is skipped by some readers and ends the head for others.
    FieldLine = "field_line", "a line of the head has no colon";
    /// Not a token: readers trim or keep the odd byte and so see a different name.
    FieldName = "field_name", "a field name has a character that is not allowed";
    /// NUL and other controls end or change the value for some readers.
    FieldValue = "field_value", "a field value has a control character";
    /// Beyond [`limits::FIELDS_MAX`](crate::limits::FIELDS_MAX); servers drop different ones.
    TooManyFields = "too_many_fields", "there are over 100 fields";
    /// `Content_Length`: CGI, WSGI and their like read `_` as `-`.
    FieldLookalike = "field_lookalike", "a field name is that of a framing field but for `_`";
    /// Tabs, several spaces or trailing ones around a value that decides framing or routing: trimmed differently.
    FieldSpacing = "field_spacing", "a framing field is not written as `Name: value`";
    /// Two values where one is meant: servers take the first, the last, or both.
    FieldRepeated = "field_repeated", "a field that may come once comes twice";
    /// Some frameworks take the method or path from a field: what is judged would not be what runs.
    Override = "override_field", "a field would replace the method or the path";

    // Host.

    /// Without it the name that is called is anybody's guess.
    HostMissing = "host_missing", "there is no Host";
    /// Servers take the first or the last.
    HostRepeated = "host_repeated", "there is more than one Host";
    /// Neither a DNS name nor an address, or with an unusual port; numbers such as `0x7f.1` are addresses to some.
    HostInvalid = "host_invalid", "Host is not a name or an address with an optional port";

    // Framing.

    /// More than one, equal or not: readers take the first, the last, or refuse.
    LengthRepeated = "length_repeated", "there is more than one Content-Length";
    /// Not 1 to 19 digits without sign, list, or leading zero: readers stop at different characters.
    LengthInvalid = "length_invalid", "Content-Length is not a plain decimal number";
    /// The classic of request smuggling: one reader believes the length, the other the chunks.
    LengthBesideEncoding = "length_beside_encoding", "Content-Length comes with Transfer-Encoding";
    /// Anything but `chunked`: readers that do not know it fall back to the length.
    EncodingUnsupported = "encoding_unsupported", "Transfer-Encoding is not exactly `chunked`";
    /// More than one line: readers take the first, the last, or the list.
    EncodingRepeated = "encoding_repeated", "there is more than one Transfer-Encoding";
    /// HTTP/1.0 has no chunks: such servers read the head alone, the others the body too.
    EncodingInHttp10 = "encoding_in_http10", "HTTP/1.0 has no Transfer-Encoding";

    // Hop by hop.

    /// `Connection: Host` and the like make the next hop drop the field that was judged.
    ConnectionOption = "connection_option", "Connection names something other than close, keep-alive, upgrade or te";
    /// After an upgrade to HTTP/2 further requests would pass unseen. An offer of `h2c` in full is passed over instead;
    /// this is one in pieces, in a list, or within TLS, which some server would take.
    UpgradeH2c = "upgrade_h2c", "the request asks for an upgrade to HTTP/2 or TLS";
    /// A list, a repeated or a malformed Upgrade, one without `Connection: upgrade`, or one in HTTP/1.0: switched by some, ignored by others.
    UpgradeInvalid = "upgrade_invalid", "Upgrade is not one protocol, named in Connection too";
    /// Where the body ends and the new protocol begins is told differently.
    UpgradeWithBody = "upgrade_with_body", "a request to upgrade has a body";
    /// Bytes of a protocol that the server has not agreed to, or a request hidden behind it.
    EarlyBytes = "early_bytes", "too many bytes came before the answer to an upgrade";
    /// Anything but `100-continue` in HTTP/1.1: answered, ignored or refused.
    ExpectUnsupported = "expect_unsupported", "Expect is not exactly `100-continue` in HTTP/1.1";
    /// Servers wait for a body, or not: the next request changes its place.
    ExpectWithoutBody = "expect_without_body", "Expect comes without a body";

    // Body.

    /// Not 1 to 16 hex digits with a value below 2^31: readers stop at different characters, or wrap around.
    ChunkSize = "chunk_size", "a chunk size is not a plain hex number";
    /// Not `;name` or `;name=token`, or too long: readers end the line at different places.
    ChunkExtension = "chunk_extension", "a chunk extension is malformed or too long";
    /// Data that is not followed by CRLF: some readers skip two bytes whatever they are.
    ChunkEnd = "chunk_end", "the data of a chunk does not end in CRLF";
    /// A field that changes framing, routing, identity or content, after these were judged.
    TrailerForbidden = "trailer_forbidden", "a trailer may not be such a field";
    /// Beyond [`limits::TRAILERS_MAX`](crate::limits::TRAILERS_MAX).
    TrailersTooLarge = "trailers_too_large", "the trailers are over 8 KiB or 32 fields";
    /// The client ended the stream within a message.
    Truncated = "truncated", "the stream ended within a message";
    /// Refused by the HTTP parser after our own checks had passed: the two disagree.
    Malformed = "malformed", "the head is malformed";
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for HeadError {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_distinct_snake_case_and_parse_back() {
        let words: HashSet<_> = HeadError::ALL.iter().map(|e| e.as_str()).collect();
        assert_eq!(words.len(), HeadError::ALL.len());
        for error in HeadError::ALL {
            let word = error.as_str();
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{word}");
            assert_eq!(word.parse(), Ok(*error));
        }
    }
}
