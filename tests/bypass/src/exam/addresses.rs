//! Addresses: each attempt dials one that no other attempt does, so a frame says by itself whose it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use callgate_harness::netns::ip;

use crate::vector::Family;

/// The attempt `number`'s address; all of these networks are the canaries'.
pub fn of(family: Family, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        Family::V4 | Family::Neither => Ipv4Addr::new(10, 201, high, low).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x201, 0, 0, 0, 0, 0, number).into(),
    }
}

/// Makes the canaries' namespace answer on all of them, and on the metadata address.
pub fn answer_on_all(far: &str, with_v6: bool) -> Result<()> {
    ip(&["-n", far, "route", "add", "local", "10.201.0.0/16", "dev", "lo"])?;
    ip(&["-n", far, "address", "add", "169.254.169.254/32", "dev", "lo"])?;
    if with_v6 {
        ip(&["-n", far, "-6", "route", "add", "local", "fd00:201::/64", "dev", "lo"])?;
    }
    Ok(())
}

/// A link: its name and its index.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}

/// The only veth of a network namespace; without a name, of this one.
pub fn veth(netns: Option<&str>) -> Result<Link> {
    let words = ["-o", "link", "show", "type", "veth"];
    let text = match netns {
        Some(netns) => ip(&[&["-n", netns], words.as_slice()].concat())?,
        None => ip(&words)?,
    };
    let mut fields = text.split(':');
    let index = fields.next().and_then(|index| index.trim().parse().ok()).context("a link's index")?;
    let name = fields.next().context("a link's name")?.trim();
    Ok(Link { name: name.split('@').next().unwrap_or(name).to_owned(), index })
}
