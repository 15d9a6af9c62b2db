//! Why a program refused something, and the errno by which the application learns of it.

/// One cause, one errno: applications retry differently.
///
/// | cause | errno | what an application makes of it |
/// | --- | --- | --- |
/// | `Stale` | `EHOSTUNREACH` | transient: tries again later |
/// | `NoListener` | `ECONNREFUSED` | as with a service that is down: tries again later |
/// | `Udp` | `EACCES` | permanent: QUIC clients fall back to TCP at once |
/// | `Protocol` | `EPROTONOSUPPORT` | permanent: runtimes that try MPTCP or SCTP fall back to TCP |
/// | `Egress` | none: the packet is dropped (a datagram's sender sees `EPERM`) | time-out |
/// | `OwnPort` | `EADDRNOTAVAIL` | permanent |
/// | `Foreign` | `EPERM` | permanent |
/// | `Exhausted` | `ENOBUFS` | transient: tries again later |
/// | `Unclassified` | `ENETUNREACH` | transient, as before the network is up: tries again later |
/// | `Dot` | `EACCES` | permanent: resolvers fall back to plain DNS, which the agent answers |
///
/// The numbers are written into [`Event::cause`](crate::Event::cause): append, never renumber.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The agent's heartbeat is older than [`Settings::stale_ns`](crate::Settings::stale_ns): it hangs.
    Stale = 1,
    /// No living listener of ours in the socket's network namespace: the agent is dead, or not ready there.
    NoListener = 2,
    /// UDP other than DNS.
    Udp = 3,
    /// A socket that is neither TCP nor UDP.
    Protocol = 4,
    /// A packet of a socket that no hook had let through.
    Egress = 5,
    /// The destination is our own listener.
    OwnPort = 6,
    /// The socket is of an enrolled cgroup, the task that uses it is not.
    Foreign = 7,
    /// The kernel had no memory, or a map no room, to remember the connection.
    Exhausted = 8,
    /// Strict mode stands above the task's cgroup, which is neither enrolled nor exempt (yet).
    Unclassified = 9,
    /// DNS over TLS (TCP port 853), which no resolver of ours could look into.
    Dot = 10,
}

impl Refusal {
    /// Every cause, in order of number.
    pub const ALL: [Self; 10] = [
        Self::Stale,
        Self::NoListener,
        Self::Udp,
        Self::Protocol,
        Self::Egress,
        Self::OwnPort,
        Self::Foreign,
        Self::Exhausted,
        Self::Unclassified,
        Self::Dot,
    ];

    /// The errno that the application sees; positive. For `Egress`: the one that a datagram's sender sees.
    #[must_use]
    #[inline(always)]
    pub const fn errno(self) -> i32 {
        match self {
            Self::Stale => 113,
            Self::NoListener => 111,
            Self::Udp | Self::Dot => 13,
            Self::Protocol => 93,
            Self::Egress | Self::Foreign => 1,
            Self::OwnPort => 99,
            Self::Exhausted => 105,
            Self::Unclassified => 101,
        }
    }

    /// The cause of a number that a program wrote.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| *cause as u32 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn numbers_are_the_places_in_the_table() {
        for (place, cause) in (1..).zip(Refusal::ALL) {
            assert_eq!(cause as u32, place);
            assert_eq!(Refusal::from_number(place), Some(cause));
        }
        assert_eq!(Refusal::from_number(0), None);
        assert_eq!(Refusal::from_number(Refusal::ALL.len() as u32 + 1), None);
    }
}
