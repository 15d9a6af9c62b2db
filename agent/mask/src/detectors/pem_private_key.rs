//! Private keys in PEM, with plain line ends or with those of JSON, forms and JSON inside JSON.
//!
//! Certain with `-----BEGIN … PRIVATE KEY-----`; from there on everything up to the closing line is swallowed, or up to
//! the first byte that cannot be part of such a text: a quote, so that a string ends where it did.

use super::{Detector, Gate, Leading, Outcome, Sample, Swallowed};
use crate::class::Class;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

const OPENING: &[u8] = b"-----BEGIN";
const CLOSING: &[u8] = b"-----END";
const DASHES: &[u8] = b"-----";

/// Longest label between the dashes. Unit: bytes. Source: ours; `ENCRYPTED PRIVATE KEY` with escaped spaces has 25.
const LABEL_MAX: usize = 64;

/// Most backslashes in a row; JSON inside JSON inside JSON has four.
const BACKSLASHES_MAX: usize = 32;

/// What a label is written with; forms write its spaces as `+` or `%20`.
const LABEL: Class = Class::NONE.range(b'A', b'Z').range(b'0', b'9').bytes(b" +%_");

/// What the text between opening and closing is written with: base64, header lines (`DEK-Info: …`), line ends.
const BODY: Class = Class::BASE64.bytes(b"=-_:,.%() \t\r\n");

pub(super) const DETECTOR: Detector = Detector {
    name: "pem_private_key",
    bit: 3,
    groups: &[Group::Secrets],
    label: "[masked:pem_private_key]",
    gate: Gate { byte: None, literals: &["-----BEGIN"], digits: false },
    longest: OPENING.len() + LABEL_MAX + DASHES.len() + 1,
    leading: Leading::NONE,
    find,
    swallow: Some(swallow),
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
    Ok(Outcome::Opened(anchor..end + DASHES.len()))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// Takes everything up to and with the closing line, or up to what cannot be part of a PEM text.
fn swallow(window: &Window<'_>) -> Swallowed {
    let mut upto = window.anchor();
    loop {
        match step(window, upto) {
            Ok(Step::Take(next)) => upto = next,
            Ok(Step::EndAt(upto)) => return Swallowed { upto, ended: true },
            Err(NeedMore) => return Swallowed { upto, ended: false },
        }
    }
}

enum Step {
    Take(usize),
    EndAt(usize),
}

fn step(window: &Window<'_>, at: usize) -> Result<Step, NeedMore> {
    match window.at(at)? {
        Some(b'-') => match closing(window, at)? {
            Some(end) => Ok(Step::EndAt(end)),
            None => Ok(Step::Take(at + 1)),
        },
        Some(b'\\') => {
            let end = window.run(at, &Class::NONE.bytes(b"\\"), BACKSLASHES_MAX)?;
            let line_end = window.at(end)?.is_some_and(|byte| BODY.has(byte));
            Ok(if line_end { Step::Take(end) } else { Step::EndAt(at) })
        }
        Some(byte) if BODY.has(byte) => Ok(Step::Take(at + 1)),
        _ => Ok(Step::EndAt(at)),
    }
}

/// Where the closing line at `at` ends, if one stands there.
fn closing(window: &Window<'_>, at: usize) -> Result<Option<usize>, NeedMore> {
    if !window.starts_with(at, CLOSING)? {
        return Ok(None);
    }
    let label = window.run(at + CLOSING.len(), &LABEL, LABEL_MAX)?;
    Ok(window.starts_with(label, DASHES)?.then_some(label + DASHES.len()))
}
