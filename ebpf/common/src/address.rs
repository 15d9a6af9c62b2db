//! An IP address as the kernel's context holds it.

/// An IPv6 address, or an IPv4 address in its v4-mapped form (`::ffff:a.b.c.d`).
///
/// Four words in the byte order of the wire, as the kernel's contexts have them, so that no program ever swaps.
/// One form for both families: an AF_INET6 socket that talks to `::ffff:10.0.0.7` and an AF_INET socket that talks to
/// `10.0.0.7` are the same thing on the wire, and must be the same key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// Third word of every v4-mapped address.
    const MAPPED: u32 = 0xffff_u32.to_be();
    /// Last word of `::1`.
    const ONE: u32 = 1_u32.to_be();
    /// `127.0.0.1`, mapped.
    pub const LOOPBACK4: Self = Self([0, 0, Self::MAPPED, 0x7f00_0001_u32.to_be()]);
    /// `::1`.
    pub const LOOPBACK6: Self = Self([0, 0, 0, Self::ONE]);

    /// Of an IPv4 address in the byte order of the wire.
    #[must_use]
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self([0, 0, Self::MAPPED, word])
    }

    /// Whether it is a v4-mapped one.
    #[must_use]
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == Self::MAPPED
    }

    /// Whether a connection to it stays on the host by definition: `127/8`, `::1`.
    #[must_use]
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            u32::from_be(self.0[3]) >> 24 == 127
        } else {
            self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == Self::ONE
        }
    }

    /// What the kernel makes of it at `connect()`: `0.0.0.0` and `::` mean loopback.
    ///
    /// Recording them as written would let a policy that names `127.0.0.1` be walked around.
    #[must_use]
    #[inline(always)]
    pub const fn connected(self) -> Self {
        if self.0[0] != 0 || self.0[1] != 0 || self.0[3] != 0 {
            self
        } else if self.0[2] == Self::MAPPED {
            Self::LOOPBACK4
        } else if self.0[2] == 0 {
            Self::LOOPBACK6
        } else {
            self
        }
    }
}

const _: () = assert!(size_of::<Address>() == 16);

#[cfg(feature = "user")]
mod user {
    use core::net::{IpAddr, Ipv6Addr};

    use super::Address;

    impl From<IpAddr> for Address {
        fn from(ip: IpAddr) -> Self {
            let octets = match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(octets.chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            Self(words)
        }
    }

    impl From<Address> for IpAddr {
        fn from(address: Address) -> Self {
            let mut octets = [0; 16];
            for (bytes, word) in octets.chunks_exact_mut(4).zip(address.0) {
                bytes.copy_from_slice(&word.to_ne_bytes());
            }
            Self::V6(Ipv6Addr::from(octets)).to_canonical()
        }
    }

    #[expect(unsafe_code, reason = "aya's marker for plain data")]
    // SAFETY: integers alone, repr(C), no padding.
    unsafe impl aya::Pod for Address {}
}

#[cfg(all(test, feature = "user"))]
mod tests {
    use core::net::IpAddr;

    use super::Address;

    fn of(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn both_forms_of_a_v4_address_are_one() {
        assert_eq!(of("10.0.0.7"), of("::ffff:10.0.0.7"));
        assert!(of("10.0.0.7").is_v4() && !of("::1").is_v4());
        for text in ["10.0.0.7", "::1", "2001:db8::7"] {
            assert_eq!(IpAddr::from(of(text)), text.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn the_unspecified_address_is_loopback_once_connected() {
        assert_eq!(of("0.0.0.0").connected(), of("127.0.0.1"));
        assert_eq!(of("::").connected(), of("::1"));
        for text in ["10.0.0.0", "::1", "2001:db8::", "127.0.0.1", "::fffe:0:0"] {
            assert_eq!(of(text).connected(), of(text), "{text}");
        }
        assert!(of("127.8.9.10").is_loopback() && of("::1").is_loopback());
        assert!(!of("128.0.0.1").is_loopback() && !of("::").is_loopback());
    }
}
