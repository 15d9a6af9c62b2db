//! Valid requests for property tests.

use proptest::prelude::*;

use super::HOST;

/// How a request carries its body.
#[derive(Clone, Debug)]
pub enum Body {
    None,
    Length(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, extension: &'static str, trailers: usize },
}

/// A valid request.
#[derive(Clone, Debug)]
pub struct Request {
    empty_line: bool,
    method: &'static str,
    target: String,
    fields: Vec<(String, String)>,
    connection: &'static str,
    body: Body,
    expect: bool,
}

impl Request {
    /// The request as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.empty_line {
            bytes.extend(b"\r\n");
        }
        bytes.extend(format!("{} {} HTTP/1.1\r\nHost: {HOST}\r\n", self.method, self.target).bytes());
        for (name, value) in &self.fields {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(self.connection.bytes());
        if self.expect && !self.body().is_empty() {
            bytes.extend(b"Expect: 100-continue\r\n");
        }
        match &self.body {
            Body::None => bytes.extend(b"\r\n"),
            Body::Length(body) => {
                bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
                bytes.extend(body);
            }
            Body::Chunked { chunks, extension, trailers } => {
                bytes.extend(b"TRANSFER-ENCODING: Chunked\r\n\r\n");
                for chunk in chunks {
                    bytes.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n");
                bytes.extend("X-Sum: 1\r\n".repeat(*trailers).bytes());
                bytes.extend(b"\r\n");
            }
        }
        bytes
    }

    /// Its body, without framing.
    pub fn body(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Length(body) => body.clone(),
            Body::Chunked { chunks, .. } => chunks.concat(),
        }
    }

    /// How many trailers it has.
    pub fn trailers(&self) -> usize {
        if let Body::Chunked { trailers, .. } = self.body { trailers } else { 0 }
    }

    /// Whether another one may follow.
    pub fn keep_alive(&self) -> bool {
        !self.connection.contains("close")
    }
}

/// One to four requests in a row.
pub fn streams() -> impl Strategy<Value = Vec<Request>> {
    prop::collection::vec(request(), 1..5)
}

fn request() -> impl Strategy<Value = Request> {
    let method = prop::sample::select(&["GET", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH"][..]);
    let target = "/|(/[a-zA-Z0-9_~!*':@=-]{1,8}|/%4[1-9]|/%2b%7b|/caf%c3%A9){1,4}/?(\\?[a-z0-9&=+/?;%.\\[\\]-]{0,12})?";
    let field = ("X-[A-Za-z0-9_]{1,8}", "([!-~]([ -~\t]{0,16}[!-~])?)?");
    let connection = prop::sample::select(
        &["", "", "", "Connection: keep-alive\r\n", "connection: TE\r\nTE: trailers\r\n", "Connection: close\r\n"][..],
    );
    let data = || prop::collection::vec(any::<u8>(), 0..40);
    let chunk = prop::collection::vec(any::<u8>(), 1..40);
    let body = prop_oneof![
        Just(Body::None),
        data().prop_map(Body::Length),
        (prop::collection::vec(chunk, 0..4), prop::sample::select(&["", ";a", ";a=b;c"][..]), 0..3_usize)
            .prop_map(|(chunks, extension, trailers)| Body::Chunked { chunks, extension, trailers }),
    ];
    let fields = prop::collection::vec(field, 0..5);
    (any::<bool>(), method, target, fields, connection, body, any::<bool>()).prop_map(
        |(empty_line, method, target, fields, connection, body, expect)| Request {
            empty_line,
            method,
            target,
            fields,
            connection,
            body,
            expect,
        },
    )
}
