//! JSON Web Tokens, signed (JWS), unsigned and encrypted (JWE), in compact form.
//!
//! Certain once a base64url text that spells a JSON object with the member `alg` (RFC 7515 §4.1.1: required) is followed
//! by a dot and another part; from there on everything that can be part of it is swallowed, however long it is.

use memchr::memmem;

use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample, Swallowed};
use crate::class::Class;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Longest header that is waited for. Unit: bytes. Source: ours; a header with a chain of two certificates fits.
/// A longer one is masked if `alg` stands in its first part, else it is no token.
const HEADER_MAX: usize = 4096;

/// `"alg"` in base64url, at each of its three phases, as far as its neighbours leave it unchanged.
const ALG: [&[u8]; 3] = [b"ImFsZy", b"JhbGci", b"iYWxnI"];

/// Most dots in a row inside a token: an empty part stands between two (detached payload, direct encryption).
const DOTS_MAX: usize = 2;

pub(super) const DETECTOR: Detector = Detector {
    name: "jwt",
    bit: 2,
    groups: &[Group::Secrets],
    label: "[masked:jwt]",
    // How base64 of `{"`, `{ "` and `{` with a line end or a tab begins.
    gate: Gate::literals(&["eyJ", "eyAi", "ewog", "ewoJ", "ewoi", "ew0K", "ewki"]),
    longest: HEADER_MAX + 4,
    leading: Leading::NONE,
    find: Find::By(find),
    unbounded: true,
    partial: Partial::Refused,
    samples: &[
        Sample {
            text: "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
            masked: "Bearer [masked:jwt]",
        },
        Sample {
            // RFC 7515 §A.1.1.
            text: "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk.",
            masked: "[masked:jwt].",
        },
        Sample { text: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9. ok", masked: "[masked:jwt]. ok" },
        Sample {
            text: r#"{"t":"\neyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..w0Ha6l4Z.QUJD.dGFn"}"#,
            masked: r#"{"t":"\n[masked:jwt]"}"#,
        },
        Sample { text: "t=eyAiYWxnIiA6ICJFUzI1NiIgfQ.eyAic3ViIjogMSB9.c2ln&x", masked: "t=[masked:jwt]&x" },
        Sample {
            text: "eyJ0 eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.,eyJhbGciOiJub25lIn0.e30.",
            masked: "eyJ0 [masked:jwt].,[masked:jwt].",
        },
        Sample { text: "eyJhbGciOiJFZERTQSJ9..c2lnbmF0dXJl... more", masked: "[masked:jwt]... more" },
    ],
    near_misses: &[
        "eyJhbGciOiJIUzI1NiJ9",
        "The header is eyJhbGciOiJIUzI1NiJ9. Then",
        "eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbXX0.map",
        "eyJ.eyJ.x",
        "eyJhbGdvIjoiSFMyNTYifQ.eyJzdWIiOiJhZG1pbiJ9.x",
        "eyJhbGciOiJIUzI1NiJ9...",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let end = window.run(anchor, &Class::BASE64URL, HEADER_MAX)?;
    let header = window.slice(anchor, end);
    if !ALG.iter().any(|alg| memmem::find(header, alg).is_some()) {
        return Ok(Outcome::NothingBefore(end));
    }
    if header.len() < HEADER_MAX && part_after(window, end)?.is_none() {
        return Ok(Outcome::NothingBefore(end));
    }
    Ok(Outcome::Opened(anchor..end, swallow))
}

/// Where the part behind the dot or dots at `at` begins, if there is one.
fn part_after(window: &Window<'_>, at: usize) -> Result<Option<usize>, NeedMore> {
    for dots in 0..=DOTS_MAX {
        match window.at(at + dots)? {
            Some(b'.') => {}
            Some(byte) if dots > 0 && Class::BASE64URL.has(byte) => return Ok(Some(at + dots)),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Takes base64url, and dots with base64url behind them.
fn swallow(window: &Window<'_>) -> Swallowed {
    let mut upto = window.anchor();
    loop {
        match window.at(upto) {
            Err(NeedMore) => return Swallowed::Until { upto, ended: false },
            Ok(Some(byte)) if Class::BASE64URL.has(byte) => upto += 1,
            Ok(Some(b'.')) => match part_after(window, upto) {
                Err(NeedMore) => return Swallowed::Until { upto, ended: false },
                Ok(Some(part)) => upto = part,
                Ok(None) => return Swallowed::Until { upto, ended: true },
            },
            Ok(_) => return Swallowed::Until { upto, ended: true },
        }
    }
}
