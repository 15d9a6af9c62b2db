//! The request check against the corpus in `tests/corpora/heads`, at any split, and against what hyper makes of the same bytes.

mod corpus;
mod differential;
mod peer;
mod requests;
mod splits;

#[path = "../../../../tests/corpora/heads/load.rs"]
mod load;

use callgate_wire::{Head, HeadError, HeadRules, HeadScanner};

/// Rules of the connections in these tests.
const PLAIN: HeadRules = HeadRules { tls: false, default_port: 80 };

/// The host of good requests.
const HOST: &str = "api.example";

/// What became of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    out: Vec<u8>,
    heads: Vec<Head>,
    result: Result<(), HeadError>,
}

/// Sends the pieces through a scanner, then ends the stream. Every request to upgrade is refused.
fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut scanner = HeadScanner::new(PLAIN);
    let (mut out, mut heads) = (Vec::new(), Vec::new());
    for piece in pieces {
        if scanner.push(piece, &mut out, &mut heads).is_err() {
            break;
        }
    }
    while scanner.awaits_upgrade() {
        if scanner.refuse_upgrade(&mut out, &mut heads).is_err() {
            break;
        }
    }
    Outcome { out, heads, result: scanner.finish() }
}

/// Cuts bytes at these places, in any order, each taken modulo the length.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|p| p % (bytes.len() + 1)).collect();
    places.push(bytes.len());
    places.sort_unstable();
    let mut start = 0;
    let mut pieces = Vec::new();
    for end in places {
        pieces.push(&bytes[start..end]);
        start = end;
    }
    pieces
}

/// Cases of each property: more when `cargo xtask test --full` asks for it.
fn cases(short: u32) -> proptest::test_runner::Config {
    let full = std::env::var_os("CALLGATE_FULL").is_some_and(|v| v == "1");
    proptest::test_runner::Config::with_cases(if full { short * 50 } else { short })
}
