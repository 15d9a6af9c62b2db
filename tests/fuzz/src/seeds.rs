//! What the corpora begin with: the corpora and samples that the crates have already, each as its reader gets it.
//!
//! The same in every run, so that the files can be made anew when a format changes.

mod messages;
mod spools;
mod stores;

use callgate_mask::DETECTORS;

pub use messages::messages;
pub use spools::{chains, records, spools};
pub use stores::{OURS, java_stores, mount_tables, pem_bundles};

#[allow(dead_code, reason = "made for tests that need more of it")]
#[path = "../../corpora/heads/load.rs"]
mod load;

/// A file of a corpus.
#[derive(Debug)]
pub struct Seed {
    /// The file's name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Seed {
    fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

fn numbered<T: AsRef<[u8]>>(texts: &[T]) -> Vec<Seed> {
    texts.iter().enumerate().map(|(at, text)| Seed::new(format!("{at:02}"), text.as_ref())).collect()
}

/// Every sixth request of the corpus of heads, and those that show how messages follow each other.
pub fn heads() -> Vec<Seed> {
    const ALSO: &[&str] = &["get", "post-length", "http10-keep-alive"];
    let short = load::load().into_iter().filter(|case| case.bytes("a").len() < 1000);
    let mut seeds: Vec<Seed> = short
        .enumerate()
        .filter(|(at, case)| at % 6 == 0 || ALSO.contains(&case.name.as_str()))
        .map(|(_, case)| Seed::new(case.name.clone(), case.bytes("api.example")))
        .collect();
    let stream = b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nGET \n\r\n0\r\nX-Sum: 1\r\n\r\n\
                   \r\nGET /c HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nGET /d HTTP/1.1\r\nHost: a\r\n\r\n";
    seeds.push(Seed::new("three-messages", *stream));
    seeds
}

/// The start of the heads, and of what is no HTTP.
pub fn openings() -> Vec<Seed> {
    let mut seeds = numbered(&[
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/1.1\r\n",
        b"GET /\n",
        b"get\t/ HTTP/1.1\n",
        b"SSH-2.0-x\r\n",
        b"PING\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"*1\r\n$4\r\nPING\r\n",
        b"\r\n\r\n",
    ]);
    let first = |seed: Seed| Seed { bytes: seed.bytes.into_iter().take(40).collect(), ..seed };
    seeds.extend(heads().into_iter().step_by(5).map(first));
    seeds
}

/// Connections of HTTP/2: the preface and frames of every type.
pub fn frames() -> Vec<Seed> {
    let frame = |kind: u8, flags: u8, payload: u8| {
        let head = [0, 0, payload, kind, flags, 0, 0, 0, 1];
        [&head[..], &vec![0xff; usize::from(payload)]].concat()
    };
    let client = |frames: &[Vec<u8>]| [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frames.concat()].concat();
    let mut seeds: Vec<Vec<u8>> = (0..10).map(|kind| client(&[frame(kind, 0, kind), frame(kind, 1, 0)])).collect();
    seeds.push(client(&[
        frame(4, 0, 0),
        frame(1, 4, 20),
        frame(0, 0, 9),
        frame(0, 1, 0),
        frame(8, 0, 4),
        frame(3, 0, 4),
    ]));
    seeds.push(client(&[]));
    numbered(&seeds)
}

/// Queries and bodies.
pub fn arguments() -> Vec<Seed> {
    numbered(
        &[
            r#"application/json?\n{"amount":1000.50,"to":{"iban":"x","tags":["a","b"]},"ok":true,"none":null}"#,
            r#"application/json?page=2&q=a+b%20c\n[1,-2.5,1e2,0.00001,9007199254740993,"x"]"#,
            r#"application/vnd.x+json; charset=utf-8?\n{"a~/b":{"":[[],{}]},"\u00e9\ud83d\ude00":"\n"}"#,
            r#"application/json?\n{"a":1,"A":2}"#,
            r#"application/json?a=1\n{"a":1}"#,
            r#"application/json?\n-0.0e-5"#,
            r#"application/json?\n{"n":[1E400,1e-400,123456789012345678901234567890,0.1234,0.12345]}"#,
            r"application/x-www-form-urlencoded?\na=1&b=x+y&c[]=1&c[]=2&d.e=%C3%A9",
            r"application/x-www-form-urlencoded?x=1\nuser[name]=ann&user[mail]=a%40b.example&=empty",
            r"application/x-www-form-urlencoded?\na%2Fb=1&a~b=2&flag",
            r"text/plain?a=1&b=2",
            r"text/plain?\nhello",
        ]
        .map(|text| text.replacen("\\n", "\n", 1)),
    )
}

/// Hosts, good and bad.
pub fn authorities() -> Vec<Seed> {
    numbered(&[
        "api.example",
        "API.Example:8080",
        "api.example.",
        "10.0.0.7:443",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:8080",
        "[::ffff:10.0.0.7]",
        "a_b.svc",
        "u@a",
        "127.1",
        "0x7f.1",
        "2130706433",
        "[fe80::1%eth0]",
        "xn--bcher-kva.example",
    ])
}

/// Paths, good and bad.
pub fn paths() -> Vec<Seed> {
    numbered(&[
        "/",
        "/v1/users/7",
        "/%7euser/%41/",
        "/a%3adelete/x%40y",
        "/%e2%82%ac",
        "/a+b%2bc",
        "/q[0]{x}|^\"",
        "/100%25",
        "/a%3Bb",
        "/...",
        "/a/../b",
        "/..%3b/a",
        "/a%2fb",
        "/%252f",
        "//a",
    ])
}

/// Targets of requests, good and bad.
pub fn urls() -> Vec<Seed> {
    numbered(&[
        "/v1/users?page=2",
        "/a?b=/../?%",
        "http://api.example/v1/x%41?y",
        "https://API.example:443?x",
        "http://a:8080",
        "http://[::1]:80/a",
        "http://a/",
        "*",
        "/?",
        "http://u:p@a/",
        "/a?q=%3C%22&r[]=1",
        "ftp://a/",
    ])
}

/// Tokens, whole and as three lines.
pub fn tokens() -> Vec<Seed> {
    let mut texts: Vec<String> = [
        (
            "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"JWT\"}",
            "{\"iss\":\"https://id.example\",\"sub\":\"ann\",\"exp\":4102444800}",
        ),
        (
            "{\"alg\":\"RS256\",\"typ\":\"at+jwt\"}",
            "{\"iss\":\"a\",\"aud\":[\"x\",\"y\"],\"groups\":[\"g\"],\"exp\":1.5}",
        ),
        ("{\"alg\":\"EdDSA\"}", "{\"iss\":\"\\u0061\",\"nested\":{\"iss\":\"b\",\"iss\":\"c\"}}"),
        ("{\"alg\":\"PS512\",\"kid\":\"../x\"}", "{\"iss\":\"a\",\"iss\":\"b\"}"),
        ("{\"alg\":\"none\"}", "{\"iss\":\"a\"}"),
        ("{\"alg\":\"HS256\"}", "{\"iss\":\"a\"}"),
        ("{\"alg\":\"RS256\",\"jwk\":{}}", "{\"iss\":\"a\"}"),
        ("{\"alg\":\"RS256\"}", "{\"iss\":[\"a\"]}"),
    ]
    .iter()
    .map(|(header, claims)| format!("{header}\n{claims}\nsignature"))
    .collect();
    texts.push("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.AAAA".to_owned());
    texts.push("eyJhbGciOiJub25lIn0.eyJpc3MiOiJhIn0.".to_owned());
    texts.push("e31.e30.AAAA".to_owned());
    texts.push("a.b.c.d.e".to_owned());
    numbered(&texts)
}

/// The first sample of each detector in a sentence, all of them in a document, and that document within another.
pub fn texts() -> Vec<Seed> {
    let sample = |at: usize| DETECTORS[at].samples[0].text;
    let mut seeds: Vec<Seed> =
        (0..DETECTORS.len()).map(|at| Seed::new(DETECTORS[at].name, format!("see {} ok", sample(at)))).collect();
    let all: Vec<&str> = (0..DETECTORS.len()).step_by(3).map(sample).collect();
    let document = serde_json::json!({ "found": all, "pan": 4_111_111_111_111_111_u64, "text": "clean" }).to_string();
    let nested = serde_json::json!([document, { "mail": sample(0) }]).to_string();
    seeds.push(Seed::new("document", document));
    seeds.push(Seed::new("nested", nested.replace('@', "\\u0040")));
    seeds.push(Seed::new("escaped", "q=ann%40example.com&b=YW5uQGV4YW1wbGUuY29tIGFuZCBtb3Jl&amp;&#64;"));
    seeds.push(Seed::new("clean", "The quick brown fox, having paid 12.50 on 2026-11-22, jumps (id 4711)."));
    seeds
}

/// Documents with values at the places that are masked.
pub fn documents() -> Vec<Seed> {
    numbered(&[
        r#"{"a":"secret","b":"not","x/y":["first",2,{"a":1}]}"#,
        r#"{"users":[{"name":"ann","id":1},{"name":["x",{"y":null}],"id":2}]}"#,
        r#"{"users":{"u":{"name":-12.5e3},"v":{"name":true}},"a":0}"#,
        r#"{"\u0061":"x","a":{"deep":[1,"\"",false]}}"#,
        "{\"a\":1}\n{\"a\":\"two\"}\n[]\n",
        r#"[{"a":"kept"}]"#,
        "\"text\"",
        "{}",
        r#" { "a" : [ ] , "b" : { } } "#,
        r#"{"a":"x""#,
        r#"{"a" "x"}"#,
        r#"{"users":[{"name":"a\\"},{"name":"\ud83d\ude00"}]}"#,
    ])
}
