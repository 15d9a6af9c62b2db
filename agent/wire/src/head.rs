//! The strict check of one complete request head.
//!
//! httparse reads the fields, as it does for hyper; the checks around it refuse what httparse, hyper or some server
//! behind us lets pass. Called by [`HeadScanner`](crate::HeadScanner) with the bytes of one head, whose lines all end in CRLF.
//! Decides nothing about what the head asks for: that is policy's.

mod facts;
mod lines;
mod names;
mod trailers;

use std::ops::Range;

use callgate_model::Service;

use crate::limits::FIELDS_MAX;
use crate::target::Target;
use crate::{Authority, CanonicalPath, HeadError, TargetForm};
use facts::Facts;
pub(crate) use lines::is_token;
pub use names::{HOP_BY_HOP, is_hop_by_hop};
pub(crate) use trailers::check_trailers;

/// What the connection says about its requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadRules {
    /// Whether the requests come within TLS: a URL as target must have the scheme that fits.
    pub tls: bool,
    /// Port of a Host that names none; 443 within TLS and 80 otherwise, unless the caller knows better.
    pub default_port: u16,
}

/// A protocol version that we carry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the body of a request is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is none.
    None,
    /// By `Content-Length`. Unit: bytes; 0 where it says so.
    Length(u64),
    /// By `Transfer-Encoding: chunked`.
    Chunked,
}

impl Framing {
    /// Whether no byte of a body follows.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// Where a field stands. Unit: bytes from the start of the head as it was released, empty lines included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name, as sent.
    pub name: Range<usize>,
    /// Its value, without the white space around it.
    pub value: Range<usize>,
}

/// A request head that passed every check. Made by [`HeadScanner`](crate::HeadScanner) alone.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Head {
    /// Method: capital letters, digits, `-` and `_`.
    pub method: String,
    /// Form of the target as sent.
    pub form: TargetForm,
    /// The path that is judged, and must be the one forwarded.
    pub path: CanonicalPath,
    /// What follows `?`, as sent.
    pub query: Option<String>,
    /// Host and port of Host; an absolute target names the same.
    pub service: Service,
    /// Version as sent.
    pub version: Version,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether another request may follow on the connection. What follows one that forbids it is dropped.
    pub keep_alive: bool,
    /// Protocol that the client asks to switch to, as sent; never HTTP/2 or TLS. An offer of `h2c` counts as none.
    pub upgrade: Option<String>,
    /// Whether the client waits for `100 Continue`.
    pub expect_continue: bool,
    /// Where the fields stand.
    pub fields: Vec<Field>,
    /// Length of the head, empty lines before it and the one after it included. Unit: bytes.
    pub length: usize,
}

impl Head {
    /// Checks one complete head; every LF in it follows a CR and the reverse.
    pub(crate) fn read(bytes: &[u8], rules: &HeadRules) -> Result<Self, HeadError> {
        lines::check_head(bytes)?;
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
            _ => return Err(HeadError::Malformed),
        }
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
            return Err(HeadError::Malformed);
        };
        if method == "CONNECT" {
            return Err(HeadError::Connect);
        }
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        let target = Target::read(method, target, rules)?;
        let facts = Facts::gather(request.headers, version, rules)?;
        let host = Authority::parse(facts.host, rules.default_port)?;
        if target.authority.is_some_and(|a| a.service != host.service) {
            return Err(HeadError::AuthorityMismatch);
        }
        if matches!(method, "HEAD" | "TRACE") && !facts.framing.is_empty() {
            return Err(HeadError::ContentUnexpected);
        }
        Ok(Self {
            method: method.to_owned(),
            form: target.form,
            path: target.path,
            query: target.query,
            service: host.service,
            version,
            framing: facts.framing,
            keep_alive: facts.keep_alive,
            upgrade: facts.upgrade.map(str::to_owned),
            expect_continue: facts.expect_continue,
            fields: request.headers.iter().map(|f| locate(bytes, f)).collect(),
            length: bytes.len(),
        })
    }

    /// The target in origin form with the canonical path: what to send to a server.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.as_str().to_owned(),
        }
    }

    /// Host as it is to be forwarded: lower case, without trailing dot, the port only where it is not the scheme's own.
    #[must_use]
    pub fn host_field(&self, rules: &HeadRules) -> String {
        let own = if rules.tls { 443 } else { 80 };
        let text = self.service.to_string();
        match text.rsplit_once(':') {
            Some((host, _)) if self.service.port() == own => host.to_owned(),
            _ => text,
        }
    }
}

/// Where a field that httparse found stands in the bytes that it was found in.
fn locate(bytes: &[u8], field: &httparse::Header<'_>) -> Field {
    let range = |part: &[u8]| {
        let start = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
        start..start.saturating_add(part.len())
    };
    Field { name: range(field.name.as_bytes()), value: range(field.value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: HeadRules = HeadRules { tls: false, default_port: 80 };

    fn read(head: &str) -> Result<Head, HeadError> {
        Head::read(head.as_bytes(), &PLAIN)
    }

    #[test]
    fn reads_every_part() {
        let text = "\r\nPOST /a%41?x=1 HTTP/1.1\r\nHost: API.example:8080\r\nX-Empty:\r\nX-One:  v \r\n\
                    Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        let head = read(text).unwrap();
        assert_eq!((head.method.as_str(), head.path_and_query().as_str()), ("POST", "/aA?x=1"));
        assert_eq!(
            (head.service.to_string().as_str(), head.host_field(&PLAIN).as_str()),
            ("api.example:8080", "api.example:8080")
        );
        assert_eq!((head.version, head.framing, head.keep_alive), (Version::Http11, Framing::Length(5), true));
        assert!(head.expect_continue && head.upgrade.is_none());
        assert_eq!(head.length, text.len());
        let shown: Vec<_> = head.fields.iter().map(|f| (&text[f.name.clone()], &text[f.value.clone()])).collect();
        assert_eq!(shown[1..3], [("X-Empty", ""), ("X-One", "v")]);
    }

    #[test]
    fn writes_host_without_the_port_of_the_scheme() {
        let head = read("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").unwrap();
        assert_eq!(head.host_field(&PLAIN), "[::1]");
        assert_eq!(head.host_field(&HeadRules { tls: true, default_port: 443 }), "[::1]:80");
    }

    #[test]
    fn an_offer_of_h2c_is_passed_over_in_plain_text_alone() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                    HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
        let head = read(text).unwrap();
        assert!(head.upgrade.is_none() && head.keep_alive);
        let tls = HeadRules { tls: true, default_port: 443 };
        assert_eq!(Head::read(text.as_bytes(), &tls), Err(HeadError::UpgradeH2c));
        assert_eq!(read(&text.replace("1.1", "1.0")), Err(HeadError::UpgradeH2c));
    }

    #[test]
    fn ends_a_connection_as_the_version_says() {
        for (version, connection, keep_alive) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: TE, Close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: close, keep-alive\r\n", false),
        ] {
            let head = read(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n")).unwrap();
            assert_eq!(head.keep_alive, keep_alive, "{version} {connection}");
        }
    }
}
