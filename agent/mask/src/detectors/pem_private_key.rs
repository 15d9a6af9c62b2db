//! Private keys in PEM, with plain line ends or with those of JSON, forms and JSON inside JSON.
//!
//! Certain with `-----BEGIN … PRIVATE KEY-----`; from there on everything up to the closing line is swallowed, or up to
//! the first byte that cannot be part of such a text: a quote, so that a string ends where it did.
//! Where the lines stand in an array of strings, what parts them passes and the lines are swallowed one by one.

use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample, Swallowed};
use crate::class::Class;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

const OPENING: &[u8] = b"-----BEGIN";
const CLOSING: &[u8] = b"-----END";
const DASHES: &[u8] = b"-----";

/// Longest label between the dashes. Unit: bytes. Source: ours; `ENCRYPTED PRIVATE KEY` with escaped spaces has 25.
const LABEL_MAX: usize = 64;

/// Most backslashes in a row; JSON four deep has seven.
const BACKSLASHES_MAX: usize = 8;

/// What a label is written with; forms write its spaces as `+` or `%20`.
const LABEL: Class = Class::NONE.range(b'A', b'Z').range(b'0', b'9').bytes(b" +%_");

/// What the text between opening and closing is written with: base64, header lines (`DEK-Info: …`), line ends.
const BODY: Class = Class::BASE64.bytes(b"=-_:,.%() \t\r\n");

/// What one line among several strings is written with; line ends may stay on it.
static LINE: Class = BODY.bytes(b"\\");

/// Longest line among several strings. Unit: bytes. Source: RFC 7468 §2 has 64; ours, with room for escapes.
const LINE_MAX: usize = 128;

/// Most white space between two strings of an array.
const SPACE_MAX: usize = 24;

pub(super) const DETECTOR: Detector = Detector {
    name: "pem_private_key",
    bit: 3,
    groups: &[Group::Secrets],
    label: "[masked:pem_private_key]",
    gate: Gate::literals(&["-----BEGIN"]),
    longest: OPENING.len() + LABEL_MAX + DASHES.len() + 1,
    leading: Leading::NONE,
    find: Find::By(find),
    unbounded: true,
    partial: Partial::Refused,
    samples: &[
        Sample {
            text: "key:\n-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\nend\n",
            masked: "key:\n[masked:pem_private_key]\nend\n",
        },
        Sample {
            text: concat!(
                "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,3F17F5316E2BAC89\r\n\r\n",
                "MIIBOwIBAAJBAJv8ZpB5hEK7qxP9K3v43hUS5fGT4waKe7ix4Z4mu5UBv+cw7WSF\r\nAt0Vaag0sAbsPzU8Hhsrj/qPABvfB8asUwcCAwEAAQJAG0r3ezH35WFG1tGGaUOr\r\n",
                "=\r\n-----END RSA PRIVATE KEY-----\r\n"
            ),
            masked: "[masked:pem_private_key]\r\n",
        },
        Sample {
            text: r#"{"key":"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGl\/Xw==\n-----END EC PRIVATE KEY-----\n","n":1}"#,
            masked: r#"{"key":"[masked:pem_private_key]\n","n":1}"#,
        },
        Sample {
            text: r#"{"in":"{\"key\":\"-----BEGIN PRIVATE KEY-----\\nMC4CAQ==\\n-----END PRIVATE KEY-----\\n\"}"}"#,
            masked: r#"{"in":"{\"key\":\"[masked:pem_private_key]\\n\"}"}"#,
        },
        Sample {
            text: r#"{"in":"{\"cut\":\"-----BEGIN PRIVATE KEY-----\\nMC4CAQ\"}"}"#,
            masked: r#"{"in":"{\"cut\":\"[masked:pem_private_key]\"}"}"#,
        },
        Sample {
            text: "k=-----BEGIN+OPENSSH+PRIVATE+KEY-----%0Ab3BlbnNzaC1rZXktdjE%3D%0A-----END+OPENSSH+PRIVATE+KEY-----&x=1",
            masked: "k=[masked:pem_private_key]&x=1",
        },
        Sample {
            text: "<pre>-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2 (x)\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----</pre>",
            masked: "<pre>[masked:pem_private_key]</pre>",
        },
        Sample {
            text: r#"{"key":["-----BEGIN PRIVATE KEY-----","MC4CAQAwBQYDK2VwBCIEIJ1h","-----END PRIVATE KEY-----"],"n":"1"}"#,
            masked: r#"{"key":["[masked:pem_private_key]","",""],"n":"1"}"#,
        },
        Sample {
            text: "[\n  \"-----BEGIN PRIVATE KEY-----\",\n  \"MC4CAQAw\\n\",\n  \"BQYDK2Vw\"\n]",
            masked: "[\n  \"[masked:pem_private_key]\",\n  \"\",\n  \"\"\n]",
        },
        Sample {
            text: r#"{"key":"-----BEGIN PRIVATE KEY-----\nMC4CAQ","name":"x"}"#,
            masked: r#"{"key":"[masked:pem_private_key]","name":"x"}"#,
        },
        Sample {
            text: "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v",
            masked: "[masked:pem_private_key]",
        },
    ],
    near_misses: &[
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----",
        "-----BEGIN PRIVATE KEY",
        "-----BEGIN private key-----",
        "------------------------",
        "-----END PRIVATE KEY-----",
        "PRIVATE KEY",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let label = anchor + OPENING.len();
    let end = window.run(label, &LABEL, LABEL_MAX)?;
    let text = window.slice(label, end);
    if !contains(text, b"PRIVATE") || !contains(text, b"KEY") || !window.starts_with(end, DASHES)? {
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Opened(anchor..end + DASHES.len(), swallow))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// Takes everything up to and with the closing line, or up to what cannot be part of a PEM text.
fn swallow(window: &Window<'_>) -> Swallowed {
    let from = window.anchor();
    let mut upto = from;
    loop {
        match step(window, upto) {
            Ok(Step::Take(next)) => upto = next,
            Ok(Step::EndAt(upto)) => return Swallowed::Until { upto, ended: true },
            Ok(Step::PassTo(next)) if upto == from => return Swallowed::Passing { upto: next },
            Ok(Step::PassTo(_)) | Err(NeedMore) => return Swallowed::Until { upto, ended: false },
        }
    }
}

enum Step {
    Take(usize),
    EndAt(usize),
    PassTo(usize),
}

fn step(window: &Window<'_>, at: usize) -> Result<Step, NeedMore> {
    match window.at(at)? {
        Some(b'-') => match closing(window, at)? {
            Some(end) => Ok(Step::EndAt(end)),
            None => Ok(Step::Take(at + 1)),
        },
        Some(b'\\') => {
            let end = window.run(at, &Class::NONE.bytes(b"\\"), BACKSLASHES_MAX)?;
            if window.at(end)? == Some(b'"') {
                return Ok(next_line(window, at)?.map_or(Step::EndAt(at), Step::PassTo));
            }
            let line_end = window.at(end)?.is_some_and(|byte| BODY.has(byte));
            Ok(if line_end { Step::Take(end) } else { Step::EndAt(at) })
        }
        Some(b'"') => Ok(next_line(window, at)?.map_or(Step::EndAt(at), Step::PassTo)),
        Some(byte) if BODY.has(byte) => Ok(Step::Take(at + 1)),
        _ => Ok(Step::EndAt(at)),
    }
}

/// Where the next line begins, if the quote at `at` ends a string in an array and the next one may be a line too.
/// In JSON inside JSON quotes have backslashes before them.
fn next_line(window: &Window<'_>, at: usize) -> Result<Option<usize>, NeedMore> {
    let Some(first) = behind_quote(window, at)? else { return Ok(None) };
    let comma = space(window, first)?;
    if window.at(comma)? != Some(b',') {
        return Ok(None);
    }
    let Some(line) = behind_quote(window, space(window, comma + 1)?)? else { return Ok(None) };
    // The name of an object's member looks alike up to its colon.
    let end = window.run(line, &LINE, LINE_MAX)?;
    let Some(behind) = behind_quote(window, end)? else { return Ok(None) };
    let array = matches!(window.at(space(window, behind)?)?, Some(b',' | b']'));
    Ok(array.then_some(line))
}

/// Where the quote at `at`, with the backslashes before it, ends.
fn behind_quote(window: &Window<'_>, at: usize) -> Result<Option<usize>, NeedMore> {
    let quote = window.run(at, &Class::NONE.bytes(b"\\"), BACKSLASHES_MAX)?;
    Ok((window.at(quote)? == Some(b'"')).then_some(quote + 1))
}

/// Skips white space, also as JSON inside JSON writes it.
fn space(window: &Window<'_>, at: usize) -> Result<usize, NeedMore> {
    let mut end = window.run(at, &Class::NONE.bytes(b" \t\r\n"), SPACE_MAX)?;
    while end - at < SPACE_MAX && window.at(end)? == Some(b'\\') {
        let letter = window.run(end, &Class::NONE.bytes(b"\\"), BACKSLASHES_MAX)?;
        if !matches!(window.at(letter)?, Some(b'n' | b'r' | b't')) {
            break;
        }
        end = window.run(letter + 1, &Class::NONE.bytes(b" "), SPACE_MAX)?;
    }
    Ok(end)
}

/// Where the closing line at `at` ends, if one stands there.
fn closing(window: &Window<'_>, at: usize) -> Result<Option<usize>, NeedMore> {
    if !window.starts_with(at, CLOSING)? {
        return Ok(None);
    }
    let label = window.run(at + CLOSING.len(), &LABEL, LABEL_MAX)?;
    Ok(window.starts_with(label, DASHES)?.then_some(label + DASHES.len()))
}
