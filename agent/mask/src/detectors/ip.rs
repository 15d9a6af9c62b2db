//! Internet addresses: public ones of both families identify a person's line; private ones are a kind of their own,
//! for they identify nobody outside, and who operates a network needs them. So `private_ip` is in no group.

use super::words::{digits, goes_on, is_glued};
use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::class::Class;
use crate::gate::Shapes;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

/// Longest IPv6 address. Unit: bytes.
const IPV6_MAX: usize = 39;

/// What an IPv6 address is written with.
static HEX: Class = Class::NONE.range(b'0', b'9').range(b'a', b'f').range(b'A', b'F').bytes(b":");

const ROW: Detector = Detector {
    name: "",
    bit: 0,
    groups: &[Group::Pii],
    label: "",
    gate: Gate::shapes(Shapes::IPV4),
    // Four groups of three digits, their dots, and what stands behind.
    longest: 20,
    leading: Leading::NONE,
    find: Find::By(public),
    unbounded: false,
    partial: Partial::Refused,
    samples: &[],
    near_misses: &[],
};

pub(super) const IPV4: Detector = Detector {
    name: "ipv4",
    bit: 8,
    label: "[masked:ipv4]",
    samples: &[
        Sample { text: "8.8.8.8", masked: "[masked:ipv4]" },
        Sample { text: r#"{"ip":"203.0.113.77","port":1}"#, masked: r#"{"ip":"[masked:ipv4]","port":1}"# },
        Sample { text: "from 198.51.100.17:443, 1.1.1.1.", masked: "from [masked:ipv4]:443, [masked:ipv4]." },
        Sample { text: r"\n8.8.4.4\n", masked: r"\n[masked:ipv4]\n" },
    ],
    near_misses: &[
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.9",
        "127.0.0.1",
        "169.254.169.254",
        "256.1.1.1",
        "8.8.8",
        "8.8.8.8.8",
        "v8.8.8.8",
        "08.8.8.8",
        "119.0.0.0",
        "224.0.0.1",
        "0.1.2.3",
        "1.2.3.4-beta",
    ],
    ..ROW
};

pub(super) const PRIVATE: Detector = Detector {
    name: "private_ip",
    bit: 10,
    groups: &[],
    label: "[masked:private_ip]",
    find: Find::By(private),
    samples: &[
        Sample { text: "10.0.0.1", masked: "[masked:private_ip]" },
        Sample { text: "192.168.1.20:8080", masked: "[masked:private_ip]:8080" },
        Sample { text: "172.31.255.1 100.64.0.7", masked: "[masked:private_ip] [masked:private_ip]" },
    ],
    near_misses: &["8.8.8.8", "172.32.0.1", "10.0.0", "10.0.0.256", "127.0.0.1"],
    ..ROW
};

pub(super) const IPV6: Detector = Detector {
    name: "ipv6",
    bit: 9,
    label: "[masked:ipv6]",
    gate: Gate::shapes(Shapes::IPV6),
    longest: IPV6_MAX + 3,
    find: Find::By(global),
    samples: &[
        Sample { text: "2001:db8::1", masked: "[masked:ipv6]" },
        Sample { text: "http://[2a00:1450:4001:81b::200e]:80/", masked: "http://[[masked:ipv6]]:80/" },
        Sample { text: "2001:0db8:0000:0000:0000:ff00:0042:8329.", masked: "[masked:ipv6]." },
        Sample { text: r#"{"ip":"2620:fe::fe"}"#, masked: r#"{"ip":"[masked:ipv6]"}"# },
    ],
    near_misses: &[
        "2026:11:22",
        "20:15:33",
        "2001:db8:1:2:3:4:5",
        "2001:db8:1:2:3:4:5:6:7",
        "2001:db8::1::2",
        "2001:db8::12345",
        "x2001:db8::1",
        "3000: see below",
        "fe80::1",
    ],
    ..ROW
};

fn public(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    ipv4(window, |address| {
        // The last of them: a version such as 119.0.0.0, or a network.
        let unwanted = matches!(address, [0 | 127 | 224.., ..] | [169, 254, ..] | [_, _, 0, 0]);
        !unwanted && !is_private(address)
    })
}

fn private(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    ipv4(window, is_private)
}

/// RFC 1918, and RFC 6598.
fn is_private(address: [u32; 4]) -> bool {
    matches!(address, [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..])
}

fn ipv4(window: &Window<'_>, wanted: fn([u32; 4]) -> bool) -> Result<Outcome, NeedMore> {
    let start = window.anchor();
    if is_glued(window, start, b"._-") {
        return Ok(Outcome::Nothing);
    }
    let mut address = [0; 4];
    let mut end = start;
    for (place, part) in address.iter_mut().enumerate() {
        let from = if place == 0 { end } else { end + 1 };
        if place > 0 && window.at(end)? != Some(b'.') {
            return Ok(Outcome::Nothing);
        }
        let (value, upto) = digits(window, from, 4)?;
        let padded = upto - from > 1 && window.at(from)? == Some(b'0');
        if upto == from || value > 255 || padded {
            return Ok(Outcome::Nothing);
        }
        (*part, end) = (value, upto);
    }
    let goes_on = match window.at(end)? {
        Some(b'.') => window.at(end + 1)?.is_some_and(|byte| Class::ALNUM.has(byte)),
        Some(b'-') => window.at(end + 1)?.is_some_and(|byte| byte.is_ascii_alphabetic()),
        _ => goes_on(window, end, b"_")?,
    };
    Ok(if wanted(address) && !goes_on { Outcome::Found(start..end) } else { Outcome::Nothing })
}

/// A global unicast address. Source: RFC 4291 §2.4, 2000::/3.
fn global(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let start = window.anchor();
    if is_glued(window, start, b":._-") {
        return Ok(Outcome::Nothing);
    }
    let mut end = window.run(start, &HEX, IPV6_MAX + 1)?;
    if window.before(end, 1) == Some(b':') && window.before(end, 2) != Some(b':') {
        end -= 1;
    }
    let text = window.slice(start, end);
    let (mut groups, mut gaps, mut fits) = (0, 0, text.len() <= IPV6_MAX);
    for (place, group) in text.split(|byte| *byte == b':').enumerate() {
        match group.len() {
            // Two colons in a row, or at the end.
            0 => gaps += usize::from(place > 0),
            1..=4 => groups += 1,
            _ => fits = false,
        }
        fits &= place > 0 || group.len() == 4;
    }
    let ends_open = text.ends_with(b"::");
    let gaps = gaps - usize::from(ends_open && gaps > 0);
    let whole = if gaps == 0 { groups == 8 } else { gaps == 1 && groups < 8 };
    if !fits || !whole || goes_on(window, end, b"_")? {
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Found(start..end))
}
