//! AWS credentials: access key ids by their form, secret access keys where something names them as such.
//!
//! A secret access key is 40 characters of base64 and looks like any other hash, so it counts only behind a name such
//! as `aws_secret_access_key` or `SecretAccessKey`, or straight behind its access key id (the console's CSV).

use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::class::Class;
use crate::escape;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Long-term keys, temporary keys, bearer tokens, context-specific credentials.
/// Source: AWS IAM user guide, unique identifiers.
const ID_PREFIXES: [&[u8]; 4] = [b"AKIA", b"ASIA", b"ABIA", b"ACCA"];

/// Length of an access key id. Unit: bytes. Source: as above.
const ID_LENGTH: usize = 20;

/// Length of a secret access key. Unit: characters, of which one may be written as an escape.
const SECRET_LENGTH: usize = 40;

/// Most bytes between a name and its secret: `\" : \"` with indents. Unit: bytes.
const BETWEEN_MAX: usize = 32;

/// Most bytes between an access key id and its secret on one line. Unit: bytes.
const BESIDE_MAX: usize = 4;

/// What an access key id is written with; older ones use digits beyond base32.
const ID: Class = Class::NONE.range(b'A', b'Z').range(b'0', b'9');

/// What stands between a name and its secret.
const BETWEEN: Class = Class::NONE.bytes(b" \t\r\n\"'`\\:=>|,([{");

/// What stands between an access key id and its secret on one line.
const BESIDE: Class = Class::NONE.bytes(b" \t,;:|/");

pub(super) const DETECTOR: Detector = Detector {
    name: "aws_key",
    bit: 4,
    groups: &[Group::Secrets],
    label: "[masked:aws_key]",
    gate: Gate::literals(&["AKIA", "ASIA", "ABIA", "ACCA", "ecret", "ECRET"]),
    // The longest name, what follows it, and a secret of escapes only.
    longest: 20 + BETWEEN_MAX + SECRET_LENGTH * 6 + 8,
    leading: Leading::NONE,
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Refused,
    samples: &[
        Sample { text: "AKIAIOSFODNN7EXAMPLE", masked: "[masked:aws_key]" },
        Sample {
            text: "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
            masked: "[default]\naws_access_key_id = [masked:aws_key]\naws_secret_access_key = [masked:aws_key]\n",
        },
        Sample {
            text: r#"{"AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI\/K7MDENG\/bPxRfiCYEXAMPLEKEY"}"#,
            masked: r#"{"AccessKeyId":"[masked:aws_key]","SecretAccessKey":"[masked:aws_key]"}"#,
        },
        Sample {
            text: r#"{"in":"{\"secretAccessKey\": \"\/JalrXUtnFEMI\/K7MDENG\/bPxRfiCYEXAMPLEKEY\"}"}"#,
            masked: r#"{"in":"{\"secretAccessKey\": \"[masked:aws_key]\"}"}"#,
        },
        Sample {
            text: "<SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY</SecretAccessKey>",
            masked: "<SecretAccessKey>[masked:aws_key]</SecretAccessKey>",
        },
        Sample {
            text: "export AWS_SECRET_ACCESS_KEY='wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'",
            masked: "export AWS_SECRET_ACCESS_KEY='[masked:aws_key]'",
        },
        Sample {
            text: "aws_secret_key=wJalrXUtnFEMI%2FK7MDENG%2fbPxRfiCYEXAMPLEKEY&x",
            masked: "aws_secret_key=[masked:aws_key]&x",
        },
        Sample {
            text: "Access key ID,Secret access key\nAKIAIOSFODNN7EXAMPLE,wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
            masked: "Access key ID,Secret access key\n[masked:aws_key]\n",
        },
        Sample {
            text: r"\nAKIAIOSFODNN7EXAMPLE\u00A0AKIAIOSFODNN7EXAMPLE",
            masked: r"\n[masked:aws_key]\u00A0[masked:aws_key]",
        },
        Sample { text: "id=%22ASIAIOSFODNN7EXAMPLE%22", masked: "id=%22[masked:aws_key]%22" },
    ],
    near_misses: &[
        "AKIAIOSFODNN7EXAMPL",
        "AKIAIOSFODNN7EXAMPLES",
        "XAKIAIOSFODNN7EXAMPLE",
        "AKIAiosfodnn7example",
        "AIDAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEYS",
        "aws_secret_access_key = ${AWS_SECRET_ACCESS_KEY}",
        "secret_key = 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        "the secret is wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let found = match window.at(anchor)? {
        Some(b'A') => access_key_id(window, anchor)?.map(|end| anchor..end),
        _ => match name_end(window, anchor)? {
            Some(end) => {
                let value = window.run(end, &BETWEEN, BETWEEN_MAX)?;
                if value > end { secret(window, value)? } else { None }
            }
            None => None,
        },
    };
    Ok(found.map_or(Outcome::Nothing, Outcome::Found))
}

/// Where the access key id at `start` ends, with its secret if that follows on the same line.
fn access_key_id(window: &Window<'_>, start: usize) -> Result<Option<usize>, NeedMore> {
    let glued = window.before(start, 1).is_some_and(|byte| ID.has(byte)) && !escape::ends_before(window, start);
    if glued || !ID_PREFIXES.contains(&window.slice(start, start + 4)) {
        return Ok(None);
    }
    let end = window.run(start, &ID, ID_LENGTH)?;
    if end - start < ID_LENGTH || window.at(end)?.is_some_and(|byte| Class::ALNUM.has(byte)) {
        return Ok(None);
    }
    let value = window.run(end, &BESIDE, BESIDE_MAX)?;
    let secret = if value > end { secret(window, value)? } else { None };
    Ok(Some(secret.map_or(end, |secret| secret.end)))
}

/// Where the name of a secret access key ends of which `ecret` stands at `at`.
fn name_end(window: &Window<'_>, at: usize) -> Result<Option<usize>, NeedMore> {
    if !matches!(window.before(at, 1), Some(b's' | b'S')) {
        return Ok(None);
    }
    let mut next = joint(window, at + 5)?;
    if window.starts_with_any_case(next, b"access")? {
        next = joint(window, next + 6)?;
    } else if !is_named_aws(window, at - 1) {
        return Ok(None);
    }
    Ok(window.starts_with_any_case(next, b"key")?.then_some(next + 3))
}

/// Whether `aws` stands before `at`.
fn is_named_aws(window: &Window<'_>, at: usize) -> bool {
    let end = at - usize::from(matches!(window.before(at, 1), Some(b'_' | b'-' | b' ' | b'.')));
    window.slice(end.saturating_sub(3), end).eq_ignore_ascii_case(b"aws")
}

/// Skips what joins two words of a name.
fn joint(window: &Window<'_>, at: usize) -> Result<usize, NeedMore> {
    Ok(at + usize::from(matches!(window.at(at)?, Some(b'_' | b'-' | b' ' | b'.'))))
}

/// The secret access key at `start`: 40 characters, no more.
fn secret(window: &Window<'_>, start: usize) -> Result<Option<std::ops::Range<usize>>, NeedMore> {
    // A backslash taken for something between name and value may belong to a value that begins with `\/`.
    let mut start = start;
    if window.at(start)? == Some(b'/') {
        while window.before(start, 1) == Some(b'\\') {
            start -= 1;
        }
    }
    let mut end = start;
    for _ in 0..SECRET_LENGTH {
        let Some(length) = character(window, end)? else { return Ok(None) };
        end += length;
    }
    let goes_on = character(window, end)?.is_some() || window.at(end)? == Some(b'=');
    Ok((!goes_on).then_some(start..end))
}

/// Length of the base64 character at `at`, plain or as an escape.
fn character(window: &Window<'_>, at: usize) -> Result<Option<usize>, NeedMore> {
    let escapes: &[&[u8]] = match window.at(at)? {
        Some(b'\\') => &[b"\\/", b"\\\\/", b"\\u002f", b"\\u002b"],
        Some(b'%') => &[b"%2f", b"%2b"],
        Some(byte) if Class::BASE64.has(byte) => return Ok(Some(1)),
        _ => &[],
    };
    for escape in escapes {
        if window.starts_with_any_case(at, escape)? {
            return Ok(Some(escape.len()));
        }
    }
    Ok(None)
}
