//! Passwords in the addresses of databases, brokers and the like: `scheme://user:PASSWORD@host`.
//!
//! The rest of the address stays: it says where to, and not how to get in.

use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::class::Class;
use crate::gate::Shapes;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Longest password that is found. Unit: bytes.
const PASSWORD_MAX: usize = 112;

/// Longest `//user:` before it. Unit: bytes.
const USER_MAX: usize = 112;

/// What a password is written with: all but what ends an address, and what delimits the parts before.
static PASSWORD: Class = Class::NONE.range(b'!', b'~').range(0x80, 0xff).bytes_not(b"\"'<>/\\`");

pub(super) const DETECTOR: Detector = Detector {
    name: "connection_string",
    bit: 11,
    groups: &[Group::Secrets],
    label: "[masked:connection_string]",
    gate: Gate { byte: Some(b'@'), literals: &[], shapes: Shapes::NONE },
    longest: 4,
    leading: Leading { class: &PASSWORD, most: PASSWORD_MAX },
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Refused,
    samples: &[
        Sample {
            text: "postgres://app:s3cr3t@db.internal:5432/shop",
            masked: "postgres://app:[masked:connection_string]@db.internal:5432/shop",
        },
        Sample {
            text: r#"{"url":"redis://:p:a$s@cache:6379"}"#,
            masked: r#"{"url":"redis://:[masked:connection_string]@cache:6379"}"#,
        },
        Sample {
            text: "amqps://u:p%40ss@[2001:db8::1]/v",
            masked: "amqps://u:[masked:connection_string]@[2001:db8::1]/v",
        },
        Sample {
            text: r"https:\/\/user:secret@host.example\/",
            masked: r"https:\/\/user:[masked:connection_string]@host.example\/",
        },
    ],
    near_misses: &[
        "ann@example.com",
        "https://user@host.example/",
        "https://user:@host.example/",
        "https://host.example:443/a@b",
        "ssh://git@github.com",
        "user:secret@host",
        "https://host/x:y@z",
        "postgres://app:s3cr3t@ db",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let anchor = window.anchor();
    let host = window.at(anchor + 1)?.is_some_and(|byte| Class::ALNUM.has(byte) || matches!(byte, b'[' | b'_'));
    // Backwards to the slashes; the password begins behind the first colon after them.
    let lowest = anchor.saturating_sub(PASSWORD_MAX + USER_MAX).max(window.floor());
    let mut start = anchor;
    while start > lowest && window.before(start, 1).is_some_and(|byte| PASSWORD.has(byte)) {
        start -= 1;
    }
    let slashes = matches!(
        window.slice(start.saturating_sub(5), start),
        [.., b':', b'/', b'/'] | [.., b':', b'\\', b'/', b'\\', b'/']
    );
    let Some(colon) = window.slice(start, anchor).iter().position(|byte| *byte == b':') else {
        return Ok(Outcome::Nothing);
    };
    let password = start + colon + 1;
    // What stands there after a first masking is no password.
    let label = [&b"[masked:"[..], b"[connection_string:"]
        .iter()
        .any(|label| window.slice(password, anchor).starts_with(label));
    if label || !host || !slashes || password == anchor || anchor - password > PASSWORD_MAX {
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Found(password..anchor))
}
