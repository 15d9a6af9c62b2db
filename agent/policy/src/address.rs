//! Which destination addresses a policy must name before anything may connect to them.
//!
//! Public addresses are open to any permit; the rest (the node itself, its private networks, the cloud's metadata
//! service) is where a forged name or a loose rule does most harm, so a rule has to name the service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of network an address belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddressClass {
    /// Routed on the Internet.
    Public,
    /// The host itself.
    Loopback,
    /// The link: includes the metadata service of most clouds, 169.254.169.254.
    LinkLocal,
    /// A private network (RFC 1918, RFC 4193), shared address space (RFC 6598) included.
    Private,
    /// Reserved, multicast, benchmarking and whatever else is no host on the Internet.
    Special,
}

impl AddressClass {
    /// The class of `address`. A v4 address within a v6 one (mapped, compatible, NAT64, 6to4) counts as itself.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }

    /// Whether a policy or the config must name the service before anything may connect there.
    #[must_use]
    pub fn must_be_named(self) -> bool {
        self != Self::Public
    }
}

fn of_v4(v4: Ipv4Addr) -> AddressClass {
    let [a, b, c, _] = v4.octets();
    match (a, b, c) {
        (127, ..) => AddressClass::Loopback,
        (169, 254, _) => AddressClass::LinkLocal,
        // 100.64.0.0/10 holds Alibaba's metadata service, 192.0.0.0/24 Oracle's.
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => AddressClass::Private,
        (0 | 224..=255, ..) | (192, 0, 0) | (198, 18..=19, _) => AddressClass::Special,
        _ => AddressClass::Public,
    }
}

fn of_v6(v6: Ipv6Addr) -> AddressClass {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let embedded = |high: u16, low: u16| of_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) => embedded(g, h),
        (0, 0, 0, 0, 0, 0) if (g, h) == (0, 1) => AddressClass::Loopback,
        (0, 0, 0, 0, 0, 0) if g != 0 => embedded(g, h),
        (0x64, 0xff9b, 0, 0, 0, 0) => embedded(g, h),
        (0x64, 0xff9b, ..) => AddressClass::Private,
        (0x2002, high, low, ..) => embedded(high, low),
        (0xfc00..=0xfdff, ..) => AddressClass::Private,
        (0xfe80..=0xfebf, ..) => AddressClass::LinkLocal,
        (0xfec0..=0xfeff, ..) => AddressClass::Private,
        // Global unicast is 2000::/3 alone; Teredo (2001::/32) tunnels to v4 hosts of its own choice.
        (0x2001, 0, ..) => AddressClass::Special,
        (0x2000..=0x3fff, ..) => AddressClass::Public,
        _ => AddressClass::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_class_of_every_range() {
        use AddressClass::*;
        for (address, class) in [
            ("93.184.216.34", Public),
            ("100.63.255.255", Public),
            ("100.64.0.1", Private),
            ("100.100.100.200", Private),
            ("100.128.0.1", Public),
            ("172.15.0.1", Public),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("172.32.0.1", Public),
            ("10.1.2.3", Private),
            ("192.168.0.1", Private),
            ("192.0.0.192", Special),
            ("198.19.0.1", Special),
            ("127.8.8.8", Loopback),
            ("169.254.169.254", LinkLocal),
            ("0.0.0.0", Special),
            ("224.0.0.1", Special),
            ("255.255.255.255", Special),
            ("2606:4700::1111", Public),
            ("::1", Loopback),
            ("::", Special),
            ("::ffff:10.0.0.1", Private),
            ("::ffff:8.8.8.8", Public),
            ("::127.0.0.1", Loopback),
            ("64:ff9b::a9fe:a9fe", LinkLocal),
            ("64:ff9b:1::1", Private),
            ("2002:7f00:1::", Loopback),
            ("2002:808:808::", Public),
            ("fd00:ec2::254", Private),
            ("fe80::1", LinkLocal),
            ("fec0::1", Private),
            ("ff02::1", Special),
            ("2001::1", Special),
            ("2001:db8::1", Public),
            ("4000::1", Special),
        ] {
            assert_eq!(AddressClass::of(address.parse().unwrap()), class, "{address}");
        }
    }
}
