//! Reads the corpus of request heads, `heads.toml` in this folder, whose first lines say what its rows mean.
//!
//! Not a crate of its own: a test binary includes it by `#[path]`, and has `serde` and `toml` as (dev-)dependencies.

use serde::Deserialize;

/// One payload with its expected outcome.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Distinct name, a sentence without spaces.
    pub name: String,
    /// What goes over the wire, in the notation of the file; see [`Case::bytes`].
    payload: String,
    /// `accept`, or the word of the error.
    pub expect: String,
    /// Heads that pass before the outcome.
    #[serde(default)]
    heads: Option<usize>,
    /// Canonical path of the last head that passes.
    #[serde(default)]
    pub path: Option<String>,
    /// What some server would make of it.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// Every case, in the order of the file.
pub fn load() -> Vec<Case> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpora/heads/heads.toml"));
    toml::from_str::<File>(&text.expect("the corpus is in the repository")).expect("the corpus is well-formed").case
}

impl Case {
    /// Whether the whole payload passes.
    pub fn is_accepted(&self) -> bool {
        self.expect == "accept"
    }

    /// Heads that pass before the outcome: 1 of an accepted payload and 0 of a refused one, unless the file says otherwise.
    pub fn heads(&self) -> usize {
        self.heads.unwrap_or(usize::from(self.is_accepted()))
    }

    /// The payload as bytes, with `host` as the value of a good Host.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        decode(&self.payload.replace(['\r', '\n'], ""), host)
    }
}

fn decode(mut text: &str, host: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((plain, escape)) = text.split_once('\\') {
        bytes.extend(plain.bytes());
        let (kind, rest) = escape.split_at(1);
        text = rest;
        match kind {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "\\" => bytes.push(b'\\'),
            "H" => bytes.extend(host.bytes()),
            "x" => {
                let (hex, rest) = text.split_at(2);
                bytes.push(u8::from_str_radix(hex, 16).expect("two hex digits after \\x"));
                text = rest;
            }
            "*" => {
                let (count, rest) = text.split_once('{').expect("\\*COUNT{TEXT}");
                let (part, rest) = rest.split_once('}').expect("\\*COUNT{TEXT}");
                bytes.extend(decode(part, host).repeat(count.parse().expect("a count after \\*")));
                text = rest;
            }
            other => panic!("unknown escape `\\{other}`"),
        }
    }
    bytes.extend(text.bytes());
    bytes
}
